"""Section 2.1: the definition of SAM's sharpness, and Algorithm 1 with the settings of Section 4.1, run.

Printed (section-2.1-sam): max over |theta - p| <= rho of [-L(theta) + L(p + theta)]

Holds (section-2.1-sam): max over |p| <= rho of [-L(theta) + L(p + theta)]

Printed (algorithm-1): n_models = i/c

Holds (algorithm-1): n_models = (i - i_0)/c

For SAM the maximum is over the perturbation's own length; printed, the ball is around the weights, so that at radius 0
the "perturbation" doubles them. Algorithm 1 is run as it stands: n_models = i/c, averages started at w_0. From step
180,000 with c = 100 the first average has n_models = 1800 and keeps 1800/1801 of w_0; after 200 of them nine tenths of
the average are untrained weights. It is right where i starts at 0 when averaging does, as in the paper of SWA. Also
alpha is set in the branch of SWA alone, so ADM, EMA and SAM read it unset; and the ascent divides by 0 at a stationary
point. What was run in the experiments must have been something else: see the FIDs of Table 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

import sympy

from theory.proof import notation
from theory.proof.notation import Maximum, Norm, rho
from theory.proof.printed import numbers
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    algorithm,
    counterexample,
    different,
    equal,
    symbolic,
)

weights, perturbation = sympy.symbols("theta p")
LossOf = notation.operator("LossOf", r"\mathcal{{L}}({0})", "L({0})")
_rise = LossOf(weights + perturbation) - LossOf(weights)
PRINTED_SHARPNESS = Maximum(sympy.Le(Norm(weights - perturbation), rho), _rise)
SHARPNESS = Maximum(sympy.Le(Norm(perturbation), rho), _rise)

models, iteration, first, cycle = sympy.symbols("n_models i i_0 c")
PRINTED_COUNTER = sympy.Eq(models, iteration / cycle)
COUNTER = sympy.Eq(models, (iteration - first) / cycle)

Gradient = Callable[[Fraction], Fraction]


class UnsetError(Exception):
    """Algorithm 1 reads alpha where no line has set it."""


@dataclass(frozen=True)
class Settings:
    """The inputs of Algorithm 1, and what Section 4.1 adds.

    Args:
        sam, swa, ema: which branches are taken.
        rho: SAM's radius.
        c: the cycle length.
        momentum: lambda, of EMA.
        start: i_0, the step from which SWA averages; 0 where nothing is said.
        counted_from: what is taken from i in line 13: 0 as printed.
    """

    sam: bool = False
    swa: bool = False
    ema: bool = False
    rho: Fraction = Fraction(1, 10)
    c: int = 100
    momentum: Fraction = Fraction(1, 10)
    start: int = 0
    counted_from: int = 0


def algorithm_1(
    w_0: Fraction, gradient: Gradient, iterations: int, schedule: Callable[[int], Fraction], settings: Settings
) -> tuple[Fraction, Fraction, Fraction]:
    """w, w_SWA and w_EMA of Algorithm 1, line by line as printed, for one weight in exact arithmetic.

    Args:
        w_0: the initial weight.
        gradient: of every L_i.
        iterations: n.
        schedule: alpha(i).
        settings: see `Settings`.

    Raises:
        UnsetError: alpha is read before it is set.
        ZeroDivisionError: the ascent at a stationary point.
    """
    w = w_swa = w_ema = w_0  # line 1
    alpha = None
    for i in range(iterations):
        if settings.swa:
            alpha = schedule(i)  # line 4
        slope = gradient(w)
        if settings.sam:
            slope = gradient(w + settings.rho * slope / abs(slope))  # lines 7 and 8
        if alpha is None:
            raise UnsetError("alpha is read in line 8 or 10, and set in line 4 for SWA alone")
        w = w - alpha * slope  # lines 8 and 10
        if settings.swa and i >= settings.start and (i - settings.counted_from) % settings.c == 0:
            number = Fraction(i - settings.counted_from, settings.c)  # line 13
            w_swa = (w_swa * number + w) / (number + 1)  # line 14
        elif settings.ema:
            w_ema = (1 - settings.momentum) * w_ema + settings.momentum * w  # line 16
    return w, w_swa, w_ema


def _to_zero(w: Fraction) -> Fraction:
    """The gradient of w^2/2: with alpha = 1 the first step takes w to 0, so that an average holds w_0's share."""
    return w


def _one(i: int) -> Fraction:
    return Fraction(1)


def share_of_w_0(start: int, counted_from: int, iterations: int, c: int) -> Fraction:
    """What of w_SWA is w_0, where training has left w_0 in its first step."""
    settings = Settings(swa=True, c=c, start=start, counted_from=counted_from)
    return algorithm_1(Fraction(1), _to_zero, iterations, _one, settings)[1]


def _settings() -> tuple[int, int, int]:
    """Steps, start of the averaging and cycle length, as Section 4.1 prints them."""
    training = numbers()["training"]
    return int(training["steps"]), int(training["swa_start"]), int(training["swa_cycle"])


def _averages_untrained_weights() -> Iterable[Comparison]:
    steps, start, c = _settings()
    printed = share_of_w_0(start, 0, steps, c)
    yield equal("share of w_0 in w_SWA, as printed", printed, Fraction(9, 10))
    yield equal("with n_models = (i - i_0)/c", share_of_w_0(start, start, steps, c), Fraction(0))
    yield equal("as printed, but averaging from step 0", share_of_w_0(0, 0, 2_000, c), Fraction(0))


def _closed_form() -> Iterable[Comparison]:
    """Each average from k models keeps k/(k + 1) of w_0: from k_0 to k_1 - 1 that is k_0/k_1."""
    k, low, high = sympy.symbols("k k_0 k_1", positive=True, integer=True)
    share = sympy.Product(k / (k + 1), (k, low, high - 1)).doit()
    difference = sympy.gammasimp(share.rewrite(sympy.gamma)) - low / high
    yield equal("product of the shares - k_0/k_1", sympy.simplify(difference), 0)
    steps, start, c = _settings()
    yield equal("k_0/k_1 with the printed settings", Fraction(start // c, steps // c), Fraction(9, 10))


def _learning_rate_is_unset() -> Iterable[Comparison]:
    for name, settings in (("ADM", Settings()), ("EMA", Settings(ema=True)), ("SAM", Settings(sam=True))):
        unset = 0
        try:
            algorithm_1(Fraction(1), _to_zero, 1, _one, settings)
        except UnsetError:
            unset = 1
        yield equal(f"{name}: times alpha is read unset before the first step", unset, 1)
    whole = algorithm_1(Fraction(1), _to_zero, 1, _one, Settings(sam=True, swa=True))
    yield equal("with SWA it is set: w after one step of SAM on w^2/2", whole[0], Fraction(-1, 10))


def _ascent_at_a_stationary_point() -> Iterable[Comparison]:
    divided = 0
    try:
        algorithm_1(Fraction(0), _to_zero, 1, _one, Settings(sam=True, swa=True))
    except ZeroDivisionError:
        divided = 1
    yield equal("divisions by 0 in line 7, at w = 0 of w^2/2", divided, 1)


def _ball_around_the_weights() -> Iterable[Comparison]:
    """L(w) = w^2 at theta = 3."""
    theta_value, radius = sympy.Integer(3), sympy.Rational(1, 2)
    moved = sympy.Symbol("p", real=True)
    rise = (theta_value + moved) ** 2 - theta_value**2
    # a parabola that opens upward is largest at an end of each interval
    printed = max(rise.subs(moved, theta_value + sign * radius) for sign in (1, -1))
    meant = max(rise.subs(moved, sign * radius) for sign in (1, -1))
    yield equal("sharpness at radius 1/2, as printed", printed, sympy.Rational(133, 4))
    yield equal("as meant", meant, sympy.Rational(13, 4))
    yield different("one against the other", printed, meant)
    yield equal("at radius 0, as printed: not 0", rise.subs(moved, theta_value), sympy.Integer(27))


def _sharpness_at_radius_zero() -> Iterable[Comparison]:
    """For any L the rise at |p| <= 0 is 0, and at |theta - p| <= 0 it is L(2 theta) - L(theta)."""
    loss, at_ = sympy.Function("L"), sympy.Symbol("theta", real=True)
    moved = sympy.Symbol("p", real=True)
    rise = loss(at_ + moved) - loss(at_)
    yield equal("as meant, p = 0", rise.subs(moved, 0), 0)
    yield equal("as printed, p = theta", rise.subs(moved, at_), loss(2 * at_) - loss(at_))


STATEMENTS = (
    Statement(
        label="section-2.1-sam",
        title="the definition of SAM's sharpness",
        source="Section 2.1",
        verdict=Verdict.FALSE,
        fault=Fault.SLIP,
        reason=(
            "The maximum is over |p| <= rho; printed is |theta - p| <= rho, a ball around the weights. Foret et al., "
            "who are cited, have it right."
        ),
        printed=PRINTED_SHARPNESS,
        holds=SHARPNESS,
        evidence=(
            counterexample(
                "L(w) = w^2 at theta = 3: 133/4 against 13/4, and not 0 at radius 0", _ball_around_the_weights
            ),
            symbolic("at radius 0, for any loss", _sharpness_at_radius_zero),
        ),
    ),
    Statement(
        label="algorithm-1",
        title="SWA, EMA and SAM in pseudocode",
        source="Algorithm 1 with the settings of Section 4.1",
        verdict=Verdict.FALSE,
        fault=Fault.SLIP,
        reason=(
            "Run with the printed settings, start at 180,000 and cycle 100, it leaves nine tenths of w_SWA untrained; "
            "the counter has to be (i - i_0)/c. A reader repairs it from the paper of SWA, which is cited and where i "
            "counts from the start of averaging; and the FIDs of Table 2 cannot come from such averages, so something "
            "else was run. Learning rates are set for SWA alone, and the ascent divides by 0 at a stationary point."
        ),
        printed=PRINTED_COUNTER,
        holds=COUNTER,
        evidence=(
            algorithm("w_SWA after 200,000 steps, as printed and repaired", _averages_untrained_weights),
            symbolic("its share of w_0 in closed form", _closed_form),
            algorithm("ADM, EMA and SAM read a learning rate that is not set", _learning_rate_is_unset),
            algorithm("SAM at a stationary point", _ascent_at_a_stationary_point),
        ),
        paper_labels=("Algorithm 1",),
    ),
)
