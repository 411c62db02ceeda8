"""Theorem T3: all minima of a random-feature model are equally flat.

Holds: (i) E_p[L(x; delta + theta^*, p)] = Trace(delta*G*delta^T)/m^2 + E_p[L(x; theta^*, p)]; (ii) independent entries of delta, mean 0, standard deviation s implies E_delta[E_p[L(x; delta + theta, p)]] = d*s^2*Trace(G)/m^2 + E_p[L(x; theta, p)]; (iii) max over |delta| <= m*sqrt(kappa)*sqrt(1/lambda_max(G)) of [Trace(delta*G*delta^T)/m^2] = kappa

G = E_p[phi phi^T], whatever p is. At any other theta the rise has the linear term 2 tr(delta^T R)/m besides, R the
gradient, which averages out; the Hessian (2/m^2) G kron I_d does not depend on theta. So no way of training moves the
flatness of this model: not the Hessian, not the kappa-flat radius (iii), not the rise of the loss under Gaussian noise
(ii), E|phi|^2 = tr G. The low-pass-filter value itself, loss plus rise, does differ between two theta, but by their
losses alone; where features are learnt, theta moves G and all of this ends.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.claims.equation_9_random_feature_score import HESSIAN, POINTWISE_LOSS, RESIDUAL, SECOND_ORDER, g, phi
from theory.model.perturbations import flat_radius
from theory.proof import notation, strategies
from theory.proof.empirical import Problem, problems
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import (
    Clauses,
    Expectation,
    G,
    Implies,
    LargestEigenvalue,
    Loss,
    Maximum,
    Norm,
    d,
    delta,
    generic,
    kappa,
    m,
    numeric,
    p,
    theta,
    words,
)
from theory.proof.notation import theta_star as minimum
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    at_most,
    counterexample,
    different,
    equal,
    fails_without,
    holds_for_all,
    symbolic,
)

noise = sympy.Symbol("s", positive=True)
LPF_RISE = noise**2 * d * sympy.Trace(G) / m**2
"""What Gaussian noise of standard deviation s on every weight adds to the expected loss."""
FLAT_RADIUS = m * sympy.sqrt(kappa / LargestEigenvalue(G))
"""Delta_kappa: how far theta may move (Frobenius) from a minimum before the loss has risen by kappa."""

SIZES = ((1, 1), (1, 3), (2, 2), (2, 3))


def _symmetric(size: int) -> sympy.Matrix:
    entries = sympy.Matrix(generic(G, size, size))
    return (entries + entries.T) / 2


def _second_difference_is_constant() -> Iterable[Comparison]:
    """Both sides of theta together: what the loss rises by on average, at one x, is free of theta."""
    difference = POINTWISE_LOSS.subs(theta, theta + delta) + POINTWISE_LOSS.subs(theta, theta - delta)
    difference -= 2 * POINTWISE_LOSS
    for rows, columns in SIZES:
        point = {symbol: generic(symbol, rows, columns) for symbol in (theta, delta)}
        point |= {phi: generic(phi, columns, 1), g: generic(g, rows, 1)}
        left = notation.at(difference, point)[0] / 2
        right = notation.at(SECOND_ORDER.subs(G, phi * phi.T), point)
        yield equal(f"half the second difference - J, d={rows}, m={columns}", sympy.expand(left - right), 0)


def _hessian_gives_the_rise() -> Iterable[Comparison]:
    """delta^T H delta / 2 = J for the stacked columns of delta, H free of theta."""
    for rows, columns in SIZES:
        moment, entries = _symmetric(columns), sympy.Matrix(generic(delta, rows, columns))
        hessian = HESSIAN.subs({d: rows, m: columns}).subs(sympy.MatrixSymbol("G", columns, columns), moment)
        stacked = entries.T.reshape(rows * columns, 1)
        form = (stacked.T * sympy.Matrix(hessian.as_explicit()) * stacked)[0] / 2
        rise = notation.at(SECOND_ORDER, {delta: entries.tolist(), G: moment.tolist()})
        yield equal(f"quadratic form of the Hessian - J, d={rows}, m={columns}", sympy.expand(form - rise), 0)


def _gradient_vanishes_at_a_minimum() -> Iterable[Comparison]:
    """The gradient in theta is 2 E[r phi^T]/m = 2 R/m: the coefficient of the linear term, 0 at a minimum."""
    for rows, columns in SIZES:
        point = {theta: generic(theta, rows, columns), phi: generic(phi, columns, 1), g: generic(g, rows, 1)}
        loss = notation.at(POINTWISE_LOSS, point)[0]
        claimed = notation.at(2 * RESIDUAL * phi.T / m, point)
        wrong = sum(
            sympy.expand(sympy.diff(loss, entry) - claimed[i, j]) != 0
            for i, row in enumerate(point[theta])
            for j, entry in enumerate(row)
        )
        yield equal(f"entries of the gradient that differ from 2 r phi^T/m, d={rows}, m={columns}", wrong, 0)


def average(rise: sympy.Expr, variances: Mapping[sympy.Symbol, sympy.Expr]) -> sympy.Expr:
    """The mean of a polynomial of degree 2 in independent entries of mean 0 and the given variances."""
    polynomial = sympy.Poly(rise, *variances)
    if polynomial.total_degree() > 2:
        raise ValueError(f"rise is of degree {polynomial.total_degree()}; allowed: at most 2")
    mean = polynomial.coeff_monomial(1)
    return mean + sum(polynomial.coeff_monomial(entry**2) * variance for entry, variance in variances.items())


def _noise_average() -> Iterable[Comparison]:
    for rows, columns in SIZES:
        moment, entries = _symmetric(columns), generic(delta, rows, columns)
        rise = notation.at(SECOND_ORDER, {delta: entries, G: moment.tolist()})
        mean = average(rise, {entry: noise**2 for row in entries for entry in row})
        claimed = notation.at(LPF_RISE, {G: moment.tolist()}, d=rows)
        yield equal(f"mean of J over the noise - the formula, d={rows}, m={columns}", sympy.expand(mean - claimed), 0)


def _flat_radius_is_exact() -> Iterable[Comparison]:
    """In G's eigenbasis J <= (lambda_max/m^2)|delta|^2, with equality along the top: so |delta| = Delta_kappa."""
    top, radius = sympy.symbols("lambda Delta", positive=True)
    for rows, columns in SIZES:
        gaps = [sympy.Integer(0), *sympy.symbols(f"g_2:{columns + 1}", nonnegative=True)]
        moment = sympy.diag(*(top - gap for gap in gaps)).tolist()
        entries = generic(delta, rows, columns)
        flat = [entry for row in entries for entry in row]
        rise = notation.at(SECOND_ORDER, {delta: entries, G: moment})
        slack = sympy.Poly(sympy.expand(top * sum(e**2 for e in flat) / columns**2 - rise), *gaps[1:], *flat, top)
        yield at_most(f"0 against the least coefficient of the slack, d={rows}, m={columns}", 0, min(slack.coeffs()))
        along = sympy.zeros(rows, columns)
        along[0, 0] = radius
        attained = notation.at(SECOND_ORDER, {delta: along.tolist(), G: moment})
        claimed = FLAT_RADIUS.subs({LargestEigenvalue(G): top, m: columns})
        yield equal("J along the top at Delta_kappa", attained.subs(radius, claimed), kappa)


def _two_thetas_of_equal_flatness() -> Iterable[Comparison]:
    """d = m = W = 1, b = 0, ReLU, p = N(0, 1): theta = -1 is the minimum, theta = 0 is not; the rise is the same."""
    point, weight, moved = sympy.symbols("x theta delta", real=True)
    density = sympy.exp(-(point**2) / 2) / sympy.sqrt(2 * sympy.pi)

    def expected(at: sympy.Expr) -> sympy.Expr:
        def loss(feature: sympy.Expr) -> sympy.Expr:
            return notation.at(POINTWISE_LOSS, {theta: [[at]], phi: [[feature]], g: [[-point]]})[0]

        halves = [((point, -sympy.oo, 0), sympy.Integer(0)), ((point, 0, sympy.oo), point)]
        return sum(
            sympy.integrate(
                sympy.expand(notation.at(POINTWISE_LOSS, {theta: [[at]], phi: [[feature]], g: [[-point]]})[0])
                * density,
                limits,
            )
            for limits, feature in halves
        )

    loss = sympy.expand(expected(weight))
    yield equal("where the loss is least", sympy.solve(sympy.diff(loss, weight), weight)[0], sympy.Integer(-1))
    values = []
    for at in (-1, 0):
        value = loss.subs(weight, at)
        values.append(average(sympy.expand(loss.subs(weight, at + moved)), {moved: noise**2}))
        # at d = m = 1 with G = E[max(x, 0)^2] = 1/2
        rise = notation.at(LPF_RISE, {G: [["1/2"]]}, d=1)
        yield equal(f"rise of the noisy loss at theta = {at}", sympy.expand(values[-1] - value), rise)
    yield different("the noisy losses themselves, the low-pass-filter values", *values)
    yield equal("which differ by the losses alone", values[1] - values[0], loss.subs(weight, 0) - loss.subs(weight, -1))


@dataclass(frozen=True)
class Moved:
    """A problem, two theta (the first a minimum), a perturbation and kappa."""

    problem: Problem
    thetas: tuple[ndarray, ndarray]
    delta: ndarray
    kappa: float


@st.composite
def moved(draw: st.DrawFn, moving: float = 0.0, largest: tuple[int, int] = (6, 10)) -> Moved:
    """Perturbations of a minimum, and of any other theta."""
    problem = draw(problems(largest, moving=moving))
    rng = np.random.default_rng(draw(strategies.seeds))
    elsewhere, perturbation = rng.standard_normal((2, problem.d, problem.m)) * draw(st.sampled_from([1.0, 0.1]))
    return Moved(problem, (problem.minimum, elsewhere), perturbation, draw(st.sampled_from([1e-3, 1.0, 50.0])))


BECAUSE = "rounding of sums of at most 15 m terms, squared"


def _rise(problem: Problem, perturbation: ndarray) -> float:
    return float(numeric(SECOND_ORDER, delta, G, m)(perturbation, problem.second_moment, problem.m))


def check_rise(instance: Moved) -> Iterable[Comparison]:
    """The rise from a minimum is J; from any theta it is J on average over delta and -delta."""
    problem, perturbation = instance.problem, instance.delta
    for name, weights in zip(("a minimum", "theta"), instance.thetas, strict=True):
        ends = [problem.loss(weights + sign * perturbation) for sign in (1, -1)]
        here, rise = problem.loss(weights), _rise(problem, perturbation)
        slack = 1e-11 * problem.size(weights + perturbation, weights - perturbation)
        yield equal(f"average rise at {name}", sum(ends) / 2 - here, rise, slack, BECAUSE)
        if name == "a minimum":
            yield equal("rise at a minimum", ends[0] - here, rise, slack, BECAUSE)


def check_noise(instance: Moved) -> Iterable[Comparison]:
    """The mean loss over +-s sqrt(d m) in one weight at a time, exact for Gaussian noise on cubic losses."""
    problem = instance.problem
    reach = np.sqrt(problem.d * problem.m) * instance.kappa
    steps = np.eye(problem.d * problem.m).reshape(-1, problem.d, problem.m) * reach
    rise = numeric(LPF_RISE, G, noise, d, m)(problem.second_moment, instance.kappa, problem.d, problem.m)
    for name, weights in zip(("a minimum", "theta"), instance.thetas, strict=True):
        losses = [problem.loss(weights + sign * step) for step in steps for sign in (1, -1)]
        size = problem.size(weights + reach, weights - reach)
        yield equal(f"rise under noise at {name}", np.mean(losses) - problem.loss(weights), rise, 1e-11 * size, BECAUSE)


@cache
def _radius() -> Callable[..., float]:
    """FLAT_RADIUS of kappa, lambda_max(G) and m."""
    top = sympy.Symbol("top")
    formula = FLAT_RADIUS.subs(LargestEigenvalue(G), top)
    return cast(Callable[..., float], sympy.lambdify((kappa, top, m), formula))


def check_flat_radius(instance: Moved) -> Iterable[Comparison]:
    """At Delta_kappa the loss has risen by kappa along G's top eigenvector, and nowhere by more."""
    problem, weights = instance.problem, instance.problem.minimum
    values, vectors = np.linalg.eigh(problem.second_moment)
    radius = flat_radius(problem.second_moment, instance.kappa)
    finite = np.isfinite(radius)
    if finite:
        claimed = _radius()(instance.kappa, float(values[-1]), problem.m)
        yield equal("Delta_kappa", radius, claimed, 1e-9 * claimed, "rounding of the largest eigenvalue")
    radius = radius if finite else 1e3
    worst = np.outer(instance.delta[:, 0] / np.linalg.norm(instance.delta[:, 0]), vectors[:, -1]) * radius
    anywhere = instance.delta * radius / np.linalg.norm(instance.delta)
    slack = 1e-10 * problem.size(weights + np.abs(worst), weights - np.abs(anywhere), weights) + 1e-9 * instance.kappa
    here = problem.loss(weights)
    expected = instance.kappa if finite else 0.0
    yield equal("rise along the top", problem.loss(weights + worst) - here, expected, slack, BECAUSE)
    yield at_most("rise anywhere", problem.loss(weights + anywhere) - here, expected, slack, BECAUSE)


_at_a_minimum = sympy.Eq(
    Expectation(p, Loss(minimum + delta, p)), Expectation(p, Loss(minimum, p)) + SECOND_ORDER, evaluate=False
)
_everywhere = sympy.Eq(
    Expectation(delta, Expectation(p, Loss(theta + delta, p))),
    Expectation(p, Loss(theta, p)) + LPF_RISE,
    evaluate=False,
)
_noisy = Implies(words("independent entries of delta, mean 0, standard deviation s"), _everywhere)
_radius_attained = sympy.Eq(Maximum(sympy.Le(Norm(delta), FLAT_RADIUS), SECOND_ORDER), kappa, evaluate=False)

STATEMENT = Statement(
    label="theorem-t3",
    title="all minima are equally flat",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "With features frozen the rise of the expected loss depends on delta and G alone: every theta has the same "
        "Hessian, the same rise under noise, and every minimum the same kappa-flat radius, however it was trained. "
        "Raw low-pass-filter values differ by the losses only."
    ),
    printed=None,
    holds=Clauses(_at_a_minimum, _noisy, _radius_attained),
    evidence=(
        machine_checked(
            "the rise, its average under noise, and the flat radius, for any law of phi and g",
            "quadratic_rise.v",
            "loss_moved",
            "rise_at_a_minimum",
            "equally_flat",
            "rise_under_equal_noise",
            "flat_radius",
        ),
        symbolic("half the second difference of the loss is J, whatever theta is", _second_difference_is_constant),
        symbolic("the Hessian's quadratic form is J", _hessian_gives_the_rise),
        symbolic("the linear term's coefficient is the gradient, 0 at a minimum", _gradient_vanishes_at_a_minimum),
        symbolic("J averaged over independent noise is s^2 (d/m^2) E|phi|^2", _noise_average),
        symbolic("J <= kappa within Delta_kappa, with equality along the top", _flat_radius_is_exact),
        counterexample("two theta of equal rise and unequal low-pass-filter value", _two_thetas_of_equal_flatness),
        holds_for_all("the rise is J at a minimum, and on average anywhere", moved(), check_rise),
        holds_for_all("the rise under noise is the same everywhere", moved(largest=(3, 5)), check_noise),
        holds_for_all("the kappa-flat radius is attained and not exceeded", moved(), check_flat_radius),
        fails_without("frozen features: W moves with theta", moved(moving=1.0), check_rise),
        fails_without("frozen features, for the noise", moved(moving=1.0, largest=(3, 5)), check_noise),
    ),
)
