"""Theorem T5: what rounding the weights theta to a grid of step q adds to the expected loss.

Holds: (i) dither implies E_delta[E_p[L(x; delta + theta, p)]] = d*q^2*Trace(G)/(12*m^2) + E_p[L(x; theta, p)]; (ii) stochastic rounding implies E_delta[E_p[L(x; delta + theta, p)]] = Sum(q^2*(1 - f[i, j])*G[j, j]*f[i, j], (i, 1, d), (j, 1, m))/m^2 + E_p[L(x; theta, p)]; (iii) no error above q/2, at a minimum implies Trace(delta*G*delta^T)/m^2 <= d*q^2*lambda_max(G)/(4*m)

(i) Dither: each weight rounded with its own uniform offset, its error uniform on (-q/2, q/2). (ii) Stochastic rounding:
up with probability f, the weight's distance from the grid point below over q, and down otherwise; twice (i) on average
over f. Both at any theta, both exact. (iii) Any rounding to the nearest point. Plain rounding of a
minimum is (i) on average over where it lies on the grid, not for each. Elsewhere its errors go with the slope, and the
loss may fall: for phi = 1, theta* = 0 and theta uniform on half a cell either side it falls by q^2/12, not rises. With min-max scaling q is 2 max|theta| / (2^bits - 1) or max|theta| / (2^(bits-1) - 1), so that a
method helps through max|theta| and through E|phi|^2 = tr G. Theorem 3.3 says nothing of it: for d >= 2 and W not 0 the
errors are inadmissible almost surely; of isotropic noise the share (d + 1)/(2d) of the field delta phi is a gradient
for b = 0 and linear features, whatever W is.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import cast

import numpy as np
import sympy
from numpy import ndarray

from theory.claims.equation_9_random_feature_score import SECOND_ORDER
from theory.claims.theorem_t1_any_activation import LINEAR_DIMENSION, rank
from theory.claims.theorem_t3_equal_flatness import FLAT_RADIUS, LPF_RISE, SIZES, average, noise
from theory.model import perturbations
from theory.model.random_features import feature_second_moment
from theory.proof import notation, strategies
from theory.proof.empirical import (
    Isotropic,
    Quantised,
    dither_errors,
    isotropic,
    quantised,
    rounding_errors,
    stochastic_errors,
)
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import (
    Clauses,
    Expectation,
    G,
    Implies,
    LargestEigenvalue,
    Loss,
    SquaredNorm,
    W,
    b,
    d,
    delta,
    generic,
    i,
    j,
    kappa,
    m,
    numeric,
    p,
    theta,
    words,
    x,
)
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    at_most,
    counterexample,
    equal,
    fails_without,
    holds_for_all,
    less,
    quadrature,
    symbolic,
)

q = sympy.Symbol("q", positive=True)
bits, largest = sympy.symbols("bits max_theta", positive=True)
fraction = sympy.IndexedBase("f")
"""f[i, j] in [0, 1): how far theta_ij lies above the grid point below, over q."""
second = sympy.IndexedBase("G")
"""G[j, j] = E phi_j^2, counted from 1."""

DITHER_RISE = LPF_RISE.subs(noise, q / sympy.sqrt(12))
STOCHASTIC_VARIANCE = q**2 * fraction[i, j] * (1 - fraction[i, j])
STOCHASTIC_RISE = sympy.Sum(STOCHASTIC_VARIANCE * second[j, j], (i, 1, d), (j, 1, m)) / m**2
WORST_CASE = q**2 * d * LargestEigenvalue(G) / (4 * m)
STEP = 2 * largest / (2**bits - 1)
"""q of min-max scaling."""
CODIMENSION = d * m - LINEAR_DIMENSION
"""Of the admissible delta (linear activation) among all."""
GRADIENT_SHARE = ((d + 1) * SquaredNorm(W) + 2 * d * SquaredNorm(b)) / (2 * d * (SquaredNorm(W) + SquaredNorm(b)))
"""Of E|delta phi|^2 for isotropic noise delta, linear features and p = N(0, I), the part that is a gradient."""


def _uniform_error_of_dither() -> Iterable[Comparison]:
    """Error over q of rounding n + f with offset v, uniform on (-1/2, 1/2): f + v goes to 0 below 1/2, to 1 above."""
    f, v = sympy.symbols("f v", positive=True)
    half = sympy.Rational(1, 2)
    parts = [(-(f + v), (v, -half, half - f)), (1 - (f + v), (v, half - f, half))]
    for power, expected in ((1, 0), (2, sympy.Rational(1, 12)), (4, sympy.Rational(1, 80))):
        moment = sum(sympy.integrate(error**power, limits) for error, limits in parts)
        yield equal(f"moment {power} of the error over q, whatever f is", sympy.expand(moment), expected)


def _stochastic_variance() -> Iterable[Comparison]:
    f = sympy.Symbol("f", positive=True)
    outcomes = [(f, (1 - f) * q), (1 - f, -f * q)]
    yield equal("mean error", sympy.expand(sum(weight * error for weight, error in outcomes)), 0)
    second = sum(weight * error**2 for weight, error in outcomes)
    claimed = STOCHASTIC_VARIANCE.subs(fraction[i, j], f)
    yield equal("its variance", sympy.expand(second), sympy.expand(claimed))
    ratio = sympy.integrate(claimed, (f, 0, 1)) / (q**2 / 12)
    yield equal("over that of dither, averaged over f", ratio, 2)


def _rises() -> Iterable[Comparison]:
    """J averaged over independent errors of mean 0, with either variance."""
    for rows, columns in SIZES:
        moment = sympy.Matrix(generic(G, columns, columns))
        moment = (moment + moment.T) / 2
        entries = generic(delta, rows, columns)
        values = {G: moment.tolist()}
        rise = notation.at(SECOND_ORDER, values | {delta: entries})
        flat = [(entry, r + 1, c + 1) for r, row in enumerate(entries) for c, entry in enumerate(row)]
        mean_rise = average(rise, {entry: q**2 / 12 for entry, _, _ in flat})
        claimed = notation.at(DITHER_RISE, values, d=rows)
        yield equal(f"mean of J - the formula, dither, d={rows}, m={columns}", sympy.expand(mean_rise - claimed), 0)
        variances = {entry: STOCHASTIC_VARIANCE.subs({i: r, j: c}) for entry, r, c in flat}
        claimed = STOCHASTIC_RISE.subs({d: rows, m: columns}).doit()
        claimed = claimed.subs({second[c + 1, c + 1]: moment[c, c] for c in range(columns)})
        difference = sympy.expand(average(rise, variances) - claimed)
        yield equal(f"the same, stochastic rounding, d={rows}, m={columns}", difference, 0)


def _worst_case_from_the_flat_radius() -> Iterable[Comparison]:
    """|delta| <= q sqrt(d m)/2 lies in the ball of radius Delta_kappa (T3) for this kappa, and no smaller one."""
    reach = q * sympy.sqrt(d * m) / 2
    solved = sympy.solve(FLAT_RADIUS**2 - reach**2, kappa)
    yield equal("kappa of that ball", sympy.simplify(solved[0] - WORST_CASE), 0)


def _admissible_is_a_null_set() -> Iterable[Comparison]:
    """With r = 1 + s, d = r + e the codimension is a polynomial with coefficients >= 0, and 0 for s = e = 0 alone."""
    s, e = sympy.symbols("s e", nonnegative=True, integer=True)
    expanded = sympy.expand_func(CODIMENSION).subs({rank: 1 + s}).subs(d, 1 + s + e)
    polynomial = sympy.Poly(sympy.expand(sympy.simplify(expanded)), s, e)
    yield at_most("0 against the least coefficient", 0, min(polynomial.coeffs()))
    yield equal("at d = r = 1", polynomial.eval({s: 0, e: 0}), 0)
    yield less("0 against the coefficient of s", 0, polynomial.coeff_monomial(s))
    yield less("0 against the coefficient of e", 0, polynomial.coeff_monomial(e))


def _gradient_share() -> Iterable[Comparison]:
    """delta phi = A x + c, A = S + K: c and S x are gradients; K x, K skew, is orthogonal to all of them in L2(p)."""
    for rows, columns in ((1, 2), (2, 2), (2, 3), (3, 2)):
        moved, reader = sympy.Matrix(generic(delta, rows, columns)), sympy.Matrix(generic(W, rows, columns))
        bias, point = sympy.Matrix(generic(b, columns, 1)), sympy.Matrix(generic(x, rows, 1))
        linear = moved * reader.T
        symmetric, skew, constant = (linear + linear.T) / 2, (linear - linear.T) / 2, moved * bias
        current = skew * point * sympy.exp(-(point.T * point)[0] / 2)
        divergence = sum(sympy.diff(entry, at) for entry, at in zip(current, point, strict=True))
        yield equal(f"divergence of p K x, d={rows}, m={columns}", sympy.simplify(divergence), 0)
        variances = dict.fromkeys(moved, sympy.Integer(1))
        gradient, whole = (
            average(sympy.expand(sum(entry**2 for entry in (*part, *constant))), variances)
            for part in (symmetric, linear)
        )
        norms = {SquaredNorm(symbol): sum(e**2 for e in matrix) for symbol, matrix in ((W, reader), (b, bias))}
        claimed = GRADIENT_SHARE.subs({d: rows} | norms)
        yield equal(f"share - the formula, d={rows}, m={columns}", sympy.simplify(gradient / whole - claimed), 0)
    at_zero = sympy.simplify(GRADIENT_SHARE.subs(SquaredNorm(b), 0) - (d + 1) / (2 * d))
    yield equal("the share at b = 0, minus (d + 1)/(2d)", at_zero, 0)
    dimensions = sympy.expand_func(LINEAR_DIMENSION.subs(rank, d)) / (d * m)
    yield equal("share of the dimensions, full rank", sympy.simplify(dimensions - (1 - (d - 1) / (2 * m))), 0)


def _minmax_rise_is_invariant() -> Iterable[Comparison]:
    """theta / a with a phi, one factor a: max|theta| falls by a and tr G rises by a^2, so the rise stays."""
    a = sympy.Symbol("a", positive=True)
    rise = DITHER_RISE.subs(q, STEP)
    moved = rise.subs({largest: largest / a, sympy.Trace(G): a**2 * sympy.Trace(G)}, simultaneous=True)
    yield equal("rise after rescaling - before", sympy.simplify(moved - rise), 0)


BECAUSE = "rounding of sums of at most 15 m terms, squared"


def _slack(instance: Quantised) -> float:
    step = instance.step
    return 1e-11 * instance.problem.size(np.abs(instance.theta) + step, np.abs(instance.theta) + step)


def check_dither(instance: Quantised) -> Iterable[Comparison]:
    """The mean loss over all dither errors, exactly, against the formula."""
    problem = instance.problem
    rise = numeric(DITHER_RISE, G, q, d, m)(problem.second_moment, instance.step, problem.d, problem.m)
    yield equal("mean rise, dither", instance.mean_rise(dither_errors(instance)), rise, _slack(instance), BECAUSE)


def check_stochastic(instance: Quantised) -> Iterable[Comparison]:
    """The mean loss over all outcomes of stochastic rounding, exactly, against the formula."""
    problem = instance.problem
    f, moment = (np.pad(array, ((1, 0), (1, 0))) for array in (instance.fractions, problem.second_moment))  # from 1
    rise = numeric(STOCHASTIC_RISE, q, fraction, second, d, m)(instance.step, f, moment, problem.d, problem.m)
    mean_rise = instance.mean_rise(stochastic_errors(instance))
    yield equal("mean rise, stochastic rounding", mean_rise, rise, _slack(instance), BECAUSE)


def grid_steps(weights: ndarray, number_of_bits: int) -> dict[str, float]:
    """q by either convention of min-max scaling."""
    largest_weight = float(np.abs(weights).max())
    return {
        "2 max/(2^bits - 1)": float(numeric(STEP, largest, bits)(largest_weight, number_of_bits)),
        "max/(2^(bits-1) - 1)": largest_weight / (2 ** (number_of_bits - 1) - 1),
    }


def check_worst_case(instance: Quantised) -> Iterable[Comparison]:
    """Plain rounding of a minimum by either convention, and the worst signs, against the bound."""
    yield from _against_worst_case(instance, instance.problem.minimum)


def check_worst_case_anywhere(instance: Quantised) -> Iterable[Comparison]:
    """The same of any theta."""
    yield from _against_worst_case(instance, instance.theta)


def _against_worst_case(instance: Quantised, weights: ndarray) -> Iterable[Comparison]:
    problem = instance.problem
    top, vectors = np.linalg.eigh(problem.second_moment)
    here = problem.loss(weights)
    signs = np.where(vectors[:, -1] < 0, -1.0, 1.0)
    for name, step in grid_steps(weights, 4).items():
        offset = 0.0 if name.startswith("max") else step / 2  # the first grid has no point at 0
        rounded = step * np.round((weights - offset) / step) + offset
        bound = float(_worst_case()(step, float(top[-1]), problem.d, problem.m))
        size = problem.size(np.abs(weights) + step, np.abs(weights) + step)
        for what, error in (("plain", rounded - weights), ("worst signs", np.tile(signs * step / 2, (problem.d, 1)))):
            furthest = float(2 * np.abs(error).max() / step)
            yield at_most(f"largest error over q/2, {what}, q = {name}", furthest, 1.0, 1e-9, "rounding of theta/q")
            rise = problem.loss(weights + error) - here
            yield at_most(f"rise, {what}, q = {name}", rise, bound, 1e-11 * size + 1e-9 * bound, BECAUSE)


def check_both(instance: Quantised) -> Iterable[Comparison]:
    """Dither and stochastic rounding of the same weights."""
    yield from check_dither(instance)
    yield from check_stochastic(instance)


@cache
def _worst_case() -> Callable[..., float]:
    """WORST_CASE of q, lambda_max(G), d and m."""
    top = sympy.Symbol("top")
    formula = WORST_CASE.subs(LargestEigenvalue(G), top)
    return cast(Callable[..., float], sympy.lambdify((q, top, d, m), formula))


def check_inadmissible(instance: strategies.Perturbed) -> Iterable[Comparison]:
    """The asymmetry of delta W^T lies above what counts as rounding."""
    product_ = instance.delta @ instance.W.T
    asymmetry = np.linalg.norm(product_ - product_.T) / (np.linalg.norm(instance.delta) * np.linalg.norm(instance.W))
    yield less("tolerance of admissibility, against the asymmetry", perturbations.ADMISSIBLE_TOLERANCE, asymmetry)


def check_gradient_share(instance: Isotropic) -> Iterable[Comparison]:
    """E|S|^2 + E|c|^2 over E|A|^2 + E|c|^2, each a sum over the entries of delta."""
    units = np.eye(instance.W.size).reshape(-1, *instance.W.shape) * instance.deviations[:, None]
    linear, constant = units @ instance.W.T, ((units @ instance.b) ** 2).sum()
    symmetric = (linear + linear.transpose(0, 2, 1)) / 2
    share = ((symmetric**2).sum() + constant) / ((linear**2).sum() + constant)
    claimed = _share()(instance.d, (instance.W**2).sum(), (instance.b**2).sum())
    yield equal("share of the field that is a gradient", share, claimed, 1e-12, "rounding")


@cache
def _share() -> Callable[..., float]:
    """GRADIENT_SHARE of d, |W|^2 and |b|^2."""
    sizes = sympy.symbols("W_squared b_squared")
    formula = GRADIENT_SHARE.subs({SquaredNorm(W): sizes[0], SquaredNorm(b): sizes[1]})
    return cast(Callable[..., float], sympy.lambdify((d, *sizes), formula))


def rounding_ratios(draws: int, seed: int) -> ndarray:
    """J of plain rounding over DITHER_RISE, for theta ~ N(0, 1) on a grid of step 1/2; d = 3, m = 16, ReLU."""
    generator = np.random.default_rng(seed)
    moment = feature_second_moment(generator.standard_normal((3, 16)), generator.standard_normal(16))
    weights = generator.standard_normal((draws, 3, 16))
    errors = np.round(2 * weights) / 2 - weights
    rises = ((errors @ moment) * errors).sum(axis=(1, 2)) / 16**2
    return rises / float(numeric(DITHER_RISE, G, q, d, m)(moment, 0.5, 3, 16))


STANDARD_ERRORS = 4


def _loss_falls_away_from_a_minimum() -> Iterable[Comparison]:
    """d = m = phi = 1, theta* = 0: theta uniform on (-q/2, q/2) is rounded to 0."""
    weight = sympy.Symbol("theta_1", real=True)
    half = (weight, -q / 2, q / 2)
    before, rise, energy = (sympy.integrate(value, half) / q for value in (weight**2, 0 - weight**2, (0 - weight) ** 2))
    yield equal("mean loss before rounding", sympy.simplify(before), q**2 / 12)
    yield equal("mean J of the errors, as for dither", sympy.simplify(energy), q**2 / 12)
    yield equal("mean rise of the loss: a fall", sympy.simplify(rise), -(q**2) / 12)


def _plain_rounding_of_minima() -> Iterable[Comparison]:
    """d = m = phi = 1, theta* uniform over a cell around each point: the rise is J of the error."""
    minimum = sympy.Symbol("theta_1", real=True)
    rise = sympy.integrate((0 - minimum) ** 2, (minimum, -q / 2, q / 2)) / q
    yield equal("mean rise over where the minimum lies", sympy.simplify(rise), q**2 / 12)


def _plain_rounding_on_average() -> Iterable[Comparison]:
    ratios = rounding_ratios(4000, seed=0)
    error = float(ratios.std(ddof=1)) / np.sqrt(len(ratios))
    # theta's density is smooth on the scale of the grid: its errors are uniform up to e^-79
    because = f"{STANDARD_ERRORS} standard errors of {len(ratios)} draws"
    mean = float(ratios.mean())
    yield equal("mean of plain rounding's rise over dither's", mean, 1.0, STANDARD_ERRORS * error, because)
    low, high = np.quantile(ratios, [0.05, 0.95])
    yield less("its 5% quantile: one theta may have much less", float(low), 0.8)
    yield less("1.2 against its 95% quantile: or much more", 1.2, float(high))


_loss = Expectation(p, Loss(theta, p))
_rounded = Expectation(delta, Expectation(p, Loss(theta + delta, p)))
_dithered = Implies(words("dither"), sympy.Eq(_rounded, _loss + DITHER_RISE, evaluate=False))
_stochastic = Implies(words("stochastic rounding"), sympy.Eq(_rounded, _loss + STOCHASTIC_RISE, evaluate=False))
_nearest = Implies(words("no error above q/2, at a minimum"), sympy.Le(SECOND_ORDER, WORST_CASE))

STATEMENT = Statement(
    label="theorem-t5",
    title="what quantisation costs",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "Independent uniform rounding raises the expected loss by (q^2/12)(d/m^2) E|phi|^2, exactly and at any theta. "
        "Rounding a minimum to the nearest point costs that on average over where it lies on the grid, and never more "
        "than (q^2/4)(d/m) lambda_max(G); elsewhere the loss may also fall. Theorem 3.3 does not cover it: such delta "
        "are inadmissible almost surely."
    ),
    printed=None,
    holds=Clauses(_dithered, _stochastic, _nearest),
    evidence=(
        machine_checked(
            "(i) for uncorrelated errors of dither's variance, (ii) over all outcomes, (iii) at a minimum",
            "quantisation.v",
            "dither_rise",
            "stochastic_rise",
            "worst_rounding",
            "min_max_rise_stays",
        ),
        machine_checked(
            "dither's error has mean 0 and variance 1/12 steps, as integrals, whatever the weight",
            "scalar.v",
            "dither_mean",
            "dither_variance",
        ),
        symbolic("the error of dither is uniform whatever the weight: moments 1, 2 and 4", _uniform_error_of_dither),
        symbolic("stochastic rounding has variance q^2 f(1 - f), on average twice dither's", _stochastic_variance),
        symbolic("both rises, from independent errors", _rises),
        symbolic("the worst case is the flat radius around the cube of errors", _worst_case_from_the_flat_radius),
        symbolic("with min-max scaling one factor a leaves the rise as it is", _minmax_rise_is_invariant),
        symbolic("the admissible delta have codimension above 0 for d >= 2, W not 0", _admissible_is_a_null_set),
        symbolic("of isotropic noise the share (d + 1)/(2d) is a gradient for b = 0, whatever W is", _gradient_share),
        holds_for_all("the mean rises under dither and stochastic rounding", quantised(), check_both),
        fails_without("errors independent: one offset for all weights", quantised(independent=False), check_dither),
        fails_without("errors independent: one draw for all", quantised(independent=False), check_stochastic),
        holds_for_all(
            "no rounding to the nearest point exceeds the worst case", quantised(shape=(5, 8)), check_worst_case
        ),
        holds_for_all("uniform errors are inadmissible for d >= 2", rounding_errors(), check_inadmissible),
        fails_without("d >= 2", rounding_errors(rows=(1, 2)), check_inadmissible),
        holds_for_all("the gradient share of isotropic noise, any W and b", isotropic(), check_gradient_share),
        fails_without("noise of the same size in every row", isotropic(equal_rows=False), check_gradient_share),
        quadrature("plain rounding: J has that mean over theta, not at each", _plain_rounding_on_average),
        symbolic("at a minimum that is the mean rise", _plain_rounding_of_minima),
        counterexample("elsewhere the loss may fall by as much", _loss_falls_away_from_a_minimum),
        fails_without("theta is a minimum", quantised(shape=(5, 8)), check_worst_case_anywhere),
    ),
)
