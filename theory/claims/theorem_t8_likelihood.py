"""Theorem T8: what noise on the weights of a diffusion model costs in likelihood, exactly.

Holds: (i) KL(P_theta || P_vartheta) = Sum(E_P_theta[|-epsilon_vartheta[t] + epsilon_theta[t]|^2]*w[t], (t, 1, T)); (ii) E_delta[gap(vartheta)] = Sum(R[t]*w[t], (t, 1, T)) + gap(theta) and E_delta[KL(q_0 || p_vartheta)] <= Sum(R[t]*w[t], (t, 1, T)) + gap(theta); (iii) linear readout implies Sum(R[t]*w[t], (t, 1, T)) = d*s^2*Sum(E_q[|phi[t]|^2]*w[t], (t, 1, T))/m^2

The sampler is DDPM's, x_(t-1) = (x_t - beta_t eps_theta / sqrt(1 - alpha_bar_t)) / sqrt(alpha_t) + sigma_t z, with
fixed variances sigma_t^2 > 0, and w_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)). P_theta is the law of its
whole path, p_theta that of x_0, q_0 the data's and q that of the data's path under noising; gap(theta) = KL(q ||
P_theta), the variational bound less the data's entropy; R_t = E_delta E_q |eps - eps_vartheta|^2 - E_q |eps
- eps_theta|^2, vartheta = theta + delta, the rise of the squared error at t, summed over coordinates.

(i) Any network. By the chain rule the divergence of two paths is the sum of their steps', and a step is a Gaussian
whose mean differs by beta_t (eps_theta - eps_vartheta) / sqrt(alpha_t (1 - alpha_bar_t)). (ii) Any network, any random
delta with any law: noise, dither, step noise. The cross-entropy to a Gaussian is quadratic in its mean, and forgetting
all but x_0 lowers a divergence. So the w-weighted rise of the low-pass filter is a number of nats. (iii) A linear
readout eps_theta = theta phi/m and independent noise of mean 0 and deviation s; rounding with dither of step q has
s^2 = q^2/12. Training's uniform weights over t are not those of the likelihood.

How tight: (i), (iii) and the identity in (ii) are exact; the inequality gives away what the path holds beyond x_0.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import cast

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.claims.theorem_t3_equal_flatness import average, noise
from theory.model import likelihood
from theory.model.gaussians import Gaussian, kl_divergence
from theory.proof import strategies
from theory.proof.machine_checked import machine_checked
from theory.proof.notation import KL, Both, Expectation, Implies, SquaredNorm, clauses, d, delta, m, words
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    at_most,
    counterexample,
    equal,
    fails_without,
    holds_for_all,
    symbolic,
)

t, T = sympy.symbols("t T", integer=True, positive=True)
beta, alpha, alpha_bar, sigma = (
    sympy.IndexedBase(name, positive=True) for name in ("beta", "alpha", "alphabar", "sigma")
)
weight, rise, energy = sympy.IndexedBase("w"), sympy.IndexedBase("R"), sympy.IndexedBase("phi")
one_noise, other_noise = sympy.IndexedBase("epsilon_theta"), sympy.IndexedBase("epsilon_vartheta")
path, other_path, data, samples = sympy.symbols("P_theta P_vartheta q_0 p_vartheta")
gap = sympy.Function("gap")
_here, _moved = sympy.symbols("theta vartheta")

WEIGHT = beta[t] ** 2 / (2 * sigma[t] ** 2 * alpha[t] * (1 - alpha_bar[t]))
"""w_t, in nats a squared error of 1."""
PATHS = sympy.Sum(weight[t] * Expectation(path, SquaredNorm(one_noise[t] - other_noise[t])), (t, 1, T))
NATS = sympy.Sum(weight[t] * rise[t], (t, 1, T))
READOUT = noise**2 * d / m**2 * sympy.Sum(weight[t] * Expectation(sympy.Symbol("q"), SquaredNorm(energy[t])), (t, 1, T))


def _step_weight() -> sympy.Expr:
    """WEIGHT in plain symbols b = beta_t, v = sigma_t^2, a = alpha_bar_{t-1}."""
    b, v, a = _PLAIN
    return WEIGHT.subs({beta[t]: b, sigma[t]: sympy.sqrt(v), alpha[t]: 1 - b, alpha_bar[t]: a * (1 - b)})


_PLAIN = sympy.symbols("beta variance alphabar_before", positive=True)


def _divergence_of_a_step() -> Iterable[Comparison]:
    """KL of two normal laws of one variance, the mean of log p - log p' under the first; then the means' difference."""
    b, v, a = _PLAIN
    x, mean, gap_ = sympy.symbols("x mu nu", real=True)
    ratio = ((x - mean - gap_) ** 2 - (x - mean) ** 2) / (2 * v)
    z = sympy.Symbol("z", real=True)
    kl = average(sympy.expand(ratio.subs(x, mean + sympy.sqrt(v) * z)), {z: sympy.Integer(1)})
    yield equal("KL of two steps - (difference of means)^2/(2 sigma^2)", sympy.simplify(kl - gap_**2 / (2 * v)), 0)
    one, other = sympy.symbols("e f", real=True)
    bar = a * (1 - b)
    means = [(x - b * value / sympy.sqrt(1 - bar)) / sympy.sqrt(1 - b) for value in (one, other)]
    cost = (means[0] - means[1]) ** 2 / (2 * v)
    yield equal("the same - w (eps - eps')^2", sympy.simplify(cost - _step_weight() * (one - other) ** 2), 0)


def _posterior_is_the_step_at_the_true_noise() -> Iterable[Comparison]:
    """The mean of q(x_{t-1} | x_t, x_0) is the sampler's with the noise that was added; so is x_0 itself at t = 1."""
    b, _, a = _PLAIN
    x, e = sympy.symbols("x e", real=True)
    bar = a * (1 - b)
    x_0 = (x - sympy.sqrt(1 - bar) * e) / sympy.sqrt(bar)
    posterior = (sympy.sqrt(a) * b * x_0 + sympy.sqrt(1 - b) * (1 - a) * x) / (1 - bar)
    step = (x - b * e / sympy.sqrt(1 - bar)) / sympy.sqrt(1 - b)
    yield equal("posterior's mean - the sampler's", sympy.simplify(posterior - step), 0)
    yield equal("at t = 1: x_0 - the sampler's mean", sympy.simplify((x_0 - step).subs(a, 1)), 0)


def _cross_entropy_is_quadratic() -> Iterable[Comparison]:
    """E(x - mu')^2/(2 v) for x of mean mu and any law less the same at mu'': the errors' squares, over 2 v."""
    _, v, _ = _PLAIN
    mean, spread, one, other = sympy.symbols("mu s2 mu_1 mu_2", real=True)

    def cost(at: sympy.Expr) -> sympy.Expr:
        return (spread + (mean - at) ** 2) / (2 * v)

    difference = cost(one) - cost(other) - ((mean - one) ** 2 - (mean - other) ** 2) / (2 * v)
    yield equal("difference of cross-entropies - that of squares", sympy.expand(difference), 0)


def _exact_chain() -> Iterable[Comparison]:
    """Three steps whose square roots are rational, eps_theta = k x + c: the paths' divergence as one Gaussian's."""
    bars = [sympy.Rational(16, 25), sympy.Rational(9, 25), sympy.Rational(25, 169)]
    before = [sympy.Integer(1), *bars[:-1]]
    betas = [1 - bar / last for bar, last in zip(bars, before, strict=True)]
    slopes = [[sympy.Rational(n, 7) for n in row] for row in ((1, 2, 3), (2, 2, 1))]
    shifts = [[sympy.Rational(n, 5) for n in row] for row in ((1, 0, -1), (0, 3, 1))]
    variances = [sympy.Rational(1, 3), sympy.Rational(1, 2), sympy.Rational(2, 3)]

    def steps(which: int) -> list[tuple[sympy.Expr, sympy.Expr]]:
        lines = []
        for index, (bar, b) in enumerate(zip(bars, betas, strict=True)):
            factor = b / sympy.sqrt(1 - bar)
            root = sympy.sqrt(1 - b)
            lines.append(((1 - factor * slopes[which][index]) / root, -factor * shifts[which][index] / root))
        return lines

    def joint(which: int) -> tuple[sympy.Matrix, sympy.Matrix]:
        """Mean and root L of the path (x_0, ..., x_3): x = mean + L z."""
        mean, root = sympy.zeros(4, 1), sympy.zeros(4, 4)
        root[3, 3] = 1
        for index in (2, 1, 0):
            slope, shift = steps(which)[index]
            mean[index] = slope * mean[index + 1] + shift
            root[index, :] = slope * root[index + 1, :]
            root[index, index] += sympy.sqrt(variances[index])
        return mean, root

    (mean, root), (other_mean, other_root) = joint(0), joint(1)
    inverse = other_root.inv()
    whitened = inverse * root
    # both roots are triangular with one diagonal: the determinants agree
    yield equal("determinant of the relative root", sympy.simplify(whitened.det()), 1)
    left = (sum(e**2 for e in whitened) - 4 + sum(e**2 for e in inverse * (mean - other_mean))) / 2
    right = 0
    for index in range(3):
        slope, shift = (row[0][index] - row[1][index] for row in (slopes, shifts))
        second = sum(e**2 for e in root[index + 1, :])
        square = slope**2 * second + (slope * mean[index + 1] + shift) ** 2
        b, v, a = _PLAIN
        own = _step_weight().subs({b: betas[index], v: variances[index], a: before[index]})
        right += own * square
    yield equal("KL of the paths - sum of w E(eps - eps')^2", sympy.simplify(left - right), 0)


@dataclass(frozen=True)
class Chain:
    """A Gaussian chain: data N(mean, covariance), a schedule, variances, and noise predictions K_t x + c_t.

    Args:
        mean, covariance: of the data, (d,) and (d, d).
        bars, variances: (T,).
        slopes, shifts: (n, T, d, d) and (n, T, d), of n models: theta and all theta + delta.
        chances: (n - 1,), of the deltas.
        true_variances: (n, T), those that the models sample with; the same for all unless that is dropped.
    """

    mean: ndarray
    covariance: ndarray
    bars: ndarray
    variances: ndarray
    slopes: ndarray
    shifts: ndarray
    chances: ndarray
    true_variances: ndarray

    @property
    def betas(self) -> ndarray:
        """beta (T,)."""
        return 1 - self.bars / np.concatenate([[1.0], self.bars[:-1]])

    @cached_property
    def data_path(self) -> Gaussian:
        """The law of (x_0, ..., x_T) under noising."""
        size, steps = len(self.mean), len(self.bars)
        means, root = [self.mean], [np.hstack([np.linalg.cholesky(self.covariance), np.zeros((size, size * steps))])]
        for index, beta_ in enumerate(self.betas):
            means.append(np.sqrt(1 - beta_) * means[-1])
            row = np.sqrt(1 - beta_) * root[-1]
            row[:, size * (index + 1) : size * (index + 2)] += np.sqrt(beta_) * np.eye(size)
            root.append(row)
        stacked = np.vstack(root)
        return Gaussian(np.concatenate(means), stacked @ stacked.T)

    def path(self, model: int) -> Gaussian:
        """The law of (x_0, ..., x_T) of a model's samples."""
        size, steps = len(self.mean), len(self.bars)
        means, roots = [np.zeros(size)], [np.hstack([np.zeros((size, size * steps)), np.eye(size)])]
        for index in range(steps - 1, -1, -1):
            factor = self.betas[index] / np.sqrt(1 - self.bars[index])
            linear = (np.eye(size) - factor * self.slopes[model, index]) / np.sqrt(1 - self.betas[index])
            shift = -factor * self.shifts[model, index] / np.sqrt(1 - self.betas[index])
            means.insert(0, linear @ means[0] + shift)
            row = linear @ roots[0]
            row[:, size * index : size * (index + 1)] += np.sqrt(self.true_variances[model, index]) * np.eye(size)
            roots.insert(0, row)
        stacked = np.vstack(roots)
        return Gaussian(np.concatenate(means), stacked @ stacked.T)

    def block(self, law: Gaussian, *steps: int) -> tuple[ndarray, ndarray]:
        """Mean and covariance of x at these steps, stacked."""
        size = len(self.mean)
        at = np.concatenate([np.arange(size * step, size * (step + 1)) for step in steps])
        return law.mean[at], law.covariance[np.ix_(at, at)]

    def squared_errors(self, model: int) -> ndarray:
        """E_q |eps - eps_model(x_t)|^2 for every t, (T,)."""
        law, errors = self.data_path, []
        for index, bar in enumerate(self.bars):
            mean, covariance = self.block(law, 0, index + 1)
            root = np.sqrt(1 - bar)
            size = len(self.mean)
            reader = np.hstack([-np.sqrt(bar) / root * np.eye(size), np.eye(size) / root - self.slopes[model, index]])
            error = reader @ mean - self.shifts[model, index]
            errors.append(float(np.trace(reader @ covariance @ reader.T) + error @ error))
        return np.array(errors)


@st.composite
def chains(draw: st.DrawFn, own_variances: bool = False) -> Chain:
    """One to four steps in one or two dimensions, schedules even and uneven; a law of delta on two points."""
    rng = np.random.default_rng(draw(strategies.seeds))
    size, steps = draw(st.integers(1, 2)), draw(st.integers(1, 4))
    root = rng.standard_normal((size, size))
    bars = np.sort(rng.uniform(0.05, 0.98, steps))[::-1]
    bars = bars * 0.97 ** np.arange(steps)  # never alike
    variances = rng.uniform(0.05, 1.5, steps)
    spread = draw(st.sampled_from([1e-2, 0.3, 1.0]))
    slopes = rng.standard_normal((3, steps, size, size))
    shifts = rng.standard_normal((3, steps, size))
    for moved in (1, 2):
        slopes[moved] = slopes[0] + spread * slopes[moved]
        shifts[moved] = shifts[0] + spread * shifts[moved]
    chance = draw(st.sampled_from([0.5, 0.1]))
    true = np.tile(variances, (3, 1))
    if own_variances:
        true = true * rng.uniform(0.5, 2, (3, steps))
    mean = rng.standard_normal(size)
    covariance = root @ root.T + 0.1 * np.eye(size)
    return Chain(mean, covariance, bars, variances, slopes, shifts, np.array([chance, 1 - chance]), true)


@cache
def _weights() -> Callable[..., ndarray]:
    """WEIGHT of beta, sigma, alpha and alpha_bar."""
    plain = sympy.symbols("b s a bar")
    formula = WEIGHT.subs(dict(zip((beta[t], sigma[t], alpha[t], alpha_bar[t]), plain, strict=True)))
    return cast(Callable[..., ndarray], sympy.lambdify(plain, formula, "numpy"))


def _weights_of(chain: Chain) -> ndarray:
    return np.ones(len(chain.bars)) * _weights()(chain.betas, np.sqrt(chain.variances), 1 - chain.betas, chain.bars)


BECAUSE = "rounding in covariances of at most 10 coordinates, relative to their condition"


def _slack(chain: Chain, *laws: Gaussian) -> float:
    condition = max(float(law._eigenvalues[-1] / law._eigenvalues[0]) for law in laws)
    return 1e-14 * condition * len(laws[0].mean)


def check_paths(chain: Chain) -> Iterable[Comparison]:
    """The divergence of two paths, as of two joint Gaussians, against the weighted squares under the first."""
    one, other = chain.path(0), chain.path(1)
    weights = _weights_of(chain)
    squares = []
    for index in range(len(chain.bars)):
        mean, covariance = chain.block(one, index + 1)
        slope, shift = chain.slopes[0, index] - chain.slopes[1, index], chain.shifts[0, index] - chain.shifts[1, index]
        error = slope @ mean + shift
        squares.append(float(np.trace(slope @ covariance @ slope.T) + error @ error))
    total = float(weights @ squares)
    slack = _slack(chain, one, other) * (1 + total)
    yield equal("KL of the paths", kl_divergence(one, other), total, slack, BECAUSE)
    function = likelihood.likelihood_weights(chain.bars, chain.variances)
    yield equal("the function's weights", function, weights, 1e-12 * float(weights.max()), "a few roundings")


def check_gap(chain: Chain) -> Iterable[Comparison]:
    """The gap's mean rise over delta against the weighted rises; the samples' divergence against gap and rise."""
    law, laws = chain.data_path, [chain.path(model) for model in range(3)]
    gaps = [kl_divergence(law, path_) for path_ in laws]
    errors = np.array([chain.squared_errors(model) for model in range(3)])
    nats = likelihood.likelihood_rise(chain.chances @ errors[1:] - errors[0], _weights_of(chain))
    slack = _slack(chain, law, *laws) * (1 + max(gaps) + float(_weights_of(chain) @ errors.max(axis=0)))
    yield equal("mean rise of the gap", float(chain.chances @ gaps[1:]) - gaps[0], nats, slack, BECAUSE)
    real = Gaussian(*chain.block(law, 0))
    divergences = [kl_divergence(real, Gaussian(*chain.block(path_, 0))) for path_ in laws]
    mean = float(chain.chances @ divergences[1:])
    yield at_most("mean divergence of the samples", mean, gaps[0] + nats, slack, BECAUSE)


@dataclass(frozen=True)
class Readout:
    """A readout at T steps on n equally likely samples: phi (T, n, m), targets (T, n, d), theta (d, m), weights (T,).

    Args:
        deviation: s, of independent noise; a step of rounding is s sqrt(12).
        mean: of the noise; 0 unless that is dropped.
    """

    features: ndarray
    targets: ndarray
    theta: ndarray
    weights: ndarray
    deviation: float
    mean: float = 0.0

    def loss(self, theta: ndarray) -> float:
        """The weighted loss, in nats."""
        errors = self.features @ theta.T / theta.shape[1] - self.targets
        return float(self.weights @ (errors**2).sum(axis=2).mean(axis=1))


@st.composite
def readouts(draw: st.DrawFn, mean: float = 0.0) -> Readout:
    """A few steps and samples; theta a minimum of the weighted loss, or not."""
    rng = np.random.default_rng(draw(strategies.seeds))
    steps, count, rows, columns = (draw(st.integers(1, most)) for most in (3, 4, 3, 4))
    features = np.maximum(rng.standard_normal((steps, count, columns)), 0)
    targets, weights = rng.standard_normal((steps, count, rows)), rng.exponential(size=steps)
    theta = rng.standard_normal((rows, columns))
    return Readout(features, targets, theta, weights, draw(st.sampled_from([1e-3, 0.1, 3.0])), mean)


@cache
def _readout_factor() -> Callable[..., float]:
    """READOUT over its sum, of s, d and m."""
    sum_ = next(iter(READOUT.atoms(sympy.Sum)))
    return cast(Callable[..., float], sympy.lambdify((noise, d, m), READOUT / sum_))


def check_readout(instance: Readout) -> Iterable[Comparison]:
    """The mean loss over noise in one weight at a time, exact for a quadratic; and a rounding against its bound."""
    theta, s = instance.theta, instance.deviation
    rows, columns = theta.shape
    steps = s * np.sqrt(theta.size) * np.eye(theta.size).reshape(-1, rows, columns)
    here = instance.loss(theta)
    losses = [instance.loss(theta + sign * step + instance.mean * s) for step in steps for sign in (1, -1)]
    energies = (instance.features**2).sum(axis=2).mean(axis=1)
    claimed = _readout_factor()(s, rows, columns) * float(instance.weights @ energies)
    because = "rounding of sums of some hundred products"
    slack = 1e-11 * (here + max(losses))
    yield equal("mean rise in nats", float(np.mean(losses)) - here, claimed, slack, because)
    function = likelihood.readout_rise(s**2, energies, instance.weights, rows, columns)
    yield equal("the function's", function, claimed, 1e-12 * claimed, "a few roundings")
    q = s * np.sqrt(12)
    rounded = q * np.round(theta / q)
    moments = np.einsum("tni,tnj->tij", instance.features, instance.features) / instance.features.shape[1]
    bound = likelihood.rounding_bound(q, moments, instance.weights, rows, here)
    yield at_most(
        "rise by rounding to the nearest", instance.loss(rounded) - here, bound, slack + 1e-11 * bound, because
    )
    at_minimum = likelihood.rounding_bound(q, moments, instance.weights, rows)
    root = np.sqrt(instance.weights / instance.features.shape[1])
    stacked = (instance.features * root[:, None, None]).reshape(-1, columns)
    wanted = (instance.targets * root[:, None, None]).reshape(-1, rows)
    best = columns * np.linalg.lstsq(stacked, wanted, rcond=None)[0].T
    worst = instance.loss(best + (q * np.round(best / q) - best)) - instance.loss(best)
    slack = 1e-10 * (1 + instance.loss(best) + at_minimum)
    yield at_most("the same at a minimum", worst, at_minimum, slack, because)


_paths = sympy.Eq(KL(path, other_path), PATHS, evaluate=False)
_risen = sympy.Eq(Expectation(delta, gap(_moved)), gap(_here) + NATS, evaluate=False)
_samples = sympy.Le(Expectation(delta, KL(data, samples)), gap(_here) + NATS)
_linear = Implies(words("linear readout"), sympy.Eq(NATS, READOUT, evaluate=False))

STATEMENT = Statement(
    label="theorem-t8",
    title="weight noise costs likelihood, exactly",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "A squared error of the predicted noise at step t costs w_t nats, so the w-weighted rise of the loss under any "
        "random perturbation of the weights is, exactly, the rise of the variational gap, and bounds the divergence of "
        "data and samples. It holds for every network, and certifies a rounded model's likelihood."
    ),
    printed=None,
    holds=clauses(_paths, Both(_risen, _samples), _linear),
    conditions=(
        "DDPM's sampler with fixed variances above 0",
        "(iii): noise on theta, independent, of mean 0",
    ),
    evidence=(
        machine_checked(
            "a step's divergence, its sum over the path for any two networks, and (iii)",
            "likelihood.v",
            "gaussian_kl",
            "step_identity",
            "path_kl",
            "likelihood_rise",
        ),
        symbolic("a step's divergence is w_t (eps - eps')^2", _divergence_of_a_step),
        symbolic("the posterior's mean is the sampler's at the true noise", _posterior_is_the_step_at_the_true_noise),
        symbolic("cross-entropies differ by squared errors", _cross_entropy_is_quadratic),
        counterexample("(i) in exact arithmetic, three steps", _exact_chain),
        holds_for_all("(i), both sides as of joint Gaussians", chains(), check_paths),
        fails_without("the models' variances are the weights'", chains(own_variances=True), check_paths),
        holds_for_all("(ii), a law of two deltas on joint Gaussians", chains(), check_gap),
        fails_without("the models' variances are the weights', for the gap", chains(own_variances=True), check_gap),
        holds_for_all("(iii), and rounding against its bounds", readouts(), check_readout),
        fails_without("noise of mean 0", readouts(mean=1.0), check_readout),
    ),
)
