"""Perturbations delta of theta, and the Gaussians that they turn N(0, I) into (linear activation).

delta is admissible when delta W^T is symmetric: only then is delta (W^T x + b) / m the gradient of a potential I(x),
and e^-I p, normalised, the perturbed density of Theorem 3.3.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg

from theory.model import arguments
from theory.model.divergences import divergence_of
from theory.model.gaussians import Gaussian

ADMISSIBLE_TOLERANCE = 1e-9
"""|delta W^T - W delta^T| over |delta| |W| (Frobenius) up to which delta counts as admissible: far above the rounding
of a projection, far below any perturbation meant to be inadmissible."""


class NotNormalizableError(ValueError):
    """I + delta W^T / m is not positive definite, so e^-I p is no density."""


def _delta_and_W(delta: object, W: object) -> tuple[ndarray, ndarray]:
    W = arguments.matrix("W", W)
    return arguments.matrix("delta", delta, *W.shape), W


def is_admissible(
    delta: Float[ndarray, "d m"], W: Float[ndarray, "d m"], tolerance: float = ADMISSIBLE_TOLERANCE
) -> bool:
    """Whether delta W^T is symmetric, up to `tolerance` relative to |delta| |W|.

    Raises:
        ValueError: wrong shapes, entries that are not finite, a negative tolerance.
    """
    delta, W = _delta_and_W(delta, W)
    tolerance = arguments.scalar("tolerance", tolerance, at_least=0)
    product = delta @ W.T
    return bool(linalg.norm(product - product.T) <= tolerance * linalg.norm(delta) * linalg.norm(W))


class Frame(NamedTuple):
    """W's singular value decomposition, complete on both sides, s padded with zeros to length d."""

    left: Float[ndarray, "d d"]
    s: Float[ndarray, " d"]
    right: Float[ndarray, "m m"]
    rank: int

    def project(self, delta: Float[ndarray, "d m"]) -> Float[ndarray, "d m"]:
        """The admissible matrix nearest to delta; arguments unchecked (see `project_admissible`)."""
        d, m = delta.shape
        D = self.left.T @ delta @ self.right.T
        square = np.zeros((d, d))
        square[:, : min(d, m)] = D[:, :d]
        s_i, s_j = self.s[:, None], self.s[None, :]
        weight = s_i**2 + s_j**2
        projected = s_i * (square * s_i + square.T * s_j) / np.where(weight > 0, weight, 1)
        D[:, :d] = np.where(weight > 0, projected, square)[:, : min(d, m)]
        return self.left @ D @ self.right


def frame(W: Float[ndarray, "d m"]) -> Frame:
    """The singular bases in which admissibility is a condition on pairs of entries."""
    left, s, right = linalg.svd(W)
    rank = int(np.sum(s > max(W.shape) * np.finfo(float).eps * s[0])) if s[0] > 0 else 0
    padded = np.zeros(W.shape[0])
    padded[:rank] = s[:rank]
    return Frame(left, padded, right, rank)


def project_admissible(delta: Float[ndarray, "d m"], W: Float[ndarray, "d m"]) -> Float[ndarray, "d m"]:
    """The admissible perturbation nearest to delta in Frobenius norm.

    In W's singular bases the condition is D_ij s_j = D_ji s_i, so each pair (D_ij, D_ji) is projected onto the line
    along (s_i, s_j); pairs with s_i = s_j = 0, and columns beyond d, are free.

    Raises:
        ValueError: wrong shapes or entries that are not finite.
    """
    delta, W = _delta_and_W(delta, W)
    return frame(W).project(delta)


def admissible_basis(W: Float[ndarray, "d m"]) -> Float[ndarray, "k d m"]:
    """An orthonormal basis (Frobenius) of the admissible perturbations, k = d m - C(d,2) + C(d - rank W, 2) of them.

    Raises:
        ValueError: not a matrix of finite numbers.
    """
    W = arguments.matrix("W", W)
    d, m = W.shape
    bases = frame(W)
    elements: list[tuple[tuple[int, int, float], ...]] = []
    for i in range(d):
        for j in range(m):
            if j >= d or i == j or (i >= bases.rank and j >= bases.rank):
                elements.append(((i, j, 1.0),))
            elif i < j:  # here s_i > 0; the partner entry (j, i) exists because i < j < m
                length = np.hypot(bases.s[i], bases.s[j])
                elements.append(((i, j, bases.s[i] / length), (j, i, bases.s[j] / length)))
    basis = np.zeros((len(elements), d, m))
    for k, entries in enumerate(elements):
        for i, j, value in entries:
            basis[k] += value * np.outer(bases.left[:, i], bases.right[j])
    return basis


class Spectrum(NamedTuple):
    """A = delta W^T / m and c = delta b / m in A's eigenbasis: A = sum tau_i u_i u_i^T, c = sum c_i u_i."""

    tau: Float[ndarray, " d"]
    c: Float[ndarray, " d"]
    u: Float[ndarray, "d d"]


def spectrum(delta: Float[ndarray, "d m"], W: Float[ndarray, "d m"], b: Float[ndarray, " m"]) -> Spectrum:
    """Eigenvalues, eigenvectors (columns of `u`) and mean coordinates of an admissible perturbation, tau rising.

    Raises:
        ValueError: wrong shapes, entries that are not finite, a delta that is not admissible.
        NotNormalizableError: I + delta W^T / m is not positive definite (a ValueError).
    """
    delta, W = _delta_and_W(delta, W)
    m = W.shape[1]
    b = arguments.vector("b", b, m)
    if not is_admissible(delta, W):
        product = delta @ W.T
        gap = linalg.norm(product - product.T)
        raise ValueError(f"delta is not admissible: |delta W^T - W delta^T| is {gap:.6g}; allowed: 0, up to rounding")
    A = delta @ W.T / m
    tau, u = linalg.eigh((A + A.T) / 2)
    if not tau[0] > -1:
        raise NotNormalizableError(
            f"not normalisable: smallest eigenvalue of I + delta W^T/m is {1 + tau[0]:.6g}; allowed: above 0"
        )
    return Spectrum(tau, u.T @ (delta @ b / m), u)


def perturbed_noise(delta: Float[ndarray, "d m"], W: Float[ndarray, "d m"], b: Float[ndarray, " m"]) -> Gaussian:
    """Corollary 3.4, its sign corrected: e^-I N(0, I) is N(-Sigma c, Sigma), Sigma = (I + A)^-1.

    A = delta W^T / m, c = delta b / m, b = U^T e; linear activation.

    Args:
        delta, W: (d, m).
        b: (m,).

    Raises:
        ValueError: wrong shapes, entries that are not finite, a delta that is not admissible.
        NotNormalizableError: I + delta W^T / m is not positive definite (a ValueError).
    """
    tau, c, u = spectrum(delta, W, b)
    return Gaussian(-u @ (c / (1 + tau)), (u / (1 + tau)) @ u.T)


def perturbation_divergence(
    delta: Float[ndarray, "d m"], W: Float[ndarray, "d m"], b: Float[ndarray, " m"], divergence: str = "kl"
) -> float:
    """Divergence between p = N(0, I) and the Gaussian that delta turns it into.

    The same number as of `perturbed_noise`, but read off the eigenvalues of A: no cancellation for small delta and no
    inverse near the edge of positive definiteness.

    Raises:
        ValueError: as `perturbed_noise`, or an unknown divergence.
    """
    chosen = divergence_of(divergence)
    tau, c, _ = spectrum(delta, W, b)
    return float(chosen.scale * np.sum(chosen.term(tau) + c**2 * chosen.weight(tau)))


def loss_rise(delta: Float[ndarray, "d m"], W: Float[ndarray, "d m"], b: Float[ndarray, " m"]) -> float:
    """J(delta) = E_p|delta phi / m|^2 for p = N(0, I) and linear features: |A|^2 + |c|^2 (Frobenius).

    The rise of the expected loss at a minimum, for any delta, admissible or not.

    Raises:
        ValueError: wrong shapes or entries that are not finite.
    """
    delta, W = _delta_and_W(delta, W)
    b = arguments.vector("b", b, W.shape[1])
    return float(((delta @ W.T) ** 2).sum() + ((delta @ b) ** 2).sum()) / W.shape[1] ** 2
