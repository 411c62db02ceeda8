"""Theorem T12: what SAM penalises in denoising, and what that buys: the step noise that averages remove.

Holds: (i) theta at a minimum implies E_B[|g_B|^2] = 4*E_p[|phi|^2*|r|^2]/(B*m^2); (ii) rho*E_B[|g_B|] <= -E_p[L(x; theta, p)] + E_B[L(x; rho*u_B + theta, p)] and -E_p[L(x; theta, p)] + E_B[L(x; rho*u_B + theta, p)] <= rho*E_B[|g_B|] + rho^2*Trace(G)/m^2; (iii) L_w = eta*(Trace(M*Sigma) + Trace(C))/4; (iv) V_v = lambda*(1 + (1 - lambda)*(1 - eta*h))/((1 - (1 - lambda)*(1 - eta*h))*(2 - lambda)); (v) C_s = s^2*M + C

B samples a batch, drawn independently; g_B = grad L_B; r = theta phi/m - y the residual, y the noise that was added to
the data; rho SAM's radius, u_B = g_B/|g_B| its ascent, on the batch that the step is made on. L_w = E L(w) - L* of SGD's
stationary iterate at the rate eta, Sigma its covariance, C = Cov(g_B) and M = E[H_B^2] at the minimum; V_v the variance
of an average v <- (1 - lambda) v + lambda w over that of w, along an eigenvector of H = E H_B with eigenvalue h; C_s the
gradient's covariance where it is taken at w + s z, z noise of unit variance on every weight.

(i), (ii) A denoiser cannot interpolate: y is not a function of x_t, so |r|^2 has at least tr Cov(y | x_t) for its mean at
every x_t, and that mean at a Bayes-optimal readout. So first-order SAM's penalty is of first order in rho, never
vanishes, and scales as rho / sqrt(B), since E|g_B| <= sqrt(E|g_B|^2). (iii), (iv) The same E|g_B|^2 = tr C sets how far
the last iterate stays above the minimum, and an average keeps of it lambda/(lambda + eta h), to first order in both
rates: what SAM lowers is what separates raw weights from averaged ones. At small rates (eta/4) tr C over the readout's
rise s^2 (d/m^2) E|phi|^2 is eta E|r|^2|phi|^2 / (d B s^2 E|phi|^2), a constant while the residuals stay. (v) Noise moves
no minimiser of a quadratic loss and adds s^2 M to the gradient's noise. Where features are learnt both methods press on
their scale a, SAM's penalty with degree 1, noise's s^2 (d/m^2) E|phi|^2 with degree 2: at one pressure, s^2 = rho E|g_B|
m^2/(2 d E|phi|^2), noise's penalty is half of SAM's, for one pass in place of two. SGD is meant throughout; Adam weighs
H and C by a metric of its own.

How tight: (i), (iii), (iv) and (v) are identities. In (ii) batches of one reach the upper bound, and batches whose
features are orthogonal to u_B the lower; E|g_B| is at least (E|g_B|^2)^(3/2) / (E|g_B|^4)^(1/2).
"""  # noqa: E501

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import cast

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.claims.equation_9_random_feature_score import phi
from theory.claims.theorem_t3_equal_flatness import LPF_RISE, average, noise
from theory.claims.theorem_t6_sam import residual
from theory.model import step_noise
from theory.proof import strategies
from theory.proof.notation import (
    Both,
    Expectation,
    G,
    Implies,
    Loss,
    Norm,
    SquaredNorm,
    clauses,
    d,
    delta,
    generic,
    m,
    numeric,
    p,
    rho,
    theta,
    words,
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
    relative,
    symbolic,
)

B, size = sympy.symbols("B k", integer=True, positive=True)
rate, share_rate, curvature = sympy.symbols("eta lambda h", positive=True)
C, M, Sigma = (sympy.MatrixSymbol(name, size, size) for name in ("C", "M", "Sigma"))
batch_gradient, excess, remaining, gradient_noise = sympy.symbols("g_B L_w V_v C_s")

WEIGHTED_RESIDUAL = Expectation(p, SquaredNorm(residual) * SquaredNorm(phi))
"""E|r|^2 |phi|^2."""
GRADIENT_SQUARE = 4 * WEIGHTED_RESIDUAL / (m**2 * B)
"""E|grad L_B|^2 in theta, at a minimum over theta."""
FIRST_ORDER = rho * Expectation(B, Norm(batch_gradient))
REMAINDER = rho**2 * sympy.Trace(G) / m**2
"""What SAM's first-order step adds at most beyond FIRST_ORDER, theta alone being moved."""
EXCESS = rate / 4 * (sympy.Trace(C) + sympy.Trace(M * Sigma))
"""E L(w) - L* of SGD's stationary iterate."""
SHARE = (
    share_rate
    * (1 + (1 - share_rate) * (1 - rate * curvature))
    / ((2 - share_rate) * (1 - (1 - share_rate) * (1 - rate * curvature)))
)
"""What an exponential moving average keeps of the iterate's variance along an eigenvector of H."""
NOISY_GRADIENT = C + noise**2 * M
"""The covariance at w* of the batch's gradient at w* + s z."""
PENALTY = rho * sympy.sqrt(GRADIENT_SQUARE)
"""The bound of FIRST_ORDER by E|g_B|^2."""

SIZES = ((1, 1), (1, 2), (2, 2))


def _sample_gradient() -> Iterable[Comparison]:
    """The square of the gradient of one sample's loss |theta phi/m - y|^2."""
    for rows, columns in SIZES:
        weights, features = sympy.Matrix(generic(theta, rows, columns)), sympy.Matrix(generic(phi, columns, 1))
        error = weights * features / columns - sympy.Matrix(generic(residual, rows, 1))
        loss = (error.T * error)[0]
        square = sum(sympy.diff(loss, entry) ** 2 for entry in weights)
        claimed = GRADIENT_SQUARE.subs({B: 1, m: columns}).subs(
            WEIGHTED_RESIDUAL.subs(m, columns), (error.T * error)[0] * (features.T * features)[0]
        )
        yield equal(f"|grad|^2 - 4 |r|^2 |phi|^2/m^2, d={rows}, m={columns}", sympy.expand(square - claimed), 0)


def _batches_average_gradients() -> Iterable[Comparison]:
    """Two equally likely gradients, all batches listed: E|g_B|^2 = E|g|^2/B + (1 - 1/B)|E g|^2."""
    gradients = [sympy.Matrix(sympy.symbols(f"{name}_1:3", real=True)) for name in "gh"]
    mean = (gradients[0] + gradients[1]) / 2
    for count in (1, 2, 3):
        batches = list(itertools.product(gradients, repeat=count))
        sums = [sum(batch, sympy.zeros(2, 1)) / count for batch in batches]
        listed = sum((total.T * total)[0] for total in sums) / len(batches)
        single = sum((gradient.T * gradient)[0] for gradient in gradients) / 2
        claimed = single / count + (1 - sympy.Rational(1, count)) * (mean.T * mean)[0]
        yield equal(f"E|g_B|^2, batches of {count}: listed - formula", sympy.expand(listed - claimed), 0)


def _residual_is_at_least_the_posterior_variance() -> Iterable[Comparison]:
    """At one x_t: E|y - s|^2 = tr Cov(y) + |E y - s|^2, whatever s the network returns there."""
    weight = sympy.Symbol("w", positive=True)
    first, second, output = (sympy.Matrix(sympy.symbols(f"{name}_1:3", real=True)) for name in "yzs")

    def mean(one: sympy.Expr, other: sympy.Expr) -> sympy.Expr:
        return weight * one + (1 - weight) * other

    def square(vector: sympy.Matrix) -> sympy.Expr:
        return (vector.T * vector)[0]

    centre = mean(first, second)
    variance = mean(square(first - centre), square(second - centre))
    residual = mean(square(first - output), square(second - output))
    yield equal("E|y - s|^2 - tr Cov - |E y - s|^2", sympy.expand(residual - variance - square(centre - output)), 0)


def _ascent_is_linear_and_quadratic() -> Iterable[Comparison]:
    """L_B(theta + rho u) = L_B + rho <grad, u> + rho^2 mean |u phi|^2/m^2, and |u phi|^2 <= |u|^2 |phi|^2."""
    for rows, columns, count in ((1, 2, 2), (2, 2, 1)):
        weights, moved = (sympy.Matrix(generic(symbol, rows, columns)) for symbol in (theta, delta))
        features = [sympy.Matrix(sympy.symbols(f"f{i}_1:{columns + 1}", real=True)) for i in range(count)]
        targets = [sympy.Matrix(sympy.symbols(f"y{i}_1:{rows + 1}", real=True)) for i in range(count)]

        def loss(
            at: sympy.Matrix, features: list = features, targets: list = targets, columns: int = columns
        ) -> sympy.Expr:
            errors = [at * feature / columns - target for feature, target in zip(features, targets, strict=True)]
            return sum((error.T * error)[0] for error in errors) / len(errors)

        slope = sum(sympy.diff(loss(weights), entry) * move for entry, move in zip(weights, moved, strict=True))
        second = sum(((moved * f).T * (moved * f))[0] for f in features) / count / columns**2
        difference = loss(weights + rho * moved) - loss(weights) - rho * slope - rho**2 * second
        yield equal(f"rise - its two terms, d={rows}, m={columns}, B={count}", sympy.expand(difference), 0)
        for feature in features:
            slack = sum(e**2 for e in moved) * sum(e**2 for e in feature) - sum(e**2 for e in moved * feature)
            squares = sum(
                (moved[i, j] * feature[k] - moved[i, k] * feature[j]) ** 2
                for i in range(rows)
                for j in range(columns)
                for k in range(j)
            )
            yield equal("|u|^2 |phi|^2 - |u phi|^2 is a sum of squares", sympy.expand(slack - squares), 0)


def _stationary_excess() -> Iterable[Comparison]:
    """tr of the stationary equation H S + S H - eta E[H_B S H_B] = eta C is twice the excess's formula."""
    for length in (1, 2, 3):
        stack = []
        for name in ("H", "K", "S"):
            entries = sympy.Matrix(generic(sympy.MatrixSymbol(name, length, length), length, length))
            stack.append((entries + entries.T) / 2)
        one, other, covariance = stack
        mean = (one + other) / 2
        mixed = (one * covariance * one + other * covariance * other) / 2
        square = (one * one + other * other) / 2
        cost = (mean * covariance + covariance * mean - rate * mixed) / rate
        claimed = EXCESS.subs(size, length).subs(
            {sympy.MatrixSymbol(n, length, length): v for n, v in (("C", cost), ("M", square), ("Sigma", covariance))}
        )
        difference = sympy.expand((mean * covariance).trace() / 2 - claimed.doit())
        yield equal(f"tr(H Sigma)/2 - the formula, {length} weights, two Hessians", difference, 0)


def _share_of_an_average() -> Iterable[Comparison]:
    """v <- (1 - lambda) v + lambda w with w <- a w + xi, a = 1 - eta h: the stationary second moments solved for."""
    a, of_w, of_both, of_v = sympy.symbols("a V_w V_wv V_v")
    slow = 1 - share_rate
    equations = [
        of_both - (slow * a * of_both + share_rate * of_w),  # E w' v' = E w' ((1 - lambda) v + lambda w')
        of_v - (slow**2 * of_v + 2 * slow * share_rate * a * of_both + share_rate**2 * of_w),
    ]
    solved = sympy.solve(equations, [of_both, of_v], dict=True)[0][of_v] / of_w
    claimed = SHARE.subs(curvature, (1 - a) / rate)
    yield equal("variance of v over that of w - the formula", sympy.simplify(solved - claimed), 0)
    t = sympy.Symbol("t", positive=True)
    small = SHARE.subs({share_rate: t * share_rate, rate: t * rate}, simultaneous=True)
    limit = share_rate / (share_rate + rate * curvature)
    yield equal("its limit at small rates", sympy.simplify(sympy.limit(small, t, 0) - limit), 0)
    step, below = rate * curvature, rate * curvature * (1 - share_rate)
    error = step * share_rate * (below - share_rate) / ((2 - share_rate) * (share_rate + below) * (share_rate + step))
    yield equal("how far the limit is off, exactly", sympy.simplify(limit - SHARE - error), 0)


def _pressures_on_the_scale() -> Iterable[Comparison]:
    """phi -> a phi with theta/a: the penalties' slopes in log a, and the noise at which they agree."""
    a, energy, cross = sympy.symbols("a energy cross", positive=True)
    plain = {WEIGHTED_RESIDUAL: cross, sympy.Trace(G): energy}
    scaled = {cross: a**2 * cross, energy: a**2 * energy}
    slopes = []
    for name, formula, degree in (("SAM", PENALTY, 1), ("noise", LPF_RISE, 2)):
        penalty = formula.subs(plain)
        slope = sympy.diff(penalty.subs(scaled, simultaneous=True), a).subs(a, 1)
        yield equal(f"slope of {name}'s penalty over the penalty", sympy.simplify(slope / penalty), degree)
        slopes.append(slope)
    matched = sympy.sqrt(PENALTY.subs(plain) * m**2 / (2 * d * energy))
    yield equal("slopes at the matched noise", sympy.simplify((slopes[1] / slopes[0]).subs(noise, matched)), 1)
    ratio = (LPF_RISE / PENALTY).subs(plain).subs(noise, matched)
    yield equal("noise's penalty over SAM's there", sympy.simplify(ratio), sympy.Rational(1, 2))
    gap = (rate / 4 * GRADIENT_SQUARE / LPF_RISE).subs(plain)
    claimed = rate * cross / (d * B * noise**2 * energy)
    yield equal("(eta/4) tr C over the rise", sympy.simplify(gap - claimed), 0)


def _noise_on_a_quadratic() -> Iterable[Comparison]:
    """Two Hessians, two gradients that sum to 0: mean and covariance of g_i + s H_i z over z of covariance I."""
    z = sympy.symbols("z_1:3", real=True)
    moves = noise * sympy.Matrix(z)
    hessians = []
    for name in ("H", "K"):
        entries = sympy.Matrix(generic(sympy.MatrixSymbol(name, 2, 2), 2, 2))
        hessians.append((entries + entries.T) / 2)
    pull = sympy.Matrix(sympy.symbols("g_1:3", real=True))
    samples = [sign * pull + hessian * moves for sign, hessian in zip((1, -1), hessians, strict=True)]
    unit = dict.fromkeys(z, sympy.Integer(1))
    for i in range(2):
        mean = sum(average(sympy.expand(sample[i]), unit) for sample in samples) / 2
        yield equal(f"mean of the gradient at the minimum, entry {i}", mean, 0)
        for j in range(i + 1):
            covariance = sum(average(sympy.expand(sample[i] * sample[j]), unit) for sample in samples) / 2
            squares = sum((hessian * hessian)[i, j] for hessian in hessians) / 2
            claimed = pull[i] * pull[j] + noise**2 * squares
            yield equal(f"covariance - C - s^2 M, entry {i}{j}", sympy.expand(covariance - claimed), 0)


def _where_it_is_reached() -> Iterable[Comparison]:
    """d = m = 1, phi = 1, y = +-1, theta = 0, the minimum; batches of one; and the same with y a function of x."""
    radius = sympy.Rational(1, 10)
    losses = [(sign * radius * 1 + sign) ** 2 for sign in (1, -1)]  # r = -y, and the step goes along r
    rise = sympy.Rational(sum(losses), 2) - 1
    upper = radius * 2 + REMAINDER.subs({rho: radius, m: 1, sympy.Trace(G): 1})
    yield equal("rise by SAM's step, against the upper bound", rise, upper)
    penalty = PENALTY.subs({rho: radius, m: 1, B: 1}).subs(WEIGHTED_RESIDUAL.subs(m, 1), 1)
    yield equal("rho E|g| against rho sqrt(E|g|^2)", 2 * radius, penalty)
    interpolating = GRADIENT_SQUARE.subs({m: 1, B: 1}).subs(WEIGHTED_RESIDUAL.subs(m, 1), 0)
    yield equal("E|g|^2 where every sample is fitted, as no denoiser can", interpolating, sympy.Integer(0))
    bar = sympy.Rational(1, 5)  # data at +-1 are equally likely given x_t = 0; the noise is (x_t - sqrt(bar) x_0)/...
    noises = [(0 - sympy.sqrt(bar) * x_0) / sympy.sqrt(1 - bar) for x_0 in (1, -1)]
    yield equal("mean of the noise given x_t = 0, data at +-1", sum(noises), 0)
    yield less("0 against its variance, which no denoiser removes", 0, sum(value**2 for value in noises) / 2)


@dataclass(frozen=True)
class Denoising:
    """Equally likely samples (x, y), several y for an x, a readout theta, batches of B, and SAM's radius.

    Args:
        features: (n, m), phi at every x.
        targets: (n, k, d), the y's at every x.
        theta: (d, m).
        batch: B.
        radius: rho.
        replacement: whether a batch may hold a sample twice.
    """

    features: ndarray
    targets: ndarray
    theta: ndarray
    batch: int
    radius: float
    replacement: bool = True

    @cached_property
    def residuals(self) -> ndarray:
        """(N, d), of every sample."""
        outputs = self.features @ self.theta.T / self.features.shape[1]
        return (outputs[:, None] - self.targets).reshape(-1, self.targets.shape[2])

    @cached_property
    def repeated(self) -> ndarray:
        """(N, m), phi of every sample."""
        return np.repeat(self.features, self.targets.shape[1], axis=0)

    @property
    def batches(self) -> ndarray:
        """(number, B), every batch there is."""
        samples = range(len(self.residuals))
        if self.replacement:
            return np.array(list(itertools.product(samples, repeat=self.batch)))
        return np.array(list(itertools.permutations(samples, self.batch)))


@st.composite
def denoising(draw: st.DrawFn, minimum: bool = True, replacement: bool = True) -> Denoising:
    """Up to three x with two y each; dead and repeated features; a minimum over theta, or elsewhere."""
    rng = np.random.default_rng(draw(strategies.seeds))
    rows, columns, count = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    features = np.maximum(rng.standard_normal((count, columns)), 0) * draw(st.sampled_from([1.0, 0.1, 30.0]))
    targets = rng.standard_normal((count, 2, rows))
    theta_value = rng.standard_normal((rows, columns))
    if minimum:
        theta_value = np.linalg.lstsq(features / columns, targets.mean(axis=1), rcond=None)[0].T
    batch = draw(st.integers(1, 3))
    batch = batch if replacement else min(batch, 2 * count)
    return Denoising(features, targets, theta_value, batch, draw(st.sampled_from([1e-3, 0.1, 3.0])), replacement)


BECAUSE = "rounding of sums of some hundred products"


def check_gradient(instance: Denoising) -> Iterable[Comparison]:
    """E|g_B|^2 over all batches against the formula, and its part that no readout removes."""
    width, rows = instance.features.shape[1], instance.residuals
    gradients = 2 / width * rows[:, :, None] * instance.repeated[:, None, :]
    square = float((gradients[instance.batches].mean(axis=1) ** 2).sum(axis=(1, 2)).mean())
    weighted = float(((rows**2).sum(axis=1) * (instance.repeated**2).sum(axis=1)).mean())
    claimed = _square()(weighted, width, instance.batch)
    slack = 1e-11 * (4 / width**2 * weighted + abs(claimed) + 1e-12)
    yield equal("E|g_B|^2", square, claimed, slack, BECAUSE)
    function = step_noise.gradient_second_moment(rows, instance.repeated, instance.batch)
    yield equal("the function's", function, claimed, slack, BECAUSE)
    variances = ((instance.targets - instance.targets.mean(axis=1, keepdims=True)) ** 2).sum(axis=2).mean(axis=1)
    floor = float((variances * (instance.features**2).sum(axis=1)).mean())
    yield at_most("E tr Cov(y | x) |phi|^2", floor, weighted, relative(weighted, 1e-11), BECAUSE)


_WEIGHTED = sympy.Symbol("weighted")


@cache
def _square() -> Callable[..., float]:
    """GRADIENT_SQUARE of E|r|^2 |phi|^2, m and B."""
    formula = GRADIENT_SQUARE.subs(WEIGHTED_RESIDUAL, _WEIGHTED)
    return cast(Callable[..., float], sympy.lambdify((_WEIGHTED, m, B), formula))


def check_ascent(instance: Denoising) -> Iterable[Comparison]:
    """First-order SAM's mean loss over all batches, each step made, between its two bounds."""
    width, errors, features = instance.features.shape[1], instance.residuals, instance.repeated
    gradients = 2 / width * errors[:, :, None] * features[:, None, :]
    batches = instance.batches
    steps = gradients[batches].mean(axis=1)
    lengths = np.sqrt((steps**2).sum(axis=(1, 2)))
    steps = steps * (instance.radius / np.where(lengths > 0, lengths, 1.0))[:, None, None]
    moved = errors[batches] + np.einsum("bdm,bim->bid", steps, features[batches]) / width
    rise = float(((moved**2).sum(axis=2) - (errors[batches] ** 2).sum(axis=2)).mean())
    mean_length, energy = float(lengths.mean()), float((features**2).sum(axis=1).mean())
    rest = float(numeric(REMAINDER, G, rho, m)(np.diag([energy]), instance.radius, width))
    first = instance.radius * mean_length
    slack = 1e-11 * (float((errors**2).sum(axis=1).mean()) + first + rest)
    yield at_most("rho E|g_B| against SAM's rise", first, rise, slack, BECAUSE)
    yield at_most("SAM's rise against the upper bound", rise, first + rest, slack, BECAUSE)
    square, fourth = float((lengths**2).mean()), float((lengths**4).mean())
    yield at_most("E|g_B| against its bound", mean_length, float(np.sqrt(square)), 1e-11 * mean_length, BECAUSE)
    least = square**1.5 / np.sqrt(fourth) if fourth > 0 else 0.0
    yield at_most("its least, by the fourth moment, against E|g_B|", least, mean_length, 1e-11 * mean_length, BECAUSE)


@dataclass(frozen=True)
class Descent:
    """SGD on quadratic losses: Hessians (n, k, k) and gradients at the minimum (n, k) of equally likely samples.

    Args:
        hessians, gradients: as above.
        batch, rate, decay: B, eta, and 1 - lambda of the average.
        deviation: s of noise on the weights, where the gradient is taken.
        repeats: how many steps in a row are made on a batch.
    """

    hessians: ndarray
    gradients: ndarray
    batch: int
    rate: float
    decay: float
    deviation: float
    repeats: int = 1

    @property
    def batches(self) -> list[tuple[ndarray, ndarray]]:
        """Every batch's Hessian and gradient."""
        every = itertools.product(range(len(self.hessians)), repeat=self.batch)
        return [(self.hessians[list(at)].mean(axis=0), self.gradients[list(at)].mean(axis=0)) for at in every]


@st.composite
def descents(draw: st.DrawFn, repeats: int = 1) -> Descent:
    """Two or three samples; Hessians positive definite, alike or not; rates from small to near the edge."""
    rng = np.random.default_rng(draw(strategies.seeds))
    length, count, batch = draw(st.integers(1, 3)), draw(st.integers(2, 3)), draw(st.integers(1, 2))
    roots = rng.standard_normal((count, length, length))
    hessians = roots @ roots.transpose(0, 2, 1) + 0.05 * np.eye(length)
    if draw(st.booleans()):
        hessians = np.tile(hessians[0], (count, 1, 1))
    gradients = rng.standard_normal((count, length))
    gradients = gradients - gradients.mean(axis=0)
    # E|w' - w*|^2 shrinks at every w for eta below 2 lambda_min / lambda_max^2, the largest over the samples
    largest = (
        2 * float(np.linalg.eigvalsh(hessians.mean(axis=0))[0]) / float(np.linalg.norm(hessians, 2, (1, 2)).max()) ** 2
    )
    share, decay = draw(st.sampled_from([0.01, 0.3, 0.9])), draw(st.sampled_from([0.0, 0.5, 0.99]))
    return Descent(hessians, gradients, batch, share * largest, decay, draw(st.sampled_from([0.1, 2.0])), repeats)


def second_moments(instance: Descent) -> ndarray:
    """The stationary E[(w, v)(w, v)^T] about the minimum, (2k, 2k): one linear system, from every batch's own step."""
    length = instance.hessians.shape[1]
    identity, slow = np.eye(length), instance.decay
    linear, constant = np.zeros(((2 * length) ** 2,) * 2), np.zeros((2 * length, 2 * length))
    batches = instance.batches
    for hessian, gradient in batches:
        step, push = identity - instance.rate * hessian, -instance.rate * gradient
        joint = np.block([[step, 0 * identity], [(1 - slow) * step, slow * identity]])
        shift = np.concatenate([push, (1 - slow) * push])
        total, moved = np.eye(2 * length), np.zeros(2 * length)
        for _ in range(instance.repeats):
            total, moved = joint @ total, joint @ moved + shift
        linear += np.kron(total, total) / len(batches)
        constant += np.outer(moved, moved) / len(batches)
    solved = np.linalg.solve(np.eye(len(linear)) - linear, constant.ravel())
    return solved.reshape(2 * length, 2 * length)


def check_stationary(instance: Descent) -> Iterable[Comparison]:
    """The excess of the last iterate and of its average from every batch's step, against the formulas."""
    length = instance.hessians.shape[1]
    joint = second_moments(instance)
    hessian = instance.hessians.mean(axis=0)
    raw, averaged = (
        float(np.trace(hessian @ block)) / 2 for block in (joint[:length, :length], joint[length:, length:])
    )
    law = step_noise.stationary_sgd(instance.hessians, instance.gradients, instance.rate, instance.batch)
    claimed = float(numeric(EXCESS, C, M, Sigma, rate)(law.noise, law.mean_square, law.covariance, instance.rate))
    because = "rounding of linear systems of at most 36 unknowns, over 1 - their largest factor, at least 1e-4"
    yield equal("excess of w", raw, claimed, relative(claimed, 1e-8, 1e-12), because)
    yield equal("tr(H Sigma)/2 of the function", law.excess, claimed, relative(claimed, 1e-8, 1e-12), because)
    curvatures = np.linalg.eigvalsh(hessian)
    shares = numeric(SHARE, share_rate, rate, curvature)(1 - instance.decay, instance.rate, curvatures)
    expected = step_noise.averaged_excess(hessian, law.covariance, shares)
    yield equal("excess of v", averaged, expected, relative(expected, 1e-8, 1e-12), because)


def check_noisy_gradient(instance: Descent) -> Iterable[Comparison]:
    """The covariance over all batches of their gradients at w* + s z, z = +-sqrt(k) along one weight at a time."""
    length, s = instance.hessians.shape[1], instance.deviation
    moves = s * np.sqrt(length) * np.concatenate([np.eye(length), -np.eye(length)])
    samples = np.concatenate([gradient + moves @ hessian for hessian, gradient in instance.batches])
    law = step_noise.stationary_sgd(instance.hessians, instance.gradients, instance.rate, instance.batch)
    claimed = numeric(NOISY_GRADIENT, C, M, noise)(law.noise, law.mean_square, s)
    slack = 1e-11 * float(np.abs(claimed).max())
    yield equal("mean of the gradient", samples.mean(axis=0), 0.0, 1e-11 * float(np.abs(samples).max()), BECAUSE)
    yield equal("its covariance", samples.T @ samples / len(samples), claimed, slack, BECAUSE)


_square_at_a_minimum = Implies(
    words("theta at a minimum"),
    sympy.Eq(Expectation(B, SquaredNorm(batch_gradient)), GRADIENT_SQUARE, evaluate=False),
)
_ascended = Expectation(B, Loss(theta + rho * sympy.MatrixSymbol("u_B", d, m), p)) - Expectation(p, Loss(theta, p))
_rise = Both(sympy.Le(FIRST_ORDER, _ascended), sympy.Le(_ascended, FIRST_ORDER + REMAINDER))
_excess = sympy.Eq(excess, EXCESS, evaluate=False)
_share = sympy.Eq(remaining, SHARE, evaluate=False)
_noisy = sympy.Eq(gradient_noise, NOISY_GRADIENT, evaluate=False)

STATEMENT = Statement(
    label="theorem-t12",
    title="what SAM penalises in denoising, and what that buys",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "First-order SAM adds rho E|grad L_B| to a denoiser's loss: of first order in rho, scaling as rho / sqrt(B), "
        "and never zero, since a denoiser cannot interpolate. The same E|grad L_B|^2 sets how far SGD's last iterate "
        "stays above the minimum, of which an average keeps, at small rates, the share lambda/(lambda + eta h): SAM "
        "lowers what separates raw weights from averaged ones. Weight noise presses on the features' scale at half the "
        "penalty."
    ),
    printed=None,
    holds=clauses(_square_at_a_minimum, _rise, _excess, _share, _noisy),
    conditions=(
        "batches are independent draws, anew at every step",
        "(i), (ii): theta is the readout, and alone is moved; (i) at a minimum over it",
        "(iii) to (v): losses quadratic in the weights, SGD at a constant rate at which second moments have a limit",
    ),
    evidence=(
        symbolic("|grad|^2 of one sample is 4 |r|^2 |phi|^2/m^2", _sample_gradient),
        symbolic("the mean of B independent gradients, all batches listed", _batches_average_gradients),
        symbolic("E|r|^2 at one x_t is at least tr Cov(y | x_t)", _residual_is_at_least_the_posterior_variance),
        symbolic("the ascent adds rho |g_B| and a rest of at most rho^2 E|phi|^2/m^2", _ascent_is_linear_and_quadratic),
        symbolic("the trace of the stationary equation is the excess", _stationary_excess),
        symbolic("an average's share, solved for, and its limit", _share_of_an_average),
        symbolic("noise on a quadratic loss: no drift, s^2 M more noise", _noise_on_a_quadratic),
        symbolic("SAM's penalty is of degree 1 in the features' scale, noise's of degree 2", _pressures_on_the_scale),
        counterexample("how tight: batches of one reach the upper bound", _where_it_is_reached),
        holds_for_all("E|g_B|^2, all batches listed", denoising(), check_gradient),
        fails_without("theta at a minimum", denoising(minimum=False), check_gradient),
        fails_without("independent draws: without replacement", denoising(replacement=False), check_gradient),
        holds_for_all("first-order SAM's mean loss, every batch's step made", denoising(minimum=False), check_ascent),
        holds_for_all(
            "excess of the last iterate and of its average, from every batch's step", descents(), check_stationary
        ),
        fails_without("a batch drawn anew at every step", descents(repeats=2), check_stationary),
        holds_for_all("noise on the weights, every batch and weight", descents(), check_noisy_gradient),
    ),
)
