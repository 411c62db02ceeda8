"""Sections 1 and 4.3 and Figure 4: what the paper says of flatness, on its own printed numbers.

Printed (introduction-inherent-flatness): diffusion models naturally have a flat loss landscape

Holds (introduction-inherent-flatness): at one LPF value the rise can be all of it, or nothing

Printed (introduction-radius): for SAM to flatten, diffusion models need significantly stronger regularisation

Holds (introduction-radius): the radii tried are .001, .01 and .1, and those of SAM's paper .01 to .5

Printed (section-4.3-sam): SAM-applied models consistently achieve the lowest LPF values

Holds (section-4.3-sam): with SAM at most .063 and .072, without it at least .097 and .089

Printed (section-4.3-averages): EMA, SWA and IP fail to induce additional flatness

Holds (section-4.3-averages): EMA, SWA and IP change the LPF value by -.002 to +.008

Printed (figure-4-caption): with EMA a relatively flatter minimum has been found

Holds (figure-4-caption): ADM's LPF value is .097 without EMA and .099 with it

LPF is the mean loss under weight noise, so these are raw losses; that they confound flatness with the loss itself is
T3, and that weight noise of a fixed size confounds it with the size of weights is T7. So a value such as .097 says
neither how flat ADM is nor, without a classifier's beside it, that it is flatter than one.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import sympy

from theory.claims.theorem_t3_equal_flatness import LPF_RISE, noise
from theory.proof import notation
from theory.proof.notation import G, m, words
from theory.proof.printed import AVERAGES, METHODS, NAMES, lpf, numbers
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    at_most,
    counterexample,
    equal,
    less,
    printed_numbers,
)

MEASURED = ("cifar10", "lsun-tower")
"""The data sets with LPF values."""
LARGEST_CHANGE = Fraction(8, 1000)
RADII = tuple(Fraction(radius) for radius in numbers()["training"]["sam_rho"])
"""SAM's, of which one was chosen for each data set; which is not printed."""
RADII_FOR_CLASSIFIERS = tuple(map(Fraction, ("0.01", "0.02", "0.05", "0.1", "0.2", "0.5")))
"""Those that Foret et al. (2021, Section 3.1) search, who are cited for SAM."""


def _one_value_two_models() -> Iterable[Comparison]:
    """d = m = 1, p = N(0, 1), b = 0, noise of deviation 1: a model without features, and an exact score."""
    x = sympy.Symbol("x", real=True)
    density = sympy.exp(-(x**2) / 2) / sympy.sqrt(2 * sympy.pi)

    def mean(of: sympy.Expr) -> sympy.Expr:
        return sympy.integrate(of * density, (x, -sympy.oo, sympy.oo))

    values = []
    for name, phi, weight in (
        ("W = 0", sympy.Integer(0), sympy.Integer(0)),
        ("W = 1, theta = -1", x, -sympy.Integer(1)),
    ):
        loss = mean((weight * phi + x) ** 2)
        rise = notation.at(LPF_RISE, {G: [[mean(phi**2)]]}, d=1).subs({m: 1, noise: 1})
        yield equal(f"{name}: LPF", loss + rise, sympy.Integer(1))
        values.append(rise)
    yield equal("rise of the first", values[0], sympy.Integer(0))
    yield equal("rise of the second", values[1], sympy.Integer(1))


def _nothing_to_compare_with() -> Iterable[Comparison]:
    blocks = [name for name in numbers() if isinstance(numbers()[name], dict)]
    yield equal("tables with a loss beside the LPF value", sum("loss" in name for name in blocks), 0)
    models = {row for dataset in MEASURED for row in numbers()["lpf"][dataset]}
    yield equal(
        "LPF values of other models than ADM's", sum(not row.startswith(("adm", "ip", "sam")) for row in models), 0
    )


def _radii() -> Iterable[Comparison]:
    yield equal("radii tried", len(RADII), 3)
    yield at_most("the largest, against the largest for classifiers", max(RADII), max(RADII_FOR_CLASSIFIERS))
    yield less("the least, against the least for classifiers", min(RADII), min(RADII_FOR_CLASSIFIERS))
    above = sum(radius > max(RADII) for radius in RADII_FOR_CLASSIFIERS)
    yield equal("radii for classifiers above all of them, of 6", above, 2)


def _sam_is_lowest() -> Iterable[Comparison]:
    for dataset, with_sam, without in (("cifar10", "0.063", "0.097"), ("lsun-tower", "0.072", "0.089")):
        largest = max(lpf(dataset, f"sam{average}") for average in AVERAGES)
        least = min(lpf(dataset, f"{method}{average}") for method in ("adm", "ip") for average in AVERAGES)
        yield equal(f"{NAMES[dataset]}: largest LPF with SAM", largest, Fraction(with_sam))
        yield equal(f"{NAMES[dataset]}: least without", least, Fraction(without))
        yield less(f"{NAMES[dataset]}: the one against the other", largest, least)


def changes() -> list[tuple[str, Fraction]]:
    """What EMA, SWA and IP change, each against the same row without it; for IP of ADM's."""
    made = []
    for dataset in MEASURED:
        pairs = [(method + average, method) for method in METHODS for average in AVERAGES[1:]]
        pairs += [(f"ip{average}", f"adm{average}") for average in AVERAGES]
        made += [(f"{NAMES[dataset]}, {row} - {of}", lpf(dataset, row) - lpf(dataset, of)) for row, of in pairs]
    return made


def _averages_do_not_flatten() -> Iterable[Comparison]:
    made = [change for _, change in changes()]
    yield equal("most that is gained", min(made), Fraction(-2, 1000))
    yield equal("most that is lost", max(made), LARGEST_CHANGE)
    for dataset in MEASURED:
        gain = lpf(dataset, "adm") - lpf(dataset, "sam")
        yield less(f"{NAMES[dataset]}: twice that, against what SAM gains", 2 * LARGEST_CHANGE, gain)


def _ema_is_not_flatter() -> Iterable[Comparison]:
    yield less("Table 3: LPF of ADM against ADM+EMA", lpf("cifar10", "adm"), lpf("cifar10", "adm+ema"))
    yield equal("of SAM against SAM+EMA", lpf("cifar10", "sam"), lpf("cifar10", "sam+ema"))


STATEMENTS = (
    Statement(
        label="introduction-inherent-flatness",
        title="diffusion models are flat by nature",
        source="Section 1 (with its first contribution) and Section 4.3, on Table 3",
        verdict=Verdict.CONDITIONAL,
        fault=Fault.FLAW,
        reason=(
            "No number that is printed can say it. An LPF value is a loss plus a rise (T3), and no loss is printed "
            "beside it; nor is a classifier's, than which diffusion models are said to be flatter. Xu et al., who are "
            "cited, may have the evidence."
        ),
        printed=words("diffusion models naturally have a flat loss landscape"),
        holds=words("at one LPF value the rise can be all of it, or nothing"),
        conditions=("it is said flatter than what, by the rise, and by a measure that no rescaling of neurons moves",),
        rescue="T3 and T7: what to report beside an LPF value; T9: a measure that no rescaling moves.",
        evidence=(
            counterexample("two models with the LPF 1, one of them with no rise at all", _one_value_two_models),
            printed_numbers("what stands beside the LPF values", _nothing_to_compare_with),
        ),
    ),
    Statement(
        label="introduction-radius",
        title="significantly stronger regularisation",
        source="Section 1, against Section 4.1",
        verdict=Verdict.CONDITIONAL,
        fault=Fault.SLIP,
        reason=(
            "Not by SAM's radius: .001 to .1 are tried, and which was chosen is not printed; Foret et al., who are "
            "cited, search .01 to .5 for classifiers. It may be true of a strength in other units: what a radius does "
            "depends on the batch, the gradient and the loss (T12)."
        ),
        printed=words("for SAM to flatten, diffusion models need significantly stronger regularisation"),
        holds=words("the radii tried are .001, .01 and .1, and those of SAM's paper .01 to .5"),
        conditions=("strength is not SAM's radius, and its unit is named",),
        rescue="T12: the dose rho E|grad L_B| / L has no unit, and can be compared between models.",
        evidence=(printed_numbers("the radii of Section 4.1 beside those for classifiers", _radii),),
    ),
    Statement(
        label="section-4.3-sam",
        title="SAM has the lowest LPF values",
        source="Section 4.3, on Tables 3 and 5",
        verdict=Verdict.HOLDS,
        reason=(
            "CIFAR-10: .063 with SAM, whatever the averaging, against .097 or more; LSUN Tower: at most .072 against "
            ".089 or more."
        ),
        printed=words("SAM-applied models consistently achieve the lowest LPF values"),
        holds=words("with SAM at most .063 and .072, without it at least .097 and .089"),
        evidence=(printed_numbers("all rows with SAM against all without", _sam_is_lowest),),
    ),
    Statement(
        label="section-4.3-averages",
        title="EMA, SWA and IP do not flatten",
        source="Section 4.3 and Appendix C, on Tables 3 and 5",
        verdict=Verdict.HOLDS,
        reason="They change the LPF value by -.002 to +.008, where SAM lowers it by .034 and .019.",
        printed=words("EMA, SWA and IP fail to induce additional flatness"),
        holds=words("EMA, SWA and IP change the LPF value by -.002 to +.008"),
        evidence=(printed_numbers("each change against the row without it", _averages_do_not_flatten),),
    ),
    Statement(
        label="figure-4-caption",
        title="EMA's relatively flatter minima",
        source="Caption of Figure 4, against Table 3",
        verdict=Verdict.FALSE,
        fault=Fault.SLIP,
        reason=(
            "The caption counts +EMA among those where flatter minima have been found; Table 3 has .099 for ADM+EMA "
            "and .097 for ADM, and Section 4.3 says that EMA does not flatten."
        ),
        printed=words("with EMA a relatively flatter minimum has been found"),
        holds=words("ADM's LPF value is .097 without EMA and .099 with it"),
        evidence=(printed_numbers("the LPF values with and without EMA", _ema_is_not_flatter),),
    ),
)
