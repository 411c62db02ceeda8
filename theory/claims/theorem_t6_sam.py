"""Theorem T6: sharpness-aware minimisation of a random-feature model, with the inner maximum taken exactly.

Holds: (i) max over |delta| <= rho of E_p[L(x; delta + theta^*, p)] = ell + rho^2*lambda_max(G)/m^2; (ii) max over |delta| <= rho of E_p[L(x; delta + theta, p)] >= rho^2*lambda_max(G)/m^2 + E_p[L(x; theta, p)]; (iii) E_p[max over |delta| <= rho of L(x; delta + theta, p)] = rho^2*Trace(G)/m^2 + 2*rho*E_p[|phi|*|r|]/m + E_p[L(x; theta, p)]

rho is SAM's radius (Frobenius), ell the least expected loss, r = theta phi/m - g. (i) and (ii), one delta for all of p:
the objective is least exactly where the loss is, so full-batch SAM moves no minimiser and flattens nothing (T3). (iii),
a delta for every x: the largest loss is (|r| + rho |phi|/m)^2, at delta along r phi^T, which is where the first-order
step of SAM points; so SAM with batches of one is exact here. It reweights the residuals, and so moves the minimiser;
its last term, the flatness, is constant while the features are frozen and becomes a penalty only where they are learnt.
(i) is of the exact maximum. The first-order step of Algorithm 1 at a constant rate alpha does not come to rest: along an
eigendirection of curvature lambda it ends bouncing between +-r, r = alpha rho lambda / (2 - alpha lambda).
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from typing import Any, cast

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray
from scipy import optimize

from theory.claims.equation_9_random_feature_score import SECOND_ORDER, phi
from theory.claims.section_2_1_sam_and_algorithm_1 import Settings, algorithm_1
from theory.claims.theorem_t3_equal_flatness import FLAT_RADIUS, SIZES
from theory.proof import notation, strategies
from theory.proof.empirical import Problem, problems
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import (
    Clauses,
    Expectation,
    G,
    LargestEigenvalue,
    Loss,
    Maximum,
    Norm,
    d,
    delta,
    ell,
    generic,
    kappa,
    m,
    p,
    rho,
    theta,
)
from theory.proof.notation import theta_star as minimum
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    algorithm,
    at_most,
    counterexample,
    different,
    equal,
    fails_without,
    holds_for_all,
    less,
    optimisation,
    symbolic,
)

residual = sympy.MatrixSymbol("r", d, 1)
FULL_BATCH_RISE = rho**2 * LargestEigenvalue(G) / m**2
PER_SAMPLE = (Norm(residual) + rho * Norm(phi) / m) ** 2
"""The largest loss at one x over |delta| <= rho."""
PER_SAMPLE_MEAN = (
    Expectation(p, Loss(theta, p))
    + 2 * rho / m * Expectation(p, Norm(residual) * Norm(phi))
    + rho**2 / m**2 * sympy.Trace(G)
)


def _average_of_both_signs() -> Iterable[Comparison]:
    """J(D + delta) + J(D - delta) = 2 J(D) + 2 J(delta): one of +-delta adds J(delta) or more, wherever theta is."""
    shift = sympy.MatrixSymbol("D", d, m)
    both = SECOND_ORDER.subs(delta, shift + delta) + SECOND_ORDER.subs(delta, shift - delta)
    difference = both - 2 * SECOND_ORDER - 2 * SECOND_ORDER.subs(delta, shift)
    for rows, columns in SIZES:
        values = {symbol: generic(symbol, rows, columns) for symbol in (shift, delta)}
        moment = sympy.Matrix(generic(G, columns, columns))
        left = notation.at(difference, values | {G: ((moment + moment.T) / 2).tolist()})
        yield equal(f"both signs - twice their sum, d={rows}, m={columns}", sympy.expand(left), 0)


def _rise_is_that_of_the_flat_radius() -> Iterable[Comparison]:
    """The kappa whose flat radius is rho (T3), where J <= kappa is attained."""
    solved = sympy.solve(FLAT_RADIUS**2 - rho**2, kappa)
    yield equal("kappa at Delta_kappa = rho", sympy.simplify(solved[0] - FULL_BATCH_RISE), 0)


def _per_sample_bound() -> Iterable[Comparison]:
    """|delta|^2 |phi|^2 - |delta phi|^2 is a sum of squares, so |r + delta phi/m| <= |r| + |delta| |phi|/m."""
    for rows, columns in ((1, 1), (1, 3), (2, 2), (2, 3)):
        moved, features = sympy.Matrix(generic(delta, rows, columns)), sympy.Matrix(generic(phi, columns, 1))
        product = moved * features
        slack = sum(e**2 for e in moved) * sum(e**2 for e in features) - sum(e**2 for e in product)
        pairs = [(one, other) for one in range(columns) for other in range(one)]
        squares = sum(
            (moved[row, one] * features[other] - moved[row, other] * features[one]) ** 2
            for row in range(rows)
            for one, other in pairs
        )
        yield equal(f"|delta|^2 |phi|^2 - |delta phi|^2, d={rows}, m={columns}", sympy.expand(slack - squares), 0)


def _per_sample_maximum() -> Iterable[Comparison]:
    """At delta = rho r phi^T / (|r| |phi|), along the gradient 2 r phi^T/m (T3), the bound is reached."""
    for rows, columns in ((1, 2), (2, 2), (3, 2)):
        error, features = sympy.Matrix(generic(residual, rows, 1)), sympy.Matrix(generic(phi, columns, 1))
        norms = [sympy.sqrt(sum(e**2 for e in vector)) for vector in (error, features)]
        step = rho * error * features.T / (norms[0] * norms[1])
        yield equal(f"|delta|^2 there, d={rows}, m={columns}", sympy.simplify(sum(e**2 for e in step)), rho**2)
        reached = sum(e**2 for e in error + step * features / columns)
        claimed = PER_SAMPLE.subs({Norm(residual): norms[0], Norm(phi): norms[1], m: columns})
        yield equal(f"loss there - the formula, d={rows}, m={columns}", sympy.simplify(reached - claimed), 0)


def _mean_of_the_per_sample_maximum() -> Iterable[Comparison]:
    """The square's three terms, in expectation: E|r|^2 is the loss, E|phi|^2 = tr G, both linear."""
    expanded = sympy.Poly(sympy.expand(PER_SAMPLE), rho)
    terms = {
        Norm(residual) ** 2: Expectation(p, Loss(theta, p)),
        Norm(residual) * Norm(phi): Expectation(p, Norm(residual) * Norm(phi)),
        Norm(phi) ** 2: sympy.Trace(G),
    }
    mean = sum(value.subs(terms) * rho**power for (power,), value in expanded.terms())
    yield equal("expectation, term by term - the formula", sympy.simplify(mean - PER_SAMPLE_MEAN), 0)


def _per_sample_moves_the_minimiser() -> Iterable[Comparison]:
    """d = m = 1, two equally likely points with phi = 1, 3 and g = 1, 0: theta* = 1/10."""
    weight = sympy.Symbol("theta", real=True)
    # for 0 < theta < 1 the residuals theta - 1 and 3 theta have fixed signs
    absolute = {1: 1 - weight, 3: 3 * weight}
    loss = sum(value**2 for value in absolute.values()) / 2
    robust = (
        sum(PER_SAMPLE.subs({Norm(residual): value, Norm(phi): feature, m: 1}) for feature, value in absolute.items())
        / 2
    )
    plain, moved = (sympy.solve(sympy.diff(value, weight), weight)[0] for value in (loss, robust))
    yield equal("theta* of the loss", plain, sympy.Rational(1, 10))
    yield equal("theta* of per-sample SAM", moved, (1 - 8 * rho) / 10)
    yield different("the two minimisers at rho = 1/100", plain, moved.subs(rho, sympy.Rational(1, 100)))


def _first_order_falls_short() -> Iterable[Comparison]:
    """d = 1, m = 2, G = diag(1, 4), theta - theta* = (1/10, 0), rho = 1: the gradient points where it is flatter."""
    tenth, moment = sympy.Rational(1, 10), {G: [[1, 0], [0, 4]]}
    first_order = notation.at(SECOND_ORDER, moment | {delta: [[tenth + 1, 0]]})
    better = notation.at(SECOND_ORDER, moment | {delta: [[tenth, 1]]})
    yield less("rise at the first-order step, below that across it", first_order, better)
    bound = notation.at(SECOND_ORDER, moment | {delta: [[tenth, 0]]}) + FULL_BATCH_RISE.subs(
        {rho: 1, LargestEigenvalue(G): 4, m: 2}
    )
    yield equal("which is J(theta - theta*) plus the formula", better, bound)


_rate, _curvature = sympy.symbols("alpha lambda", positive=True)
BOUNCE = _rate * rho * _curvature / (2 - _rate * _curvature)
"""r: where the first-order step of rate alpha goes from r to -r, curvature lambda."""


def _first_order_bounces() -> Iterable[Comparison]:
    """L = lambda w^2/2 by Algorithm 1, lambda = 4, alpha = 1/10, rho = 1: from r = 1/4 to -r and back."""
    rate, curvature = Fraction(1, 10), Fraction(4)
    far = BOUNCE.subs({_rate: sympy.Rational(1, 10), _curvature: 4, rho: 1})
    yield equal("alpha rho lambda / (2 - alpha lambda)", far, sympy.Rational(1, 4))
    settings = Settings(sam=True, swa=True, rho=Fraction(1), start=10**9)
    for iterations, expected in ((1, Fraction(-1, 4)), (2, Fraction(1, 4)), (101, Fraction(-1, 4))):
        w, _, _ = algorithm_1(Fraction(1, 4), lambda w: curvature * w, iterations, lambda i: rate, settings)
        yield equal(f"w after {iterations} steps from 1/4", w, expected)


def _first_order_is_drawn_to_the_bounce() -> Iterable[Comparison]:
    """While the sign turns, |w| - r is multiplied by -(1 - alpha lambda) at each step; H = diag(4, 1) in floats."""
    size = sympy.Symbol("w", positive=True)
    after = -(size - _rate * _curvature * (size + rho))  # -w_1 for w_0 = size
    change = sympy.simplify((after - BOUNCE) / (size - BOUNCE))
    yield equal("(|w_1| - r) / (|w_0| - r)", change, -(1 - _rate * _curvature))
    hessian, w = np.array([4.0, 1.0]), np.array([1.0, 1.0])
    for _ in range(4000):
        gradient = hessian * w
        w = w - 0.1 * hessian * (w + gradient / np.linalg.norm(gradient))
    expected = [0.25, 0.0]
    yield equal(
        "|w| after 4,000 steps of rho = 1 on H = diag(4, 1)", np.abs(w), np.array(expected), 1e-9, "convergence"
    )


def sphere_maximum(G_value: ndarray, shift: ndarray, radius: float) -> tuple[float, ndarray]:
    """The largest J(shift + delta) over |delta| <= radius, and a delta where it is reached.

    In G's eigenbasis delta_k = lambda_k shift_k / (mu - lambda_k), with mu >= lambda_max the root of |delta| = radius;
    where the shift has nothing along the top, mu = lambda_max and the rest of the radius is spent there.
    """
    rows, columns = shift.shape
    values, vectors = np.linalg.eigh(G_value)
    values = np.maximum(values, 0.0)
    inside = shift @ vectors
    pull = np.linalg.norm(inside * values, axis=0)

    def excess(above_top: float) -> float:
        return float(((pull / (above_top + values[-1] - values)) ** 2).sum()) - radius**2

    high = float(np.linalg.norm(pull)) / radius
    low = 1e-12 * (high + values[-1])
    along = np.zeros((rows, columns))
    if high > 0 and excess(low) > 0:
        gap = optimize.brentq(excess, low, 2 * high, xtol=1e-300, rtol=1e-14)
        along = inside * values / (gap + values[-1] - values)
    else:
        rest = values < values[-1] * (1 - 1e-9)
        along[:, rest] = inside[:, rest] * values[rest] / (values[-1] - values[rest])
        along[0, -1] += np.sqrt(max(radius**2 - (along**2).sum(), 0.0)) * (1 if inside[0, -1] >= 0 else -1)
    along *= radius / max(float(np.linalg.norm(along)), 1e-300)
    moved = inside + along
    return float(((moved * values) * moved).sum()) / columns**2, along @ vectors.T


@dataclass(frozen=True)
class Step:
    """A problem, a theta beside its minimum, SAM's radius, and a direction to try."""

    problem: Problem
    theta: ndarray
    rho: float
    direction: ndarray


@st.composite
def steps(draw: st.DrawFn, moving: float = 0.0) -> Step:
    """Minima, theta near one and far away, small radii and large."""
    problem = draw(problems(moving=moving))
    rng = np.random.default_rng(draw(strategies.seeds))
    away, direction = rng.standard_normal((2, *problem.W.shape))
    away = away * draw(st.sampled_from([0.0, 1e-3, 1.0]))
    radius = draw(st.sampled_from([0.01, 0.3, 2.0]))
    return Step(problem, problem.minimum + away, radius, direction / np.linalg.norm(direction))


BECAUSE = "rounding of sums of at most 15 m terms, squared"


_TOP, _R, _PHI, _LOSS, _CROSS, _ENERGY = sympy.symbols("top r_norm phi_norm loss cross energy")
_PLAIN = {
    LargestEigenvalue(G): _TOP,
    Norm(residual): _R,
    Norm(phi): _PHI,
    Expectation(p, Loss(theta, p)): _LOSS,
    Expectation(p, Norm(residual) * Norm(phi)): _CROSS,
    sympy.Trace(G): _ENERGY,
}


@cache
def _numeric(formula: sympy.Expr, *arguments: sympy.Symbol) -> Callable[..., Any]:
    """One of this module's formulas as a function of plain numbers."""
    return cast(Callable[..., Any], sympy.lambdify(arguments, formula.subs(_PLAIN), "numpy"))


def check_full_batch(instance: Step) -> Iterable[Comparison]:
    """The exact maximum over the ball at theta and at the minimum, against the loss itself and the formula."""
    problem, weights, radius = instance.problem, instance.theta, instance.rho
    moment, least = problem.second_moment, problem.loss(problem.minimum)
    rise = _numeric(FULL_BATCH_RISE, rho, _TOP, m)(radius, float(np.linalg.eigvalsh(moment)[-1]), problem.m)
    slack = 1e-10 * problem.size(np.abs(weights) + radius, np.abs(problem.minimum) + radius)
    for name, at in (("a minimum", problem.minimum), ("theta", weights)):
        value, worst = sphere_maximum(moment, at - problem.minimum, radius)
        yield equal(f"largest loss at {name}, attained", problem.loss(at + worst), least + value, slack, BECAUSE)
        tried = problem.loss(at + radius * instance.direction)
        yield at_most(f"loss in another direction from {name}", tried, least + value, slack, BECAUSE)
        yield at_most(f"loss at {name} plus the formula", problem.loss(at) + rise, least + value, slack, BECAUSE)
        if name == "a minimum":
            yield equal("rise of the largest loss at a minimum", value, rise, slack, BECAUSE)


def check_per_sample(instance: Step) -> Iterable[Comparison]:
    """One delta for every x: the step along its gradient, and any other, against the formula; then the mean."""
    problem, weights, radius = instance.problem, instance.theta, instance.rho
    error, features = problem.residuals(weights), problem.features(weights)
    lengths = [np.linalg.norm(rows, axis=1) for rows in (error, features)]
    claimed = _numeric(PER_SAMPLE, _R, _PHI, rho, m)(*lengths, radius, problem.m)
    reached, tried = [], []
    for at in range(len(problem.x)):
        single = replace(problem, x=problem.x[[at]], g=problem.g[[at]])
        direction = np.outer(error[at], features[at])
        if lengths[0][at] == 0:  # any direction along phi
            direction = np.outer(np.eye(problem.d)[0], features[at])
        step = radius / max(float(np.linalg.norm(direction)), 1e-300)  # 0 where phi = 0
        reached.append(single.loss(weights + step * direction))
        tried.append(single.loss(weights + radius * instance.direction))
    slack = 1e-11 * len(problem.x) * problem.size(np.abs(weights) + radius, np.abs(weights) + radius)
    yield equal("largest loss at each x, by a step along its gradient", np.array(reached), claimed, slack, BECAUSE)
    yield at_most("loss at each x in another direction", np.array(tried), claimed, slack, BECAUSE)
    means = (lengths[0] ** 2).mean(), (lengths[0] * lengths[1]).mean(), (lengths[1] ** 2).mean()
    expected = _numeric(PER_SAMPLE_MEAN, _LOSS, _CROSS, _ENERGY, rho, m)(*means, radius, problem.m)
    yield equal("its mean", float(np.mean(reached)), expected, slack, BECAUSE)


def _full_batch_by_optimisation() -> Iterable[Comparison]:
    """The largest loss over the sphere from 10 random starts, knowing only the loss."""
    for seed in range(4):
        rng = np.random.default_rng(seed)
        x, g_value = rng.standard_normal((2, 12, 2))
        frozen, weights = rng.standard_normal((2, 2, 3))
        problem = Problem(frozen, rng.standard_normal(3), x, g_value, weights, "relu")
        phi_value = problem.features(weights)
        best = 3 * np.linalg.lstsq(phi_value, g_value, rcond=None)[0].T
        for name, at in (("a minimum", best), ("theta", weights)):
            largest = _largest_loss(problem, at, 0.7, rng)
            claimed = problem.loss(best) + sphere_maximum(problem.second_moment, at - best, 0.7)[0]
            because = "the optimiser stops where its differences, of order 1e-8, see no slope"
            yield equal(f"largest loss over the sphere around {name}", largest, claimed, 1e-6 * claimed, because)


def _largest_loss(problem: Problem, at: ndarray, radius: float, rng: np.random.Generator) -> float:
    def negative(z: ndarray) -> float:
        return -problem.loss(at + radius * z.reshape(at.shape) / np.linalg.norm(z))

    starts = rng.standard_normal((10, at.size))
    return max(-float(optimize.minimize(negative, start, method="BFGS").fun) for start in starts)


_ball = sympy.Le(Norm(delta), rho)
_largest = Maximum(_ball, Expectation(p, Loss(theta + delta, p)))
_at_a_minimum = sympy.Eq(
    Maximum(_ball, Expectation(p, Loss(minimum + delta, p))), ell + FULL_BATCH_RISE, evaluate=False
)
_elsewhere = sympy.Ge(_largest, Expectation(p, Loss(theta, p)) + FULL_BATCH_RISE)
_for_every_x = sympy.Eq(Expectation(p, Maximum(_ball, Loss(theta + delta, p))), PER_SAMPLE_MEAN, evaluate=False)

STATEMENT = Statement(
    label="theorem-t6",
    title="what SAM does to this model",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "Full-batch SAM with its exact inner maximum adds the constant rho^2 lambda_max(G)/m^2 at every minimum and no "
        "less elsewhere, so it moves no minimiser; the first-order step at a constant rate bounces around it. SAM for "
        "every x is E(|r| + rho |phi|/m)^2: it reweights residuals, and penalises flatness only where features are "
        "learnt."
    ),
    printed=None,
    holds=Clauses(_at_a_minimum, _elsewhere, _for_every_x),
    evidence=(
        machine_checked(
            "(i), (ii), and so no minimiser moves",
            "quadratic_rise.v",
            "second_difference",
            "rise_in_one_direction",
            "sam_at_a_minimum",
            "sam_elsewhere",
            "sam_moves_no_minimiser",
        ),
        machine_checked(
            "(iii): the bound at each point, where it is reached, and its mean",
            "pointwise_sam.v",
            "point_bound",
            "point_attained",
            "point_mean",
        ),
        symbolic("of +-delta one raises the loss by J(delta) or more", _average_of_both_signs),
        symbolic("the rise at a minimum is the kappa whose flat radius is rho", _rise_is_that_of_the_flat_radius),
        symbolic("at one x the loss is at most (|r| + rho |phi|/m)^2", _per_sample_bound),
        symbolic("which the step along the gradient reaches", _per_sample_maximum),
        symbolic("its mean, term by term", _mean_of_the_per_sample_maximum),
        counterexample("SAM for every x moves the minimiser", _per_sample_moves_the_minimiser),
        counterexample("on the full batch the first-order step misses the maximum", _first_order_falls_short),
        algorithm("Algorithm 1's step bounces around a minimum for ever", _first_order_bounces),
        symbolic("and is drawn to that bounce", _first_order_is_drawn_to_the_bounce),
        holds_for_all("the full-batch maximum, at minima and elsewhere", steps(), check_full_batch),
        optimisation("the full-batch maximum by optimisation", _full_batch_by_optimisation),
        holds_for_all("the maximum at every x, and its mean", steps(), check_per_sample),
        fails_without("linear in theta: features move with it", steps(moving=1.0), check_full_batch),
        fails_without("linear in theta, for every x", steps(moving=1.0), check_per_sample),
    ),
)
