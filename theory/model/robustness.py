"""How far a distribution may move before the expected loss rises by kappa (Theorem T4), and how far theta may (T3)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg

from theory.model import arguments
from theory.model.divergences import divergence_of


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
