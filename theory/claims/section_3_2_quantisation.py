"""Section 3.2: a quantised model is a perturbed one, "thus the loss remains flat for the perturbation".

Printed: the quantised model is a perturbed one, thus the loss remains flat

Holds: q*sqrt(d)*sqrt(m)/2 <= m*sqrt(kappa)*sqrt(1/lambda_max(G)) implies E_p[L(x; thetahat, p)] <= ell + kappa

That it is a perturbation is plain, and that is all that carries over. No minimum is flat in the sense of Definition 3.1,
so the loss does rise: at an exact score by the square of the rounding error. Theorem 3.3 does not apply: for d >= 2 the
errors are inadmissible almost surely (T5). What holds is that rounding to the nearest point of a grid of step q moves
theta by at most q sqrt(d m)/2, so that a minimum that is flat up to kappa within that radius loses at most kappa; T5
has what it loses on average. q grows with the largest weight, so a flat minimum of large weights may lose more.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import sympy

from theory.claims.theorem_t3_equal_flatness import FLAT_RADIUS
from theory.claims.theorem_t5_quantisation import WORST_CASE, q
from theory.model.perturbations import flat_radius
from theory.proof import notation
from theory.proof.empirical import Problem, Quantised, quantised
from theory.proof.notation import Expectation, Implies, Loss, d, ell, kappa, m, p, words
from theory.proof.statement import (
    Comparison,
    Fault,
    Statement,
    Verdict,
    at_most,
    counterexample,
    different,
    equal,
    fails_without,
    holds_for_all,
    less,
    symbolic,
)

REACH = q * sympy.sqrt(d * m) / 2
"""The largest |delta| of rounding to the nearest point of a grid of step q."""
ROUNDED = sympy.MatrixSymbol("thetahat", d, m)


def _loss_rises_at_an_exact_score() -> Iterable[Comparison]:
    """d = m = W = 1, b = 0, theta* = -1 on a grid of step 3/4: theta* goes to -3/4."""
    x = sympy.Symbol("x", real=True)
    rounded = -sympy.Rational(3, 4)
    yield at_most("rounding error over q/2", abs(rounded + 1) / sympy.Rational(3, 8), sympy.Integer(1))
    yield equal("loss at theta*", (-x + x) ** 2, sympy.Integer(0))
    yield equal("loss of the rounded model", sympy.expand((rounded * x + x) ** 2), x**2 / 16)
    yield less("0 against it at x = 2", sympy.Integer(0), ((rounded * x + x) ** 2).subs(x, 2))


def _errors_are_inadmissible() -> Iterable[Comparison]:
    """d = m = 2, W = I, q = 1: theta = [[0, 1/4], [0, 0]] goes to 0."""
    error = notation.exact_matrix([[0, "-1/4"], [0, 0]])
    yield different("delta W^T less its transpose", error - error.T, sympy.zeros(2, 2))


def _reach_within_the_flat_radius() -> Iterable[Comparison]:
    """kappa at |delta| = REACH is T5's worst case."""
    solved = sympy.solve(FLAT_RADIUS**2 - REACH**2, kappa)
    yield equal("kappa of the ball that rounding stays in", sympy.simplify(solved[0] - WORST_CASE), 0)
    step = sympy.Symbol("q", positive=True)
    yield equal("norm of d m errors of q/2", sympy.sqrt(d * m * (step / 2) ** 2) - step * sympy.sqrt(d * m) / 2, 0)


def check_kappa(instance: Quantised) -> Iterable[Comparison]:
    """Rounding a minimum: the rise is at most the kappa whose flat radius is q sqrt(d m)/2."""
    problem, weights = instance.problem, instance.theta
    error = instance.step * np.round(weights / instance.step) - weights
    reach = instance.step * float(np.sqrt(weights.size)) / 2
    unit = flat_radius(problem.second_moment, 1.0)
    bound = (reach / unit) ** 2 if np.isfinite(unit) else 0.0
    size = problem.size(np.abs(weights) + instance.step, np.abs(weights) + instance.step)
    rise = problem.loss(weights + error) - problem.loss(weights)
    because = "rounding of sums of at most 15 m terms"
    yield at_most("|delta| against q sqrt(d m)/2", float(np.linalg.norm(error)), reach, 1e-12 * reach, because)
    yield at_most("rise against kappa", rise, bound, 1e-11 * size + 1e-9 * bound, because)


def at_a_minimum(instance: Quantised) -> Quantised:
    """The same problem, rounded at its minimum."""
    problem: Problem = instance.problem
    return replace(instance, theta=problem.minimum)


STATEMENT = Statement(
    label="section-3.2-quantisation",
    title="a quantised model's loss stays flat",
    source="Section 3.2, last paragraph but two",
    verdict=Verdict.CONDITIONAL,
    fault=Fault.CONSEQUENCE,
    reason=(
        "Quantised weights are perturbed weights, but no minimum is flat in the sense of Definition 3.1, so the loss "
        "rises. Where the flat radius for kappa reaches q sqrt(d m)/2 it rises by at most kappa, at a minimum."
    ),
    printed=words("the quantised model is a perturbed one, thus the loss remains flat"),
    holds=Implies(
        sympy.Le(REACH, FLAT_RADIUS), sympy.Le(Expectation(p, Loss(ROUNDED, p)), ell + kappa, evaluate=False)
    ),
    conditions=(
        "a rise of kappa is allowed",
        "theta is a minimum",
        "q sqrt(d m)/2 is at most the flat radius for kappa",
    ),
    rescue="T5: what rounding costs on average over dither, and at a minimum at most, where features are frozen.",
    evidence=(
        counterexample("rounding an exact score raises the loss", _loss_rises_at_an_exact_score),
        counterexample("rounding errors need not be admissible", _errors_are_inadmissible),
        symbolic("the kappa of the ball that rounding stays in is T5's worst case", _reach_within_the_flat_radius),
        holds_for_all(
            "at a minimum the rise is at most that kappa", quantised(shape=(5, 8)).map(at_a_minimum), check_kappa
        ),
        fails_without("theta is a minimum", quantised(shape=(5, 8)), check_kappa),
    ),
)
