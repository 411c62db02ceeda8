"""Theorem T13: closed forms: the low-pass filter of a two-layer network, and input perturbation's optimum.

Holds: (i) LPF = E_p[Sum(|theta[j]|^2*(-F[j]^2 + S[j]), (j, 1, m))]/m^2 + d*s^2*E_p[Sum(S[j], (j, 1, m))]/m^2 + E_p[|-y + Sum(F[j]*theta[j], (j, 1, m))/m|^2]; (ii) E_z[max(z, 0)] = mu*Phi(mu/tau) + tau*phi(mu/tau); (iii) E_z[max(z, 0)^2] = (mu^2 + tau^2)*Phi(mu/tau) + mu*tau*phi(mu/tau); (iv) eps_IP = eps*(x; (1 + g^2)*(1 - alphabar))/sqrt(1 + g^2)

(i) s = theta max(W^T x + b, 0)/m, independent noise of deviation s on every entry of theta and u on every entry of W,
at any size of the noise, any p, any weights: F_j and S_j are the means of max(z, 0) and of its square for z ~ N(w_j^T x +
b_j, u^2 |x|^2), which are (ii) and (iii) with mu and tau for z's mean and deviation, Phi and phi the normal's
distribution and density. At u = 0 the noise on theta leaves T3's rise; with noise on U too |x|^2 becomes |x|^2 + |e|^2.
(iv) Input perturbation (DDPM-IP) trains on x = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) (eps + g xi), xi ~ N(0, I), with
eps for the target. Its optimum eps_IP is the exact noise prediction eps* of a process whose noise has the variance
(1 - alpha_bar)(1 + g^2), over sqrt(1 + g^2): a blurrier score, shrunk. So IP is a bias of the fit; it flattens nothing.

How tight: all are identities.
"""  # noqa: E501

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray

from theory.claims.theorem_t3_equal_flatness import LPF_RISE, average
from theory.claims.theorem_t3_equal_flatness import noise as theta_noise
from theory.model.smoothed_relu import smoothed_relu, two_layer_low_pass_filter
from theory.proof import strategies
from theory.proof.notation import Expectation, G, Norm, SquaredNorm, clauses, d, j, m, operator, p
from theory.proof.statement import (
    Comparison,
    Statement,
    Verdict,
    equal,
    fails_without,
    holds_for_all,
    quadrature,
    symbolic,
)

mu = sympy.Symbol("mu", real=True)
tau, spread, g = sympy.symbols("tau u g", positive=True)
bar = sympy.Symbol("alphabar", positive=True)
first, second, output = (sympy.IndexedBase(name) for name in ("F", "S", "theta"))
z, filtered, error = sympy.symbols("z LPF y")
Cumulative = operator("Cumulative", r"\Phi\left({0}\right)", "Phi({0})")
Density = operator("NormalDensity", r"\varphi\left({0}\right)", "phi({0})")
Positive = operator("Positive", r"\max\left({0}, 0\right)", "max({0}, 0)")
ideal, perturbed = sympy.symbols("eps^* eps_IP")
Exact = operator("ExactNoise", r"\epsilon^*\left(x;\, {0}\right)", "eps*(x; {0})")

FIRST = mu * Cumulative(mu / tau) + tau * Density(mu / tau)
SECOND = (mu**2 + tau**2) * Cumulative(mu / tau) + mu * tau * Density(mu / tau)
_mean = sympy.Sum(first[j] * output[j], (j, 1, m)) / m - error
LPF = (
    Expectation(p, SquaredNorm(_mean))
    + Expectation(p, sympy.Sum(Norm(output[j]) ** 2 * (second[j] - first[j] ** 2), (j, 1, m))) / m**2
    + theta_noise**2 * d / m**2 * Expectation(p, sympy.Sum(second[j], (j, 1, m)))
)
VARIANCE = (1 - bar) * (1 + g**2)
"""Of the noise in what IP's network reads."""
SHRINKAGE = 1 / sympy.sqrt(1 + g**2)
PERTURBED_OPTIMUM = SHRINKAGE * Exact(VARIANCE)


def _plain(formula: sympy.Expr) -> sympy.Expr:
    """Phi and phi as sympy's own functions."""
    cumulative = (1 + sympy.erf(mu / tau / sympy.sqrt(2))) / 2
    density = sympy.exp(-((mu / tau) ** 2) / 2) / sympy.sqrt(2 * sympy.pi)
    return formula.subs({Cumulative(mu / tau): cumulative, Density(mu / tau): density})


def _moments_solve_the_heat_equation() -> Iterable[Comparison]:
    """A Gaussian mean f(mu, v) of v = tau^2 has df/dv = f''/2; and f -> max(mu, 0)^k as tau -> 0 decides which."""
    for name, formula, power in (("first", FIRST, 1), ("second", SECOND, 2)):
        plain = _plain(formula)
        heat = sympy.diff(plain, tau) / (2 * tau) - sympy.diff(plain, mu, 2) / 2
        yield equal(f"{name} moment: heat equation", sympy.simplify(heat), 0)
        size = sympy.Symbol("size", positive=True)
        for sign in (1, -1):
            limit = sympy.limit(plain.subs(mu, sign * size), tau, 0)
            yield equal(f"{name} moment at no noise, mean {sign} size", limit, size**power if sign == 1 else 0)


def _written_out(
    theta: sympy.Matrix, target: sympy.Matrix, means: dict[int, sympy.Symbol], squares: dict[int, sympy.Symbol]
) -> sympy.Expr:
    """LPF at one x with all entries named."""
    rows, columns = theta.shape
    explicit = LPF.replace(Expectation, lambda _, inside: inside).subs({d: rows, m: columns}).doit()
    explicit = explicit.subs({first[k]: mean for k, mean in means.items()} | {second[k]: s for k, s in squares.items()})

    def squared(vector: sympy.Expr) -> sympy.Expr:
        entries = [{output[k + 1]: theta[i, k] for k in range(columns)} | {error: target[i]} for i in range(rows)]
        return sum(vector.subs(values) ** 2 for values in entries)

    lengths = {Norm(output[k + 1]): sympy.sqrt(sum(e**2 for e in theta[:, k])) for k in range(columns)}
    return sympy.expand(explicit.subs(lengths).replace(SquaredNorm, squared))


def _loss_of_independent_features() -> Iterable[Comparison]:
    """|(theta + delta) f/m - y|^2, f_j of means F_j and second moments S_j, delta of variance s^2, all independent."""
    for rows, columns in ((1, 2), (2, 2)):
        theta = sympy.Matrix(rows, columns, lambda i, k: sympy.Symbol(f"theta_{i}{k}", real=True))
        target = sympy.Matrix(sympy.symbols(f"y_1:{rows + 1}", real=True))
        means, squares = (sympy.symbols(f"{name}_1:{columns + 1}", real=True) for name in "FS")
        moves = sympy.Matrix(rows, columns, lambda i, k: sympy.Symbol(f"delta_{i}{k}", real=True))
        waves = sympy.symbols(f"v_1:{columns + 1}", real=True)
        features = sympy.Matrix([mean + wave for mean, wave in zip(means, waves, strict=True)])
        residual = (theta + moves) * features / columns - target
        loss = sympy.expand((residual.T * residual)[0])
        over_theta = average(loss, dict.fromkeys(moves, theta_noise**2))
        variances = {w: s - f**2 for w, s, f in zip(waves, squares, means, strict=True)}
        mean_loss = average(sympy.expand(over_theta), variances)
        claimed = _written_out(theta, target, dict(enumerate(means, 1)), dict(enumerate(squares, 1)))
        yield equal(f"mean loss - the three terms, d={rows}, m={columns}", sympy.expand(mean_loss - claimed), 0)


def _without_noise_on_the_features() -> Iterable[Comparison]:
    """u = 0: S_j = F_j^2 = phi_j^2, the second term is 0 and the third T3's."""
    energy = sympy.Symbol("energy")
    sums = LPF.atoms(sympy.Sum)
    third = next(s for s in sums if s.function == second[j])
    rise = theta_noise**2 * d / m**2 * Expectation(p, third)
    yield equal("third term is in the formula", LPF.coeff(Expectation(p, third)), theta_noise**2 * d / m**2)
    claimed = LPF_RISE.subs(sympy.Trace(G), energy)
    yield equal("third term - T3's rise", rise.subs(Expectation(p, third), energy) - claimed, 0)


def _noise_given_the_sum() -> Iterable[Comparison]:
    """E[eps | eps + g xi]: the slope of least squares, Cov/Var, and what it leaves is uncorrelated with the sum."""
    covariance, variance = sympy.Integer(1), 1 + g**2
    slope = covariance / variance
    # eps' = (eps + g xi)/sqrt(1 + g^2) is the standard noise that x holds with the variance (1 - bar)(1 + g^2)
    yield equal("E[eps | eps'] over eps'", sympy.simplify(slope * sympy.sqrt(variance) - SHRINKAGE), 0)
    yield equal("variance of the noise in x", sympy.expand((1 - bar) * variance - VARIANCE), 0)
    yield equal("covariance of what is left with the sum", sympy.expand(covariance - slope * variance), 0)


def _gaussian_data() -> Iterable[Comparison]:
    """x_0 ~ N(0, v): both predictions by their covariances with x."""
    v = sympy.Symbol("v", positive=True)
    total = bar * v + VARIANCE
    direct = sympy.sqrt(1 - bar) / total  # Cov(eps, x)/Var x
    exact = sympy.sqrt(VARIANCE) / total  # the exact prediction of standard noise of that variance
    yield equal("IP's slope - the formula", sympy.simplify(direct - SHRINKAGE * exact), 0)


@dataclass(frozen=True)
class NoisyNetwork(strategies.Model):
    """A network of one or two neurons, points and targets, and noise.

    Args:
        theta: (d, m).
        x, y: (n, d).
        theta_noise, W_noise: deviations.
        shared: whether all neurons get one noise; they do not unless that is dropped.
    """

    theta: ndarray
    x: ndarray
    y: ndarray
    theta_noise: float
    W_noise: float
    shared: bool = False


@st.composite
def noisy_networks(draw: st.DrawFn, shared: bool = False) -> NoisyNetwork:
    """Noise from none to many times the weights; neurons on, off and at the kink."""
    rng = np.random.default_rng(draw(strategies.seeds))
    rows, columns, count = draw(st.integers(1, 2)), 2 if shared else draw(st.integers(1, 2)), draw(st.integers(1, 3))
    W, theta = rng.standard_normal((2, rows, columns))
    b = rng.standard_normal(columns) * draw(st.sampled_from([0.0, 1.0, 5.0]))
    x, y = rng.standard_normal((2, count, rows))
    levels = st.sampled_from([0.0, 0.05, 1.0, 5.0])
    return NoisyNetwork(W, b, theta, x, y, draw(levels), draw(levels), shared)


_NODES, _SHARES = np.polynomial.legendre.leggauss(16)
REACH = 8.5
"""Deviations of a normal law that quadrature covers; what lies outside weighs 2e-17."""


def _normal_nodes(mean: float, deviation: float) -> tuple[ndarray, ndarray]:
    """Standard normal nodes and weights for integrands with a kink where mean + deviation t = 0."""
    cuts = {-REACH, -3.0, 0.0, 3.0, REACH}
    if deviation > 0 and abs(mean) < REACH * deviation:
        cuts.add(-mean / deviation)
    edges = sorted(cuts)
    nodes, weights = [], []
    for low, high in itertools.pairwise(edges):
        at = (low + high) / 2 + (high - low) / 2 * _NODES
        nodes.append(at)
        weights.append((high - low) / 2 * _SHARES * np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi))
    return np.concatenate(nodes), np.concatenate(weights)


def integrated_loss(network: NoisyNetwork) -> float:
    """The mean loss over noise on the pre-activations, by tensor quadrature, and on theta, one weight at a time."""
    theta, columns = network.theta, network.m
    steps = network.theta_noise * np.sqrt(theta.size) * np.eye(theta.size).reshape(-1, *theta.shape)
    readouts = np.concatenate([theta + steps, theta - steps])
    total = 0.0
    for point, target in zip(network.x, network.y, strict=True):
        means = point @ network.W + network.b
        deviation = network.W_noise * float(np.linalg.norm(point))
        grids = [_normal_nodes(float(mean), deviation) for mean in means]
        if network.shared:
            ts = np.stack([grids[0][0]] * columns)
            weights = grids[0][1]
        else:
            mesh = np.meshgrid(*(nodes for nodes, _ in grids), indexing="ij")
            ts = np.stack([part.ravel() for part in mesh])
            weights = np.prod(np.meshgrid(*(w for _, w in grids), indexing="ij"), axis=0).ravel()
        features = np.maximum(means[:, None] + deviation * ts, 0)
        # a quadratic in the features: its mean over the grid from the features' own first and second means
        outputs = np.einsum("kdm,mq->kdq", readouts, features) / columns - target[:, None]
        total += float((outputs**2).sum(axis=1).mean(axis=0) @ weights)
    return total / len(network.x)


@cache
def _numeric(formula: sympy.Expr) -> Callable[..., ndarray]:
    return cast(Callable[..., ndarray], sympy.lambdify((mu, tau), _plain(formula), ["scipy", "numpy"]))


BECAUSE = "quadrature of 16 nodes a piece, and rounding"


def check_low_pass_filter(network: NoisyNetwork) -> Iterable[Comparison]:
    """The closed form against quadrature, and its moments against the formulas."""
    arguments = (network.theta, network.W, network.b, network.x, network.y, network.theta_noise, network.W_noise)
    rise = two_layer_low_pass_filter(*arguments)
    integrated = integrated_loss(network)
    size = (1 + network.theta_noise**2) * (1 + network.W_noise**2) * 100
    yield equal("LPF", rise.value, integrated, 1e-9 * size, BECAUSE)
    means = network.x @ network.W + network.b
    deviations = network.W_noise * np.linalg.norm(network.x, axis=1)[:, None] + 0 * means
    if network.W_noise > 0:
        moments = smoothed_relu(means, deviations)
        for name, value, formula in (("F", moments.first, FIRST), ("S", moments.second, SECOND)):
            claimed = _numeric(formula)(means, deviations)
            yield equal(f"{name} by the formula", value, claimed, 1e-12 * size, "cancellation in a tail")


@dataclass(frozen=True)
class Posterior:
    """Data points (n, d) of given weights, alpha_bar, g, and a point x (d,) that the network reads.

    Args:
        independent: whether xi is independent of eps; else it is -eps, unless that is dropped.
    """

    points: ndarray
    weights: ndarray
    bar: float
    g: float
    x: ndarray
    independent: bool = True


@st.composite
def posteriors(draw: st.DrawFn, independent: bool = True) -> Posterior:
    """One to four data points in up to three dimensions."""
    rng = np.random.default_rng(draw(strategies.seeds))
    count, size = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    weights = rng.dirichlet(np.ones(count))
    points, x = rng.standard_normal((count, size)), rng.standard_normal(size)
    return Posterior(
        points, weights, draw(st.sampled_from([0.05, 0.5, 0.95])), draw(st.sampled_from([0.1, 0.5])), x, independent
    )


def exact_noise(case: Posterior, variance: float) -> ndarray:
    """E[e | x] for x = sqrt(bar) x_0 + sqrt(variance) e: over the data points, as likely as x makes them."""
    errors = case.x - np.sqrt(case.bar) * case.points
    logits = np.log(case.weights) - (errors**2).sum(axis=1) / (2 * variance)
    chances = np.exp(logits - logits.max())
    return np.asarray((chances / chances.sum()) @ errors / np.sqrt(variance))


@cache
def _variance_and_shrinkage(variance: sympy.Expr, shrinkage: sympy.Expr) -> Callable[..., Any]:
    return cast(Callable[..., Any], sympy.lambdify((bar, g), (variance, shrinkage)))


def check_perturbed_optimum(case: Posterior) -> Iterable[Comparison]:
    """E[eps | x], by the joint normal law of (eps, x) given each data point, against the formula."""
    sign = 1 if case.independent else 0
    # x = sqrt(bar) x_0 + sqrt(1 - bar) (eps + g xi): variance and covariance with eps of its noise
    total = (1 - case.bar) * (1 + case.g**2 if sign else (1 - case.g) ** 2)
    covariance = np.sqrt(1 - case.bar) * (1 if sign else 1 - case.g)
    errors = case.x - np.sqrt(case.bar) * case.points
    logits = np.log(case.weights) - (errors**2).sum(axis=1) / (2 * total)
    chances = np.exp(logits - logits.max())
    direct = (chances / chances.sum()) @ (covariance / total * errors)
    variance, shrinkage = _variance_and_shrinkage(VARIANCE, SHRINKAGE)(case.bar, case.g)
    claimed = shrinkage * exact_noise(case, variance)
    yield equal("IP's optimum", direct, claimed, 1e-10 * (1 + float(np.abs(direct).max())), "rounding of exponents")


def _by_regression() -> Iterable[Comparison]:
    """Two data points on the line: the best of 60 bins of IP's own training pairs, against the formula."""
    rng = np.random.default_rng(0)
    count, bar_, g_ = 400_000, 0.4, 0.5
    x_0 = rng.choice([-1.0, 1.0], count)
    eps, xi = rng.standard_normal((2, count))
    x = np.sqrt(bar_) * x_0 + np.sqrt(1 - bar_) * (eps + g_ * xi)
    edges = np.linspace(-2, 2, 61)
    inside = (x > edges[0]) & (x < edges[-1])
    at = np.digitize(x[inside], edges) - 1
    counts = np.bincount(at, minlength=60)
    means = np.bincount(at, eps[inside], minlength=60) / counts
    places = np.bincount(at, x[inside], minlength=60) / counts
    data = np.array([[-1.0], [1.0]])
    variance, shrinkage = _variance_and_shrinkage(VARIANCE, SHRINKAGE)(bar_, g_)
    claimed = [
        float(shrinkage * exact_noise(Posterior(data, np.full(2, 0.5), bar_, g_, np.array([x_])), variance)[0])
        for x_ in places
    ]
    slack = 5 / float(np.sqrt(counts.min())) + 2e-3
    because = "five standard errors of a bin's mean, and its width squared"
    yield equal("mean of eps in every bin", means, np.array(claimed), slack, because)


_filtered = sympy.Eq(filtered, LPF, evaluate=False)
_firsts = sympy.Eq(Expectation(z, Positive(z)), FIRST, evaluate=False)
_seconds = sympy.Eq(Expectation(z, Positive(z) ** 2), SECOND, evaluate=False)
_optimum = sympy.Eq(perturbed, PERTURBED_OPTIMUM, evaluate=False)

STATEMENT = Statement(
    label="theorem-t13",
    title="closed forms of the low-pass filter and of input perturbation",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "The low-pass filter of a two-layer ReLU network is a closed form at any noise on all of its weights. Input "
        "perturbation's optimum is the exact noise prediction at a larger noise, shrunk by sqrt(1 + g^2): a bias of "
        "the fit, and no flattening."
    ),
    printed=None,
    holds=clauses(_filtered, _firsts, _seconds, _optimum),
    conditions=(
        "(i): two layers, ReLU, independent Gaussian noise",
        "(iv): any data, noise of a variance-preserving process",
    ),
    evidence=(
        symbolic("both moments solve the heat equation and begin as ReLU", _moments_solve_the_heat_equation),
        symbolic("the mean loss for independent features, term by term", _loss_of_independent_features),
        symbolic("without noise on the features it is T3", _without_noise_on_the_features),
        symbolic("E[eps | eps + g xi]", _noise_given_the_sum),
        symbolic("IP's optimum for Gaussian data", _gaussian_data),
        holds_for_all("the low-pass filter against quadrature", noisy_networks(), check_low_pass_filter),
        fails_without("noise independent from neuron to neuron", noisy_networks(shared=True), check_low_pass_filter),
        holds_for_all("IP's optimum for any data points", posteriors(), check_perturbed_optimum),
        fails_without("xi independent of eps", posteriors(independent=False), check_perturbed_optimum),
        quadrature("IP's optimum by regression on its own training pairs", _by_regression),
    ),
)
