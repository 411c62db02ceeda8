"""Bounds on the worst case over the spectral ball, where no closed form is known for general b."""

from __future__ import annotations

import numpy as np
from numpy import ndarray
from scipy import linalg

from theory.model import arguments
from theory.model.divergences import Divergence, divergence_of
from theory.model.perturbations import Frame, frame

SEARCH_UP_TO = 20_000
"""Entries of W up to which the lower bound is improved by local search; beyond, the two explicit candidates serve."""
STARTS = 4
STEPS = 40


def divergence_and_gradient(delta: ndarray, W: ndarray, b: ndarray, divergence: Divergence) -> tuple[float, ndarray]:
    """The divergence that an admissible delta causes, and its gradient in delta (d, m), not projected.

    Returns:
        (-infinity, zeros) where I + delta W^T / m is not positive definite.
    """
    m = W.shape[1]
    A = delta @ W.T / m
    tau, u = linalg.eigh((A + A.T) / 2)
    if tau[0] <= -1:
        return -np.inf, np.zeros_like(delta)
    c = u.T @ (delta @ b) / m
    value = divergence.scale * float(np.sum(divergence.term(tau) + c**2 * divergence.weight(tau)))
    inverse = 1 / (1 + tau)
    if divergence.name == "kl":  # tr A - log det(I + A) + c^T S c with S = (I + A)^-1
        of_A = np.diag(1 - inverse) - np.outer(inverse * c, inverse * c)
        of_c = 2 * inverse * c
    else:  # the weight is S^2
        outer = np.outer(inverse**2 * c, inverse * c)
        of_A = np.diag(inverse - inverse**2 if divergence.name == "reverse_kl" else inverse**1.5 - inverse**2)
        of_A = of_A - outer - outer.T
        of_c = 2 * inverse**2 * c
    gradient = (u @ of_A @ u.T) @ W + np.outer(u @ of_c, b)
    return value, divergence.scale / m * gradient


def _into_ball(delta: ndarray, bases: Frame, radius: float) -> ndarray:
    """An admissible matrix of spectral norm <= radius near delta, by alternating projections and a last scaling."""
    for _ in range(8):
        left, s, right = linalg.svd(delta, full_matrices=False)
        if s[0] <= radius * (1 + 1e-12):
            break
        delta = bases._project((left * np.minimum(s, radius)) @ right)
    size = linalg.norm(delta, 2)
    return delta * (radius / size) if size > radius else delta


def _ascent(
    delta: ndarray, W: ndarray, b: ndarray, radius: float, divergence: Divergence, bases: Frame
) -> tuple[float, ndarray]:
    value, gradient = divergence_and_gradient(delta, W, b, divergence)
    step = radius / max(linalg.norm(gradient), 1e-300)
    for _ in range(STEPS):
        trial = _into_ball(delta + step * bases._project(gradient), bases, radius)
        reached, ahead = divergence_and_gradient(trial, W, b, divergence)
        if reached > value:
            delta, value, gradient, step = trial, reached, ahead, step * 1.7
        else:
            step /= 3
    return value, delta


def spectral_ball_bounds(
    W: ndarray, b: ndarray, radius: float, divergence: str | Divergence, inside: ndarray
) -> tuple[float, float, ndarray]:
    """(attained, bound, the perturbation that attains) over admissible |delta|_op <= radius, radius |W|_op < m.

    The bound is scale * [sum_i term(-eta s_i) + eta^2 |b|^2 weight(-eta s_1)]: |A's i-th singular value| <= eta s_i,
    and term and weight are largest at negative tau. It is attained at delta = -Delta U V^T when b is zero or along v_1.

    Args:
        W, b, radius, divergence: as of `worst_case_divergence`.
        inside: (d, m), a perturbation of the ball to start from, besides -Delta U V^T.

    Raises:
        ValueError: an argument is not as above, or the ball reaches densities that cannot be normalised.
    """
    W = arguments.matrix("W", W)
    b = arguments.vector("b", b, W.shape[1])
    radius = arguments.scalar("radius", radius, above=0)
    divergence = divergence_of(divergence)
    inside = arguments.matrix("inside", inside, *W.shape)
    size = linalg.norm(W, 2)
    if radius * size >= W.shape[1]:
        raise ValueError(f"radius is {radius:g}; allowed: below m / |W|, which is {W.shape[1] / size:g}")
    return ball_bounds(W, b, radius, divergence, inside)


def ball_bounds(
    W: ndarray, b: ndarray, radius: float, divergence: Divergence, inside: ndarray
) -> tuple[float, float, ndarray]:
    """`spectral_ball_bounds`, of arguments that are as they must be."""
    m = W.shape[1]
    left, s, right = linalg.svd(W, full_matrices=False)
    shrink = -radius / m * s
    bound = divergence.scale * float(
        np.sum(divergence.term(shrink)) + (radius / m) ** 2 * (b @ b) * divergence.weight(shrink[0])
    )
    nonzero = s > max(W.shape) * np.finfo(float).eps * s[0]
    polar = -radius * (left[:, nonzero] @ right[nonzero])
    starts = [polar, inside]
    if W.size <= SEARCH_UP_TO and np.any(b):
        bases = frame(W)
        rng = np.random.default_rng(0)
        for _ in range(STARTS):
            start = polar + radius * rng.standard_normal(W.shape) / np.sqrt(max(W.shape))
            starts.append(_into_ball(bases._project(start), bases, radius))
        reached = [_ascent(start, W, b, radius, divergence, bases) for start in starts]
    else:
        reached = [(divergence_and_gradient(start, W, b, divergence)[0], start) for start in starts]
    attained, perturbation = max(reached, key=lambda pair: pair[0])
    return attained, bound, perturbation
