"""How far the density may move before the loss rises, in the model of the theory: linear features, p = N(0, I).

theta is the exact score's. An admissible delta turns p into a Gaussian p_hat; the loss of the unmoved theta against the
score of p_hat, in the mean over p, is measured on a sample and held against J(delta). T4: the least KL(p || p_hat) at
which it reaches kappa is E_kappa, of kappa alone, although rescaling W and b by a divides the flat radius by a. T2:
within a ball no density is further than the worst case.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from flatness.weights import derived_seed
from theory.model.perturbations import (
    flat_radius,
    gap_radius,
    loss_rise,
    perturbation_divergence,
    perturbed_noise,
    project_admissible,
)
from theory.model.worst_case import worst_case_divergence

SCALES = (0.5, 1.0, 2.0)
"""What W and b are multiplied by: a model's flat radius is 1 / a of another's with the same function."""
KAPPAS = (0.01, 0.04, 0.16, 0.36)


@dataclass(frozen=True)
class Setting:
    """Sizes: d, m, random directions a model, points of p; kappa is a sum over coordinates, as in the theory."""

    dimension: int = 2
    features: int = 16
    directions: int = 40
    points: int = 20_000
    kappa: float = 0.16


def least_direction(W: ndarray, b: ndarray, kappa: float) -> ndarray:
    """The delta of T4's least divergence: delta W^T / m = sqrt(kappa) u u^T, delta b = 0, u the first axis."""
    d, m = W.shape
    u = np.eye(d)[0]
    y = np.linalg.lstsq(np.vstack([W, b]), np.append(u, 0.0), rcond=None)[0]
    return np.asarray(m * kappa**0.5 * np.outer(u, y))


def measured_rise(delta: ndarray, W: ndarray, b: ndarray, x: ndarray) -> float:
    """The mean over x of |s(x) - grad log p_hat(x)|^2, s(x) = -x the exact score of p."""
    p_hat = perturbed_noise(delta, W, b)
    score = -np.linalg.solve(p_hat.covariance, (x - p_hat.mean).T).T
    return float(((score + x) ** 2).sum(1).mean())


def random_directions(
    W: ndarray, b: ndarray, kappa: float, number: int, generator: np.random.Generator
) -> list[ndarray]:
    """Random admissible perturbations, scaled to J = kappa, those of them that leave a density."""
    directions = []
    for _ in range(number):
        delta = project_admissible(generator.standard_normal(W.shape), W)
        delta *= (kappa / loss_rise(delta, W, b)) ** 0.5
        if np.linalg.eigvalsh(np.eye(len(W)) + delta @ W.T / W.shape[1])[0] > 0:
            directions.append(delta)
    return directions


def _model(seed: int, scale: float, setting: Setting) -> tuple[ndarray, ndarray, ndarray, np.random.Generator]:
    """W, b, points of p, and the generator for what follows."""
    generator = np.random.default_rng(derived_seed("gap tolerance", seed))
    W = scale * generator.standard_normal((setting.dimension, setting.features))
    b = scale * generator.standard_normal(setting.features)
    return W, b, generator.standard_normal((setting.points, setting.dimension)), generator


def tolerance(seed: int, scale: float, setting: Setting) -> dict[str, float]:
    """The measures of one seed's model, W and b multiplied by the scale; the same directions at every scale."""
    W, b, x, generator = _model(seed, scale, setting)
    kappa = setting.kappa
    deltas = [
        *random_directions(W, b, kappa, setting.directions, generator),
        least_direction(W, b, kappa),
    ]
    rises = [measured_rise(delta, W, b, x) for delta in deltas]
    divergences = [perturbation_divergence(delta, W, b) for delta in deltas]
    m = setting.features
    radius = 0.5 * m / float(np.linalg.norm(W, 2))
    worst = worst_case_divergence(W, b, radius)
    inside = [perturbation_divergence(radius / np.linalg.norm(delta) * delta, W, b) for delta in deltas]
    return {
        "rise_over_j": float(np.mean(rises)) / kappa,
        "gap_radius": min(divergences),
        "gap_radius_t4": gap_radius(kappa),
        "flat_radius": flat_radius(W.T @ W + np.outer(b, b), kappa),
        "largest_share_of_t2": max(inside) / worst.value,
        "attained_share_of_t2": perturbation_divergence(worst.perturbation, W, b) / worst.value,
    }


def curve(seed: int, scale: float, setting: Setting) -> list[dict[str, float]]:
    """Least and random divergences against measured rises, for a figure."""
    W, b, x, generator = _model(seed, scale, setting)
    points = []
    for kappa in KAPPAS:
        least = least_direction(W, b, kappa)
        others = random_directions(W, b, kappa, min(setting.directions, 20), generator)
        points.append(
            {
                "kappa": kappa,
                "gap_radius_t4": gap_radius(kappa),
                "least_divergence": perturbation_divergence(least, W, b),
                "measured_rise": measured_rise(least, W, b, x),
                "median_random_divergence": float(np.median([perturbation_divergence(o, W, b) for o in others])),
            }
        )
    return points
