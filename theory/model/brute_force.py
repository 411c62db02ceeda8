"""Brute-force constrained optimisation over admissible perturbations, to hold closed forms against.

Knows nothing of T2 or T4: it parametrises the admissible perturbations by an orthonormal basis and climbs, or descends,
from many random starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray
from scipy import optimize
from threadpoolctl import threadpool_limits

from theory.model import perturbations
from theory.model.divergences import Divergence
from theory.model.spectral_ball import divergence_and_gradient

OPTIONS: Any = {"maxiter": 500, "ftol": 1e-15, "gtol": 1e-12, "maxcor": 20}


def _search(objective: Callable[[ndarray], tuple[float, ndarray]], size: int, starts: int, seed: int) -> float:
    rng = np.random.default_rng(seed)
    best = np.inf
    with threadpool_limits(1, "blas"):  # threads that wait for each other cost far more than these small products
        for _ in range(starts):
            start = rng.standard_normal(size)
            optimum = optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options=OPTIONS)
            best = min(best, float(optimum.fun))
    return best


def largest_divergence(
    W: ndarray, b: ndarray, radius: float, divergence: Divergence, starts: int = 12, seed: int = 0
) -> float:
    """The largest divergence found over admissible perturbations of Frobenius norm `radius`."""
    basis = perturbations.admissible_basis(W)
    flat = basis.reshape(len(basis), -1)

    def objective(z: ndarray) -> tuple[float, ndarray]:
        length = np.linalg.norm(z)
        unit = z / length
        delta = radius * np.tensordot(unit, basis, 1)
        value, gradient = divergence_and_gradient(delta, W, b, divergence)
        along = radius * (flat @ gradient.ravel())
        return -value, -(along - unit * (unit @ along)) / length

    return -_search(objective, len(basis), starts, seed)


def least_divergence(
    W: ndarray, b: ndarray, kappa: float, divergence: Divergence, starts: int = 12, seed: int = 0
) -> float:
    """The least divergence found over admissible, normalisable perturbations with loss rise J(delta) = kappa."""
    m = W.shape[1]
    basis = perturbations.admissible_basis(W)
    flat = basis.reshape(len(basis), -1)
    images = np.concatenate([(basis @ W.T).reshape(len(basis), -1), basis @ b], axis=1) / m
    form = images @ images.T  # J(sum z_k B_k) = z^T form z

    def objective(z: ndarray) -> tuple[float, ndarray]:
        rise = float(z @ form @ z)
        if rise <= 0:
            return 1e6, np.zeros_like(z)
        scale = np.sqrt(kappa / rise)
        value, gradient = divergence_and_gradient(scale * np.tensordot(z, basis, 1), W, b, divergence)
        if np.isinf(value):  # not normalisable: a wall, from which the line search steps back
            return 1e6, np.zeros_like(z)
        along = flat @ gradient.ravel()
        return value, scale * (along - form @ z * (z @ along) / rise)

    # Half the starts lean towards positive definite A, where large kappa still leaves a density.
    lean = flat @ W.ravel()

    def leaning(z: ndarray) -> tuple[float, ndarray]:
        return objective(z + 3 * np.sqrt(len(z)) * lean / max(np.linalg.norm(lean), 1e-300))

    half = (starts + 1) // 2
    return min(_search(objective, len(basis), half, seed), _search(leaning, len(basis), half, seed + 1))
