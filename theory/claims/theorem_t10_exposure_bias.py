"""Theorem T10: flatness bounds exposure bias, in the metric in which it is measured.

Holds: (i) e[-1 + t] <= E[t]*k[t] + L[t]*e[t] + D[t]; (ii) L[t] <= L_e*k[t] + a[t]; (iii) Abs(R_p - R_q) <= L_e*e[t]

A sampler's step is x_(t-1) = a_t x_t - k_t eps_theta(x_t, t) + sigma_t z, for DDPM's ancestral sampler and for DDIM;
p_t is the law of what is sampled, q_t a reference: the chain of the exact noise prediction eps*, or any other, such as
the noised data on which the network was trained. e_t = W_2(p_t, q_t); L_t is the Lipschitz constant of x -> a_t x - k_t
eps_theta(x, t), and L_e that of eps_theta(., t), which T9's path norm bounds; E_t the root mean square of |eps_theta -
eps*| under q_t; D_t = W_2 of q_(t-1) from one step with eps* from q_t, which is 0 for the chain of eps*. R_p and R_q are
the root mean squares of |eps_theta| under p_t and q_t: exposure bias is their difference. Proof: x_t of both chains
coupled optimally and given the same z, and Minkowski's inequality. Flatness helps the gain L_t, one-sidedly (T9), and may
cost the fit E_t; which of the two wins is not settled by it.

How tight: (i) is reached at every step where eps_theta differs from eps* by a constant and the step is linear, and (iii)
where p_t is a scaled q_t and eps_theta is linear.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import cast

import numpy as np
import sympy
from hypothesis import strategies as st
from numpy import ndarray
from scipy import optimize

from theory.model import path_norm, sampling
from theory.proof import strategies
from theory.proof.notation import clauses
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

t = sympy.Symbol("t", integer=True, positive=True)
distance, slope, coefficient, gain, error, drift = (
    sympy.IndexedBase(name, nonnegative=True) for name in ("e", "L", "a", "k", "E", "D")
)
lipschitz, sampled, trained = sympy.symbols("L_e R_p R_q", nonnegative=True)

STEP = slope[t] * distance[t] + gain[t] * error[t] + drift[t]
"""What e_{t-1} is at most."""
SLOPE = coefficient[t] + gain[t] * lipschitz
NORM_GAP = lipschitz * distance[t]


def _two_parts_of_a_step() -> Iterable[Comparison]:
    """The difference of the two chains after a step, at coupled points x and y and the same noise."""
    a, k, x, y, z = sympy.symbols("a k x y z")
    own, ideal = sympy.Function("eps"), sympy.Function("ideal")

    def step(at: sympy.Symbol, network: sympy.Function) -> sympy.Expr:
        return a * at - k * network(at) + z

    moved = step(x, own) - step(y, own)
    yield equal("steps - (moved by eps) - k (eps - eps*)", sympy.expand(
        step(x, own) - step(y, ideal) - (moved - k * (own(y) - ideal(y)))
    ), 0)  # fmt: skip
    one, two = (sympy.Matrix(sympy.symbols(f"{n}_1:3", real=True)) for n in "uv")
    slack = (one.T * one)[0] * (two.T * two)[0] - (one.T * two)[0] ** 2
    square = (one[0] * two[1] - one[1] * two[0]) ** 2
    yield equal("|u|^2 |v|^2 - <u, v>^2, behind Minkowski's inequality", sympy.expand(slack - square), 0)


def _unrolled() -> Iterable[Comparison]:
    """Three steps of the recursion from e_3 = 0: errors carried through the later steps' slopes."""
    value = sympy.Integer(0)
    for at in (3, 2, 1):
        value = STEP.subs(distance[t], value).subs(t, at)
    carried = sum(
        (gain[at] * error[at] + drift[at]) * sympy.prod([slope[later] for later in range(1, at)]) for at in (1, 2, 3)
    )
    yield equal("recursion - the sum", sympy.expand(value - carried), 0)


def _reached() -> Iterable[Comparison]:
    """eps_theta = g x + h, eps* = g x on the line, from N(0, 1): laws of one variance, e_t is the means' distance."""
    g, h = sympy.Rational(1, 3), sympy.Rational(1, 5)
    a, k = sympy.Rational(5, 4), sympy.Rational(1, 2)
    mean, bound = sympy.Integer(0), sympy.Integer(0)
    for at in (3, 2, 1):
        mean = a * mean - k * (g * mean + h)
        own = {slope[t]: a - k * g, distance[t]: bound, gain[t]: k, error[t]: h, drift[t]: 0}
        bound = STEP.subs(own)
        yield equal(f"e_{at - 1} against its bound", sympy.Abs(mean), bound)
    wide, narrow = sympy.Rational(3, 2), sympy.Integer(1)
    # N(0, 9/4) against N(0, 1): W_2 = 1/2; eps = g x has root mean squares g 3/2 and g
    gap = NORM_GAP.subs({lipschitz: g, distance[t]: wide - narrow})
    yield equal("difference of root mean squares against its bound", g * wide - g * narrow, gap)


@dataclass(frozen=True)
class Networks:
    """Two-layer ReLU networks, one a step: theta and W (T, d, m), b (T, m)."""

    theta: ndarray
    W: ndarray
    b: ndarray

    def __call__(self, x: ndarray, index: int) -> ndarray:
        """The predicted noise at points (n, d)."""
        features = np.maximum(x @ self.W[index] + self.b[index], 0)
        return features @ self.theta[index].T / self.b.shape[1]

    def lipschitz(self, index: int) -> float:
        """A Lipschitz constant: the path norm."""
        return path_norm.path_norm(self.theta[index], self.W[index])


@dataclass(frozen=True)
class Chains:
    """Two chains from given points (n, d), with noise of two or of no values a step.

    Args:
        own, ideal: eps_theta and eps*.
        a, k, sigma: (T,).
        start, reference: (n, d), equally likely points of p_T and q_T.
        follows: whether q is the chain of eps*; else it is pushed away at every step.
        share: of the slope that is claimed; 1 unless that is dropped.
        counted: whether D_t is counted.
    """

    own: Networks
    ideal: Networks
    a: ndarray
    k: ndarray
    sigma: ndarray
    start: ndarray
    reference: ndarray
    follows: bool = True
    share: float = 1.0
    counted: bool = True


@st.composite
def chains(draw: st.DrawFn, share: float = 1.0, counted: bool = True) -> Chains:
    """One or two dimensions and steps; networks near each other and far, growing and shrinking."""
    rng = np.random.default_rng(draw(strategies.seeds))
    size, steps, count, width = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 4)), 3
    theta, W = rng.standard_normal((2, steps, size, width)) * draw(st.sampled_from([0.3, 2.0]))
    if draw(st.booleans()):
        theta = -np.abs(theta) * np.sign(W)  # every neuron moves points apart
    b = rng.standard_normal((steps, width))
    near = draw(st.sampled_from([0.0, 0.05, 1.0]))
    ideal = Networks(theta + near * rng.standard_normal(theta.shape), W, b)
    sigma = rng.uniform(0.1, 1, steps) * (rng.uniform(size=steps) < 0.5)
    follows = draw(st.booleans()) if counted else False
    start = rng.standard_normal((count, size))
    away = draw(st.sampled_from([0.0, 1.0])) * rng.standard_normal(size)
    a, k = rng.uniform(1, 1.5, steps), rng.uniform(0.1, 1, steps)
    return Chains(Networks(theta, W, b), ideal, a, k, sigma, start, start + away, follows, share, counted)


def wasserstein(one: ndarray, other: ndarray) -> float:
    """W_2 of equally likely points (n, d) on both sides: the best assignment."""
    costs = ((one[:, None] - other) ** 2).sum(axis=2)
    rows, columns = optimize.linear_sum_assignment(costs)
    return float(np.sqrt(costs[rows, columns].mean()))


def _stepped(x: ndarray, network: Networks, chain: Chains, index: int) -> ndarray:
    """All points after a step: each once where there is no noise, else once up and once down."""
    moved = chain.a[index] * x - chain.k[index] * network(x, index)
    if chain.sigma[index] == 0:
        return cast(ndarray, moved)
    noise = chain.sigma[index] * np.ones(x.shape[1])
    return np.concatenate([moved + noise, moved - noise])


@cache
def _numeric(formula: sympy.Expr) -> Callable[..., float]:
    plain = sympy.symbols("e L a k E D L_e")
    indexed = (distance, slope, coefficient, gain, error, drift)
    values = {base[t]: symbol for base, symbol in zip(indexed, plain[:-1], strict=True)} | {lipschitz: plain[-1]}
    return cast(Callable[..., float], sympy.lambdify(plain, formula.subs(values)))


BECAUSE = "rounding of distances of sizes up to those of the points"


def _root(values: ndarray) -> float:
    return float(np.sqrt((values**2).sum(axis=1).mean()))


def check_steps(chain: Chains) -> Iterable[Comparison]:
    """Every step of two discrete chains, their distances exact, against the recursion; and the norms' gap."""
    x, y = chain.start, chain.reference
    steps = len(chain.a)
    here = wasserstein(x, y)
    first, rows = here, []
    for index in range(steps - 1, -1, -1):
        constant = chain.own.lipschitz(index)
        claimed = chain.share * _numeric(SLOPE)(0, 0, chain.a[index], chain.k[index], 0, 0, constant)
        errors = _root(chain.own(y, index) - chain.ideal(y, index))
        gap = abs(_root(chain.own(x, index)) - _root(chain.own(y, index)))
        size = float(np.abs(x).max() + np.abs(y).max()) * (1 + constant)
        allowed = _numeric(NORM_GAP)(here, 0, 0, 0, 0, 0, chain.share * constant)
        yield at_most(f"gap of norms at step {index + 1}", gap, allowed, 1e-9 * size, BECAUSE)
        ideal = _stepped(y, chain.ideal, chain, index)
        after = ideal if chain.follows else ideal + np.linspace(-1, 1, ideal.size).reshape(ideal.shape)
        away = wasserstein(ideal, after) if chain.counted else 0.0
        bound = _numeric(STEP)(here, claimed, 0, chain.k[index], errors, away, 0)
        x, y = _stepped(x, chain.own, chain, index), after
        here = wasserstein(x, y)
        size += float(np.abs(x).max() + np.abs(y).max())
        yield at_most(f"e_{index}", here, bound, 1e-9 * size, BECAUSE)
        rows.append((claimed, chain.k[index], errors, away))
    slopes, gains, errors_, drifts = (np.array(column) for column in zip(*rows[::-1], strict=True))
    bounds = sampling.exposure_bound(slopes, gains, errors_, drifts, first)
    yield at_most("e_0 against the whole recursion", here, float(bounds[0]), 1e-9 * (1 + float(bounds[0])), BECAUSE)


def _ideal_noise(x: ndarray, bar: float) -> ndarray:
    """eps* at points (n,) of the line for data at +-1, each spread by N(0, 1/25)."""
    variance = bar / 25 + 1 - bar
    centre = np.sqrt(bar)
    tilt = np.tanh(centre * x / variance)
    return np.asarray(np.sqrt(1 - bar) * (x - centre * tilt) / variance)


class Fit:
    """What a two-mode law on the line shows, at one strength of shrinkage.

    Attributes:
        norm: the mean path norm over steps.
        distance: e_0, of samples against those of eps*.
        bound: what the recursion allows, with each step's own slope.
    """

    def __init__(self, shrinkage: float, steps: int = 40, width: int = 40, count: int = 400) -> None:
        """Ridge regressions of eps* on fixed ReLU features, one a step; DDIM from the normal's quantiles."""
        from scipy import special

        rng = np.random.default_rng(0)
        W, b = rng.choice([-1.0, 1.0], width), rng.uniform(-3, 3, width)
        bars = np.cos(np.linspace(0.05, 1.5, steps)) ** 2
        a, k = sampling.sampler_steps(bars, "ddim")
        x = y = special.ndtri((np.arange(count) + 0.5) / count)
        edges = np.sort(-b / W)
        middles = np.concatenate([[edges[0] - 1], (edges[1:] + edges[:-1]) / 2, [edges[-1] + 1]])
        norms, slopes, errors = [], np.empty(steps), np.empty(steps)
        for index in range(steps - 1, -1, -1):
            wanted, phi = _ideal_noise(y, bars[index]), np.maximum(np.outer(y, W) + b, 0) / width
            theta = np.linalg.solve(phi.T @ phi / count + shrinkage * np.eye(width), phi.T @ wanted / count)
            norms.append(float(np.abs(theta * W).mean()))
            inner = (np.outer(middles, W) + b > 0) @ (theta * W) / width
            slopes[index] = np.abs(a[index] - k[index] * inner).max()
            errors[index] = np.sqrt(((phi @ theta - wanted) ** 2).mean())
            own = np.maximum(np.outer(x, W) + b, 0) @ theta / width
            x, y = a[index] * x - k[index] * own, a[index] * y - k[index] * wanted
        self.norm = float(np.mean(norms))
        self.distance = float(np.sqrt(((np.sort(x) - np.sort(y)) ** 2).mean()))
        self.bound = float(sampling.exposure_bound(slopes, k, errors)[0])


def _gain_against_fit() -> Iterable[Comparison]:
    """DDIM, 40 steps, two modes on the line, readouts shrunk more and more: smoother networks, and worse samples."""
    fits = [Fit(shrinkage) for shrinkage in (1e-9, 1e-5, 1e-3)]
    for fit in fits:
        yield at_most(f"e_0 against its bound, path norm {fit.norm:.3g}", fit.distance, fit.bound)
    for before, after in pairwise(fits):
        yield less("path norm with more shrinkage", after.norm, before.norm)
        yield less("e_0 with less shrinkage", before.distance, after.distance)


_step = sympy.Le(distance[t - 1], STEP)
_slope = sympy.Le(slope[t], SLOPE)
_gap = sympy.Le(sympy.Abs(sampled - trained), NORM_GAP)

STATEMENT = Statement(
    label="theorem-t10",
    title="flatness bounds exposure bias",
    source="ours",
    verdict=Verdict.HOLDS,
    reason=(
        "The distance of sampled and reference laws grows from a step to the next by at most the step's Lipschitz "
        "constant, plus the fit's error, and the difference of the predicted noise's norms is at most its Lipschitz "
        "constant times that distance. Flatness bounds the Lipschitz constant (T9), one-sidedly, and may cost the fit."
    ),
    printed=None,
    holds=clauses(_step, _slope, _gap),
    conditions=("laws of finite second moments", "sigma_t the same for both chains"),
    evidence=(
        symbolic("a step's difference in two parts, and Minkowski's square", _two_parts_of_a_step),
        symbolic("the recursion as a sum", _unrolled),
        counterexample("how tight: reached at every step, and by the norms' gap", _reached),
        holds_for_all("every step of discrete chains, distances by best assignments", chains(), check_steps),
        fails_without("the step's Lipschitz constant", chains(share=0.2), check_steps),
        fails_without("D_t, where the reference is not the chain of eps*", chains(counted=False), check_steps),
        quadrature("smoother networks that sample worse: the gain against the fit", _gain_against_fit),
    ),
)
