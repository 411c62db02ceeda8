"""Hypothesis strategies for the instances that the theory's properties quantify over.

Shapes, ranks, spectra and the place of b are drawn structurally, so that degenerate cases come up often and shrink
well; the remaining freedom (rotations, entries) comes from a drawn seed, or is small integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st
from jaxtyping import Float
from numpy import ndarray

from theory.model import perturbations

LARGEST_D = 8
LARGEST_M = 16


@dataclass(frozen=True)
class Model:
    """W (d, m) and b = U^T e (m,): the frozen half of the model of Eq. (9)."""

    W: Float[ndarray, "d m"]
    b: Float[ndarray, " m"]

    @property
    def d(self) -> int:
        """Number of coordinates of x."""
        return self.W.shape[0]

    @property
    def m(self) -> int:
        """Number of features."""
        return self.W.shape[1]

    @property
    def norm(self) -> float:
        """|W| in operator norm."""
        return float(np.linalg.norm(self.W, 2))


@dataclass(frozen=True)
class Perturbed(Model):
    """A model with a perturbation delta (d, m) of its theta."""

    delta: Float[ndarray, "d m"]


seeds = st.integers(0, 2**32 - 1)
SHAPES = st.tuples(st.integers(1, LARGEST_D), st.integers(1, LARGEST_M))


def _orthogonal(rng: np.random.Generator, n: int) -> ndarray:
    q, r = np.linalg.qr(rng.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


@st.composite
def weight_matrices(
    draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int]] = SHAPES, full_rank: bool = False
) -> ndarray:
    """W of shape (d, m): small integers, or a drawn spectrum (repeated, ill-conditioned, rank-deficient, zero)."""
    d, m = draw(shapes)
    rng = np.random.default_rng(draw(seeds))
    smallest = min(d, m)
    kind = draw(st.sampled_from(["gaussian", "repeated", "ill-conditioned", "orthonormal"]))
    rank = smallest if full_rank else draw(st.sampled_from([smallest, smallest, smallest, max(smallest - 1, 1), 1, 0]))
    if kind == "gaussian" and rank == smallest:
        return rng.standard_normal((d, m)) * draw(st.sampled_from([1.0, 0.01, 30.0]))
    s = np.zeros((d, m))
    if kind == "ill-conditioned":
        values = np.logspace(0, -draw(st.sampled_from([2, 5])), rank)
    elif kind == "repeated":
        values = np.repeat([2.0, 1.0], [(rank + 1) // 2, rank // 2])
    elif kind == "orthonormal":
        values = np.ones(rank)
    else:
        values = rng.uniform(0.2, 3.0, rank)
    s[range(rank), range(rank)] = values
    if draw(st.booleans()):
        return s
    return _orthogonal(rng, d) @ s @ _orthogonal(rng, m)


@st.composite
def models(draw: st.DrawFn, shapes: st.SearchStrategy[tuple[int, int]] = SHAPES, full_rank: bool = False) -> Model:
    """W as `weight_matrices`, and b: zero, in W's row space, orthogonal to it, to its top direction, or general."""
    W = draw(weight_matrices(shapes, full_rank))
    rng = np.random.default_rng(draw(seeds))
    m = W.shape[1]
    b = rng.standard_normal(m) * draw(st.sampled_from([1.0, 0.1, 10.0]))
    place = draw(st.sampled_from(["general", "zero", "row space", "orthogonal", "top", "not top"]))
    _, s, right = np.linalg.svd(W)
    rank = int(np.sum(s > 1e-9))
    row = right[:rank]
    if place == "zero":
        b = np.zeros(m)
    elif place == "row space":
        b = row.T @ (row @ b)
    elif place == "orthogonal":
        b = b - row.T @ (row @ b)
    elif place == "top":
        b = right[0] * (right[0] @ b)
    elif place == "not top":
        b = b - right[0] * (right[0] @ b)
    return Model(W, b)


def scaled_to_norm(delta: ndarray, W: ndarray, r: float) -> ndarray:
    """Delta scaled so that the largest |eigenvalue| of A = delta W^T / m is r < 1, the edge of normalisability at 1.

    Where A = 0 the perturbation is scaled to norm r m.
    """
    m = W.shape[1]
    product = delta @ W.T / m
    size = float(np.abs(np.linalg.eigvalsh((product + product.T) / 2)).max())
    if size <= 1e-12 * np.linalg.norm(delta) * np.linalg.norm(W):
        size = float(np.linalg.norm(delta)) / m
    return delta * (r / size) if size > 0 else delta


RATIOS = st.sampled_from([1e-6, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1 - 1e-4])
"""Where in (0, 1) rho = Delta |W| / m, or the spectral radius of A, lies: from tiny to the edge."""


@st.composite
def admissible(draw: st.DrawFn, of: st.SearchStrategy[Model] | None = None) -> Perturbed:
    """A model with an admissible delta, spectral radius of A in RATIOS, so that I + A is positive definite."""
    model = draw(models() if of is None else of)
    rng = np.random.default_rng(draw(seeds))
    delta = perturbations.project_admissible(rng.standard_normal(model.W.shape), model.W)
    if draw(st.booleans()):  # one pair (u, v): delta = -u v^T with u along W v, the shape of T2's worst case
        v = rng.standard_normal(model.m)
        u = model.W @ v
        delta = -np.outer(u, v) if np.linalg.norm(u) > 1e-9 * model.norm else delta
    delta = scaled_to_norm(delta, model.W, draw(RATIOS))
    return Perturbed(model.W, model.b, delta * draw(st.sampled_from([1.0, -1.0])))


@st.composite
def inadmissible(draw: st.DrawFn, of: st.SearchStrategy[Model] | None = None) -> Perturbed:
    """A model with any delta of moderate size: symmetry of delta W^T dropped."""
    model = draw(models() if of is None else of)
    rng = np.random.default_rng(draw(seeds))
    delta = rng.standard_normal(model.W.shape)
    size = np.linalg.norm(delta, 2) * model.norm / model.m
    return Perturbed(model.W, model.b, delta * (draw(RATIOS) / size if size > 0 else 1.0))


@st.composite
def unit_vectors(draw: st.DrawFn, length: int) -> ndarray:
    """A unit vector of the given length."""
    vector = np.random.default_rng(draw(seeds)).standard_normal(length)
    return vector / np.linalg.norm(vector)
