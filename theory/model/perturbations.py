"""Perturbations delta of theta, and the Gaussians that they turn a Gaussian p into (linear activation).

delta is admissible when delta W^T is symmetric: only then is delta (W^T x + b) / m the gradient of a potential I(x),
and e^-I p, normalised, the perturbed density of Theorem 3.3. p is the law of what the model reads: at time t of a
diffusion model that of x_t, which is N(0, I) only where nothing is left of the data, or for standard normal data
(`diffused`). Other Gaussians are reduced to that case by whitening.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg

from theory.model import arguments
from theory.model.divergences import divergence_of
from theory.model.gaussians import Gaussian, squared_wasserstein

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
        """The admissible matrix nearest to delta (`project_admissible`).

        Raises:
            ValueError: another shape than W's, or entries that are not finite.
        """
        return self._project(arguments.matrix("delta", delta, self.left.shape[0], self.right.shape[0]))

    def _project(self, delta: ndarray) -> ndarray:
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
    """The singular bases in which admissibility is a condition on pairs of entries.

    Raises:
        ValueError: not a matrix of finite numbers.
    """
    W = arguments.matrix("W", W)
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
    return frame(W)._project(delta)


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


class Whitened(NamedTuple):
    """The problem of x ~ p in coordinates z ~ N(0, I), x = mean + root z: A becomes root^T A root.

    Args:
        W: (d, m), root^T W.
        b: (m,), b + W^T mean.
        root: (d, d), root root^T the covariance; a perturbation delta becomes root^T delta.
    """

    W: Float[ndarray, "d m"]
    b: Float[ndarray, " m"]
    root: Float[ndarray, "d d"]


def whitened(W: Float[ndarray, "d m"], b: Float[ndarray, " m"], p: Gaussian) -> Whitened:
    """W and b as a Gaussian p other than N(0, I) makes them; every divergence but "w2" stays as it is.

    Raises:
        ValueError: wrong shapes, entries that are not finite, a p that is no Gaussian or of another dimension.
    """
    W = arguments.matrix("W", W)
    b = arguments.vector("b", b, W.shape[1])
    checked_density(p, W.shape[0])
    return Whitened(p.root.T @ W, b + W.T @ p.mean, p.root)


def checked_density(p: object, dimension: int, name: str = "p") -> None:
    """Refuse what is no Gaussian of that dimension.

    Args:
        p: what is refused or not.
        dimension: d.
        name: what p is called in the message.

    Raises:
        ValueError: naming the argument.
    """
    dimension = arguments.count("dimension", dimension)
    if not isinstance(p, Gaussian):
        raise ValueError(f"{name} is a {type(p).__name__}; allowed: a Gaussian, or None for N(0, I)")
    if p.dimension != dimension:
        raise ValueError(f"{name} has dimension {p.dimension}; allowed: that of x, {dimension}")


def diffused(data: Gaussian, alpha_bar: float) -> Gaussian:
    """p_t, the law of x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon, for Gaussian data.

    Args:
        data: the law of x_0.
        alpha_bar: what is left of the data's variance at time t, from 0 to 1.

    Raises:
        ValueError: data that are no Gaussian, an alpha_bar outside [0, 1].
    """
    if not isinstance(data, Gaussian):
        raise ValueError(f"data is a {type(data).__name__}; allowed: a Gaussian")
    alpha_bar = arguments.scalar("alpha_bar", alpha_bar, at_least=0)
    if alpha_bar > 1:
        raise ValueError(f"alpha_bar is {alpha_bar}; allowed: a number from 0 to 1")
    noise = (1 - alpha_bar) * np.eye(data.dimension)
    return Gaussian(np.sqrt(alpha_bar) * data.mean, alpha_bar * data.covariance + noise)


def score_perturbation(delta: Float[ndarray, "d m"], alpha_bar: float) -> Float[ndarray, "d m"]:
    """The perturbation of a score model that moves p_t as delta moves it in a model that predicts the noise.

    The noise is predicted as -sqrt(1 - alpha_bar) times the score, so this is -delta / sqrt(1 - alpha_bar).

    Raises:
        ValueError: no matrix of finite numbers, an alpha_bar that is not at least 0 and below 1.
    """
    delta = arguments.matrix("delta", delta)
    alpha_bar = arguments.scalar("alpha_bar", alpha_bar, at_least=0)
    if alpha_bar >= 1:
        raise ValueError(f"alpha_bar is {alpha_bar}; allowed: below 1, since without noise there is none to predict")
    return -delta / np.sqrt(1 - alpha_bar)


class Spectrum(NamedTuple):
    """A = delta W^T / m and c = delta b / m in A's eigenbasis: A = sum tau_i u_i u_i^T, c = sum c_i u_i."""

    tau: Float[ndarray, " d"]
    c: Float[ndarray, " d"]
    u: Float[ndarray, "d d"]


def spectrum(
    delta: Float[ndarray, "d m"], W: Float[ndarray, "d m"], b: Float[ndarray, " m"], p: Gaussian | None = None
) -> Spectrum:
    """Eigenvalues, eigenvectors (columns of `u`) and mean coordinates of an admissible perturbation, tau rising.

    Args:
        delta, W: (d, m).
        b: (m,).
        p: as in `perturbed_noise`; the spectrum is that in the coordinates z of `whitened`, where p is N(0, I).

    Raises:
        ValueError: wrong shapes, entries that are not finite, a delta that is not admissible, a p that is no Gaussian.
        NotNormalizableError: I + delta W^T / m is not positive definite (a ValueError).
    """
    delta, W = _delta_and_W(delta, W)
    m = W.shape[1]
    b = arguments.vector("b", b, m)
    if not is_admissible(delta, W):
        product = delta @ W.T
        gap = linalg.norm(product - product.T)
        raise ValueError(f"delta is not admissible: |delta W^T - W delta^T| is {gap:.6g}; allowed: 0, up to rounding")
    what = "I + delta W^T/m"
    if p is not None:
        W, b, root = whitened(W, b, p)
        delta = root.T @ delta
        what += ", where p is made standard,"
    A = delta @ W.T / m
    tau, u = linalg.eigh((A + A.T) / 2)
    if not tau[0] > -1:
        raise NotNormalizableError(
            f"not normalisable: smallest eigenvalue of {what} is {1 + tau[0]:.6g}; allowed: above 0"
        )
    return Spectrum(tau, u.T @ (delta @ b / m), u)


def perturbed_noise(
    delta: Float[ndarray, "d m"], W: Float[ndarray, "d m"], b: Float[ndarray, " m"], p: Gaussian | None = None
) -> Gaussian:
    """Corollary 3.4, its sign corrected: e^-I N(0, I) is N(-Sigma c, Sigma), Sigma = (I + A)^-1.

    A = delta W^T / m, c = delta b / m, b = U^T e; linear activation. For p = N(mu, C) the precision is C^-1 + A and
    the mean (C^-1 + A)^-1 (C^-1 mu - c). delta is of a model of the score; see `score_perturbation` for the noise.

    Args:
        delta, W: (d, m).
        b: (m,).
        p: the law of what the model reads, at time t that of x_t; N(0, I) where None.

    Raises:
        ValueError: wrong shapes, entries that are not finite, a delta that is not admissible, a p that is no Gaussian.
        NotNormalizableError: I + A, or C^-1 + A, is not positive definite (a ValueError).
    """
    tau, c, u = spectrum(delta, W, b, p)
    mean, covariance = -u @ (c / (1 + tau)), (u / (1 + tau)) @ u.T
    if p is None:
        return Gaussian(mean, covariance)
    return Gaussian(p.mean + p.root @ mean, p.root @ covariance @ p.root.T)


def perturbation_divergence(
    delta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    divergence: str = "kl",
    p: Gaussian | None = None,
) -> float:
    """Divergence between a Gaussian p and the Gaussian that delta turns it into.

    The same number as of `perturbed_noise`, but read off the eigenvalues of A: no cancellation for small delta and no
    inverse near the edge of positive definiteness. There the smallest eigenvalue 1 + tau is itself the result of a
    subtraction, and the relative error is about 2e-16 / (1 + tau): 1e-6 where it is 1e-9 is not unusual.

    Args:
        delta, W: (d, m).
        b: (m,).
        divergence: "kl", "reverse_kl" or "w2", as in `theory.model.divergences`.
        p: as in `perturbed_noise`.

    Raises:
        ValueError: as `perturbed_noise`, or an unknown divergence.
    """
    chosen = divergence_of(divergence)
    if p is not None and chosen.name == "w2":  # it is not a function of the spectrum in other coordinates
        return squared_wasserstein(p, perturbed_noise(delta, W, b, p))
    tau, c, _ = spectrum(delta, W, b, p)
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


def gap_radius(kappa: float, divergence: str = "kl") -> float:
    """E_kappa: the least divergence of an admissible perturbed Gaussian whose loss rise J is at least kappa.

    It depends on kappa alone, not on theta, W, b or the flatness (Theorem T4); the least is reached at A = sqrt(kappa)
    u u^T, c = 0. In nats for "kl" and "reverse_kl"; the squared distance for "w2".

    Args:
        kappa: the rise of the expected loss, at least 0.
        divergence: "kl" for KL(p || p_hat), "reverse_kl", or "w2".

    Raises:
        ValueError: a negative or non-finite kappa, an unknown divergence.
    """
    chosen = divergence_of(divergence)
    kappa = arguments.scalar("kappa", kappa, at_least=0)
    return float(chosen.scale * chosen.term(np.sqrt(kappa)))


def flat_radius(G: Float[ndarray, "m m"], kappa: float) -> float:
    """Delta_kappa = m sqrt(kappa / lambda_max(G)): how far theta may move (Frobenius) before the loss rises by kappa.

    Args:
        G: (m, m), E_p[phi phi^T], symmetric and positive semidefinite (`feature_second_moment`).
        kappa: the rise of the expected loss, at least 0.

    Returns:
        The radius; infinite where G = 0.

    Raises:
        ValueError: G not square, not symmetric or with a negative eigenvalue; a negative or non-finite kappa.
    """
    G = arguments.matrix("G", G)
    kappa = arguments.scalar("kappa", kappa, at_least=0)
    scale = np.abs(G).max()
    if G.shape[0] != G.shape[1] or np.abs(G - G.T).max() > 1e-8 * scale:
        raise ValueError(f"G of shape {G.shape} is not symmetric; allowed: a symmetric positive semidefinite matrix")
    eigenvalues = linalg.eigvalsh((G + G.T) / 2)
    if eigenvalues[0] < -1e-8 * scale:
        raise ValueError(f"G has eigenvalue {eigenvalues[0]:.6g}; allowed: a symmetric positive semidefinite matrix")
    if eigenvalues[-1] <= 0:
        return float("inf")
    return float(G.shape[0] * np.sqrt(kappa) / np.sqrt(eigenvalues[-1]))
