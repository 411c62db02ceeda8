"""The appendix: a mean of the wrong letter, a constant upside down, and what is announced and not there.

Printed (appendix-corollary-1): mu_delta = 1/m*Sigma_delta*delta*W^T

Holds (appendix-corollary-1): mu_delta = (-1/m)*Sigma_delta*delta*b

Printed (equation-39): Cprime = exp(-C)/(sqrt(2)*sqrt(pi))^d

Holds (equation-39): Cprime = (sqrt(2)*sqrt(pi))^d*exp(C)

Printed (appendix-promises): the appendix holds three proofs, loss plots, visual comparisons and post-hoc EMA

Holds (appendix-promises): the appendix holds three proofs and loss plots

(35) is the statement of which (40) is the proof's last line: there the mean has delta_u = delta U^T e, a vector, and in
the statement delta_w = delta W^T, a matrix. That both lack a sign is Corollary 3.4's. In (39) the bracket stands over
C', so C' has to be the inverse of what is printed. The last claim compares what the text announces with the headings,
captions and proofs of the appendix, as transcribed here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import sympy

from theory.claims.corollary_3_4_perturbed_noise import COVARIANCE, EXPONENT
from theory.proof.notation import A, Rows, Sigma_delta, W, b, c, d, delta, exactly, mu_delta, words, x
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    counterexample,
    different,
    equal,
    printed_numbers,
    symbolic,
)

constant, scale = sympy.Symbol("C", real=True), sympy.Symbol("Cprime", positive=True)
PRINTED_SCALE = sympy.exp(-constant) / sympy.sqrt(2 * sympy.pi) ** d
SCALE = sympy.exp(constant) * sympy.sqrt(2 * sympy.pi) ** d

TWO: dict[sympy.MatrixSymbol, Rows] = {delta: [[1]], W: [[2]], b: [[1]]}
"""d = m = 1, W = 2, b = 1, delta = 1, so that delta_w = 2 and delta_u = 1."""


def _letters() -> Iterable[Comparison]:
    point = sympy.Symbol("x_1", real=True)
    mode = sympy.solve(sympy.diff(exactly(EXPONENT, {**TWO, x: [[point]]}), point), point)[0]
    yield equal("mean of e^-I p", mode, -sympy.Rational(1, 3))
    covariance = exactly(COVARIANCE, TWO)[0]
    with_w, with_u = (covariance * exactly(of_, TWO)[0] for of_ in (A, c))
    yield equal("Sigma delta_w / m, as in (35)", with_w, sympy.Rational(2, 3))
    yield equal("Sigma delta_u / m, as in (40): right but for the sign", with_u, -mode)
    yield different("size of the one, against the mean's", with_w, abs(mode))


def _shapes() -> Iterable[Comparison]:
    """For all d and m: Sigma delta_w is d x d, Sigma delta_u is d x 1 like the mean."""
    yield equal("columns of Sigma delta_w / m, less d", (Sigma_delta * A).shape[1] - d, sympy.Integer(0))
    yield equal("columns of Sigma delta_u / m", (Sigma_delta * c).shape[1], sympy.Integer(1))
    yield equal("columns of mu_delta", mu_delta.shape[1], sympy.Integer(1))


def _upside_down() -> Iterable[Comparison]:
    """delta = 0, d = 1: the mass of (39), with C' as printed and as it must be; then C = 0."""
    point = sympy.Symbol("x_1", real=True)
    whole = sympy.integrate(sympy.exp(-(point**2) / 2), (point, -sympy.oo, sympy.oo))
    for name, formula, expected in (("printed", PRINTED_SCALE, 2 * sympy.pi), ("inverted", SCALE, sympy.Integer(1))):
        mass = sympy.simplify(whole / formula.subs({d: 1, constant: 0}))
        yield equal(f"mass with C' as {name}", mass, expected)
    yield different("mass with C' as printed, against 1", 2 * sympy.pi, sympy.Integer(1))


def _inverse_of_each_other() -> Iterable[Comparison]:
    """(38) is exp(-C)/(2 pi)^(d/2) times the bracket; (39) is 1/C' times it."""
    bracket = sympy.Symbol("B", positive=True)
    line_38 = sympy.exp(-constant) / sympy.sqrt(2 * sympy.pi) ** d * bracket
    yield equal("(38) over (39) with the inverse", sympy.simplify(line_38 / (bracket / SCALE)), 1)
    yield equal("printed C' times the right one", sympy.simplify(PRINTED_SCALE * SCALE), 1)


class Promise(NamedTuple):
    """What the main text announces for the appendix, where it does, and where that is; empty where it is nowhere."""

    what: str
    where: str
    place: str


PROMISES = (
    Promise("proof of Theorem 3.3", "Section 3.2", "Appendix B, Theorem 1"),
    Promise("proof of Corollary 3.4", "Section 3.2", "Appendix B, Corollary 1"),
    Promise("proof of Corollary 3.9", "Section 3.2", "Appendix B, Corollary 2"),
    Promise("loss plots of the combined algorithms", "Section 4.3", "Appendix C, Figure 7"),
    Promise("visual comparisons, Appendix 2.2", "Section 4.2", ""),
    Promise("discussion and results of post-hoc EMA, Appendix 2.3", "Footnote 3", ""),
)
PROVED = {"Theorem 1": True, "Corollary 1": True, "Proposition 1": False, "Theorem 2": False, "Corollary 2": True}
"""Which statements of Appendix B are followed by a proof."""


def _announced() -> Iterable[Comparison]:
    missing = [promise for promise in PROMISES if not promise.place]
    names = "; ".join(f"{promise.what} ({promise.where})" for promise in missing)
    yield equal(f"announced and not there: {names}", len(missing), 2)
    yield equal("of the announced", len(PROMISES), 6)
    bare = [name for name, proved in PROVED.items() if not proved]
    yield equal(f"restated without a proof: {', '.join(bare)}", len(bare), 2)


STATEMENTS = (
    Statement(
        label="appendix-corollary-1",
        title="the mean in the appendix's Corollary 1",
        source="Appendix Corollary 1, Eq. (35)",
        verdict=Verdict.FALSE,
        fault=Fault.SLIP,
        reason="The mean is made of delta_w, a matrix; Eq. (40), the end of its proof, has delta_u.",
        printed=sympy.Eq(mu_delta, Sigma_delta * A, evaluate=False),
        holds=sympy.Eq(mu_delta, -Sigma_delta * c, evaluate=False),
        evidence=(
            counterexample("d = m = 1, W = 2, b = delta = 1: 2/3 against -1/3", _letters),
            symbolic("the shapes, for all d and m", _shapes),
        ),
        paper_labels=("Eq. (35)",),
    ),
    Statement(
        label="equation-39",
        title="the constant C'",
        source="Appendix Eq. (39)",
        verdict=Verdict.FALSE,
        fault=Fault.SLIP,
        reason="Eq. (39) divides by C', so C' is the inverse of what is printed. Eq. (40) does not need it.",
        printed=sympy.Eq(scale, PRINTED_SCALE, evaluate=False),
        holds=sympy.Eq(scale, SCALE, evaluate=False),
        evidence=(
            counterexample("without any perturbation the printed density has mass 2 pi", _upside_down),
            symbolic("the two are inverse to each other", _inverse_of_each_other),
        ),
        paper_labels=("Eq. (39)",),
    ),
    Statement(
        label="appendix-promises",
        title="what is announced for the appendix",
        source="Sections 3.2, 4.2, 4.3 and Footnote 3, against Appendices B and C",
        verdict=Verdict.FALSE,
        fault=Fault.SLIP,
        reason=(
            "Post-hoc EMA and the visual comparisons are announced and are not there. Proposition 1 and Theorem 2 are "
            "restated without a proof; none was announced, and both are vacuous."
        ),
        printed=words("the appendix holds three proofs, loss plots, visual comparisons and post-hoc EMA"),
        holds=words("the appendix holds three proofs and loss plots"),
        evidence=(printed_numbers("six announcements against the appendix's contents", _announced),),
    ),
)
