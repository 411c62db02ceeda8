"""Numerical tests of whether the field delta sigma(W^T x + b) / m is a gradient: line integrals, ranks, instances.

And when e^-I p can be normalised for ReLU features, delta_j = c_j w_j and p = N(0, I): the sign of Q (Theorem T1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import sympy
from hypothesis import strategies as st
from jaxtyping import Float
from numpy import ndarray

from theory.model import perturbations
from theory.model.random_features import ACTIVATIONS, Activation, activation_of
from theory.proof import strategies
from theory.proof.notation import j, m

_UNIT, _WEIGHTS = np.polynomial.legendre.leggauss(24)
RANK_TOLERANCE = 1e-8
"""Singular values below this, relative to the largest, count as 0: those of independent columns lie far above."""
NONLINEAR = tuple(name for name in ACTIVATIONS if name != "linear")
coefficient, y = sympy.IndexedBase("c"), sympy.IndexedBase("y")
"""c_j; y_j = w_j^T u."""
RELU_GROWTH = 1 + sympy.Sum(coefficient[j] * sympy.Max(y[j], 0) ** 2, (j, 1, m)) / m
"""Q(u): -log(e^-I p) grows like Q(u) r^2 / 2 along x = r u, for ReLU and p = N(0, I)."""


def line_integral(
    delta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    activation: str | Activation,
    start: Float[ndarray, " d"],
    end: Float[ndarray, " d"],
) -> float:
    """The integral of delta sigma(W^T x + b) / m along the straight line from start to end.

    By Gauss-Legendre with 24 nodes on the pieces between the zeros of the z_j, where sigma may have kinks, and on
    eighths at most.
    """
    before, after = W.T @ start + b, W.T @ end + b
    with np.errstate(divide="ignore", invalid="ignore"):
        kinks = before / (before - after)
    cuts = np.unique(np.concatenate([np.linspace(0, 1, 9), kinks[(kinks > 0) & (kinks < 1)]]))
    half = np.diff(cuts)[:, None] / 2
    t = (cuts[:-1, None] + half * (1 + _UNIT)).ravel()
    features = activation_of(activation)(before + t[:, None] * (after - before))
    return float((half * _WEIGHTS).ravel() @ (features @ (delta.T @ (end - start)))) / W.shape[1]


def separating_points(
    W: Float[ndarray, "d m"], b: Float[ndarray, " m"], generator: np.random.Generator
) -> Float[ndarray, "n d"]:
    """Points that tell the functions sigma'(w_j^T x + b_j) apart: random ones, and pairs astride every kink."""
    d, m = W.shape
    lengths = np.linalg.norm(W, axis=0)
    directions = W / lengths
    scattered = 2 * generator.standard_normal((20 + 4 * m, d))
    near = scattered[: 4 * m].reshape(4, m, d)
    near = near - ((near * W.T).sum(axis=-1) + b)[..., None] / lengths[:, None] * directions.T
    pairs = [near + side * 1e-6 * directions.T for side in (1, -1)]
    return np.concatenate([scattered, *(pair.reshape(-1, d) for pair in pairs)])


def gradient_dimension(
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    activation: str | Activation,
    points: Float[ndarray, "n d"],
) -> int:
    """The dimension of the delta for which the Jacobian delta diag(sigma') W^T is symmetric at all the points."""
    d, m = W.shape
    slopes = activation_of(activation).derivative(points @ W + b)
    rows, columns = np.array(list(combinations(range(d), 2))).T
    # entry (i, k) of the skew part: sum_j sigma'_j (delta_ij W_kj - delta_kj W_ij)
    equations = np.zeros((len(points), rows.size, d, m))
    pairs = np.arange(rows.size)
    equations[:, pairs, rows] = slopes[:, None] * W[columns]
    equations[:, pairs, columns] -= slopes[:, None] * W[rows]
    values = np.linalg.svd(equations.reshape(-1, d * m), compute_uv=False)
    return d * m - int((values > RANK_TOLERANCE * values[0]).sum())


@dataclass(frozen=True)
class Activity(strategies.Perturbed):
    """A model with delta, its activation by name, and the corners (3, d) of a triangle."""

    activation: str
    corners: ndarray


@st.composite
def along_columns(draw: st.DrawFn, parallel: bool = True) -> Activity:
    """delta_j = c_j w_j, or any where w_j = 0; where not `parallel`, delta W^T symmetric and no more."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    rng = np.random.default_rng(draw(strategies.seeds))
    frozen, free = rng.standard_normal((2, *shape))
    frozen[:, rng.random(shape[1]) < draw(st.sampled_from([0.0, 0.3]))] = 0
    if parallel:
        moved = np.where((frozen == 0).all(axis=0), free, frozen * rng.standard_normal(shape[1]))
    else:
        moved = perturbations.project_admissible(free, frozen)
    corners = 2 * rng.standard_normal((3, shape[0]))
    return Activity(frozen, rng.standard_normal(shape[1]), moved, draw(st.sampled_from(NONLINEAR)), corners)


@dataclass(frozen=True)
class Features(strategies.Model):
    """W and b without parallel columns, an activation, and points (n, d) that tell the sigma'(z_j) apart."""

    activation: str
    points: ndarray


@st.composite
def generic_features(draw: st.DrawFn, mirrored: bool = False, names: tuple[str, ...] = NONLINEAR) -> Features:
    """Random columns in d >= 2; where `mirrored`, in pairs w, -w with b = 0, whose sigma' are linearly dependent."""
    rows, columns = draw(st.tuples(st.integers(2, 5), st.integers(1, 6)))
    rng = np.random.default_rng(draw(strategies.seeds))
    frozen, bias = 2 * rng.standard_normal((rows, columns)), rng.standard_normal(columns)
    if mirrored:
        frozen, bias = np.concatenate([frozen, -frozen], axis=1), np.zeros(2 * columns)
    return Features(frozen, bias, draw(st.sampled_from(names)), separating_points(frozen, bias, rng))


@dataclass(frozen=True)
class Coefficients(strategies.Model):
    """A model with delta_j = c_j w_j, c of shape (m,), its activation, and the standard deviation of p."""

    c: ndarray
    activation: str
    spread: float = 1.0


def relu_model(rows: int, columns: int, seed: int, size: float) -> Coefficients:
    """Random W, b and c of the given size."""
    rng = np.random.default_rng(seed)
    frozen, (bias, c) = rng.standard_normal((rows, columns)), rng.standard_normal((2, columns))
    return Coefficients(frozen, bias, size * columns * c, "relu")


@st.composite
def lipschitz(
    draw: st.DrawFn, ratios: tuple[float, ...] = (0.01, 0.3, 0.6, 0.9, 0.99), spread: float = 1.0
) -> Coefficients:
    """d = 1, delta_j = c_j w_j scaled to a given r_L; beyond 1 with c_j >= 0, so that p_hat exists all the same."""
    columns = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(strategies.seeds))
    # not too short: delta = r_L m / (L |W|), and KL grows like its square
    frozen = rng.choice([-1, 1], (1, columns)) * rng.uniform(0.2, 2, (1, columns)) * draw(st.sampled_from([0.3, 1.0]))
    name, ratio = draw(st.sampled_from(sorted(ACTIVATIONS))), draw(st.sampled_from(ratios))
    c = rng.standard_normal(columns) if ratio < 1 else np.abs(rng.standard_normal(columns))
    size = np.linalg.norm(frozen * c, 2) * np.linalg.norm(frozen, 2) / columns * ACTIVATIONS[name].lipschitz
    bias = rng.standard_normal(columns) * draw(st.sampled_from([0.0, 1.0, 5.0]))
    return Coefficients(frozen, bias, c * ratio / size, name, spread)


def growth_at(projections: Any, coefficients: Any) -> Any:
    """RELU_GROWTH at given y_j = w_j^T u, of shape (..., m), and c_j."""
    return _growth(len(coefficients))(*np.moveaxis(np.asarray(projections), -1, 0), *coefficients)


@cache
def _growth(columns: int) -> Any:
    arguments = [*(y[n + 1] for n in range(columns)), *(coefficient[n + 1] for n in range(columns))]
    plain = sympy.symbols(f"a:{2 * columns}")
    formula = RELU_GROWTH.subs(m, columns).doit().subs(dict(zip(arguments, plain, strict=True)))
    return sympy.lambdify(plain, formula, "numpy")


def decided(instance: Coefficients) -> bool:
    """Whether the least Q is far enough from 0 for quadrature to tell."""
    return abs(least_growth(instance)) > 0.02


RELU_MODELS = st.builds(
    relu_model, st.just(1), st.integers(1, 4), strategies.seeds, st.sampled_from([0.5, 1.0, 3.0])
).filter(decided)
"""ReLU in d = 1 with any c_j, on either side of normalisability."""


def least_growth(instance: Coefficients) -> float:
    """The minimum of Q over the unit sphere, d = 1 and 2: on an arc without kinks Q is a quadratic form."""
    if instance.d == 1:
        directions = np.array([[1.0], [-1.0]])
    else:
        kinks = np.arctan2(instance.W[1], instance.W[0]) + np.pi / 2
        cuts = np.unique(np.concatenate([kinks, kinks + np.pi]) % (2 * np.pi))
        middles = (cuts + np.diff(cuts, append=cuts[0] + 2 * np.pi) / 2)[:, None]
        active = np.stack([np.cos(middles), np.sin(middles)], axis=-1)[:, 0] @ instance.W > 0
        forms = (instance.W * (active * instance.c)[:, None]) @ instance.W.T
        axes = np.linalg.eigh(forms)[1].transpose(0, 2, 1).reshape(-1, 2)
        directions = np.concatenate([np.stack([np.cos(cuts), np.sin(cuts)], axis=-1), axes, -axes])
    return float(growth_at(directions @ instance.W, instance.c).min())
