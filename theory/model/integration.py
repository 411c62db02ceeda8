"""Integrals over R^d against densities known up to a constant: adaptive quadrature, and importance sampling.

Both take an integrand(x, log_weight), which returns the columns to integrate, each times exp(log_weight); the weight
stays a logarithm until the integrand has multiplied it with a density, so that neither overflows alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from itertools import product
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg, optimize, special

LogDensity = Callable[[ndarray], ndarray]
"""Of points (..., d): log densities (...), -inf outside the support."""
Integrand = Callable[[ndarray, ndarray], ndarray]
"""Of points (n, d) and log weights (n,): columns (n, k)."""

TOLERANCES = {1: 1e-10, 2: 1e-6, 3: 1e-3}
"""Relative tolerance of the quadrature, by d; larger d are sampled. The error made is far below the estimate."""
NODES = {1: (41, 20), 2: (15, 8), 3: (11, 6)}
"""Gauss-Legendre nodes a dimension, by d, of the rule that is used and of the one that it is compared with."""
MOST_BOXES = {1: 2000, 2: 4000, 3: 2000}
"""Where the quadrature stops whatever its error: seconds for each d."""
LARGEST_CHUNK = 100_000
"""Points at which an integrand is evaluated in one call."""
PROPOSAL_DEGREES = 5
"""Degrees of freedom of the proposals: tails that cover any Gaussian's, at a moderate loss in its bulk."""
FAR = 1e6
"""Radius, in Laplace scales, at which a density must be falling if it can be normalised."""


def standard_normal(x: ndarray) -> ndarray:
    """Log density of N(0, I) at points (..., d)."""
    return -(x**2).sum(axis=-1) / 2 - x.shape[-1] / 2 * np.log(2 * np.pi)


def checked_log_density(log_density: LogDensity, starts: Float[ndarray, "k d"]) -> LogDensity:
    """A caller's log density of points (n, d), made one of points (..., d); shape and values checked at every call.

    Raises:
        ValueError: not a function, or not finite at `starts`; by the result: shapes and values that are none.
    """

    def checked(x: ndarray) -> ndarray:
        points = x.reshape(-1, starts.shape[1])
        values = np.asarray(log_density(points), dtype=float)
        if values.shape != points.shape[:1] or np.isnan(values).any() or (values == np.inf).any():
            raise ValueError(
                f"log_density gives {values!r} at {len(points)} points of shape {points.shape}; "
                "allowed: one number or -inf for each"
            )
        return values.reshape(x.shape[:-1])

    if not callable(log_density):
        raise ValueError(f"log_density is {log_density!r}; allowed: a function of points (n, d), or None for N(0, I)")
    if not np.isfinite(checked(starts)).all():
        raise ValueError(f"starts is {starts.tolist()}; allowed: points at which log_density is finite")
    return checked


class Peak(NamedTuple):
    """A mode (d,), and Laplace's scale (d, d) there: in t, x = mode + scale t, the curvature is the identity."""

    mode: Float[ndarray, " d"]
    scale: Float[ndarray, "d d"]


@np.errstate(over="ignore", invalid="ignore")
def find_peak(log_density: LogDensity, start: Float[ndarray, " d"]) -> Peak:
    """The mode reached from `start`, and Laplace's scale there, by a quasi-Newton search and Newton steps.

    Raises:
        ArithmeticError: the search ends where the density is not finite.
    """
    # BFGS stops at the precision of its differences and calls that failure; the Newton steps go on from there.
    mode = _minimum(lambda x: -float(log_density(x)), start)
    for _ in range(5):
        if not np.isfinite(log_density(mode)):
            raise ArithmeticError(f"no mode is found from {start.tolist()}: the log density is not finite at {mode}")
        scale, step = _newton_step(log_density, mode)
        if not log_density(mode + step) > log_density(mode):
            break
        mode = mode + step
    return Peak(mode, scale)


def _newton_step(log_density: LogDensity, mode: ndarray) -> tuple[ndarray, ndarray]:
    """Laplace's scale and the Newton step, by differences over steps that lower log_density by about 1/2."""
    top = float(log_density(mode))
    steps = np.ones(mode.size)
    for _ in range(500):
        above, below = log_density(mode + np.diag(steps)), log_density(mode - np.diag(steps))
        drop = top - np.minimum(above, below)
        factor = np.where(drop > 1, 0.5, np.where(drop < 0.1, 2.0, 1.0))
        if (factor == 1).all():
            break
        steps = steps * factor
    axes = np.diag(steps)
    signs = [(a, b) for a in (1, -1) for b in (1, -1)]
    corners = np.array([a * b * log_density(mode + a * axes[:, None] + b * axes) for a, b in signs])
    curvature, slope = -corners.sum(axis=0) / 4, (above - below) / 2
    if not np.isfinite(curvature).all():  # the edge of the support is near
        return axes, np.zeros(mode.size)
    eigenvalues, vectors = linalg.eigh((curvature + curvature.T) / 2)
    # curvature that is not positive says nothing of the width; neither does what rounding leaves of it
    scale = axes @ vectors / np.sqrt(np.where(eigenvalues > 1e-6, eigenvalues, 0.05))
    return scale, scale @ (scale.T @ (slope / steps))


def _minimum(function: Callable[[ndarray], float], start: ndarray) -> ndarray:
    with np.errstate(all="ignore"):
        return np.asarray(optimize.minimize(function, np.asarray(start, dtype=np.float64), method="BFGS").x)


class Integrator(Protocol):
    """Either way to integrate."""

    def __call__(self, integrand: Integrand) -> tuple[ndarray, ndarray]:
        """Integrals (k,) of the columns of integrand(x, 0) over R^d, and their estimated absolute errors (k,)."""


@cache
def _rule(nodes: int, d: int) -> tuple[ndarray, ndarray]:
    """Tensor Gauss-Legendre nodes (nodes^d, d) and weights on the unit cube."""
    x, weights = np.polynomial.legendre.leggauss(nodes)
    grid = np.stack(np.meshgrid(*[(1 + x) / 2] * d, indexing="ij"), axis=-1).reshape(-1, d)
    return grid, reduce(np.multiply.outer, [weights / 2] * d).ravel()


def _split(low: ndarray, high: ndarray, at: ndarray) -> tuple[ndarray, ndarray]:
    """Each box (n, d) cut along every axis at its own point (n, d): 2^d n boxes."""
    sides = [np.array(side) for side in product((False, True), repeat=low.shape[1])]
    return (
        np.concatenate([np.where(side, at, low) for side in sides]),
        np.concatenate([np.where(side, high, at) for side in sides]),
    )


def _cut(low: ndarray, high: ndarray, planes: ndarray) -> tuple[ndarray, ndarray]:
    """The boxes that meet the box from planes[0] to planes[-1], cut along each axis at every row of planes (k, d)."""
    for axis in range(low.shape[1]):
        for plane in planes[:, axis]:
            met = (
                ((low < planes[-1]) & (high > planes[0])).all(axis=1) & (low[:, axis] < plane) & (plane < high[:, axis])
            )
            below, above = high[met].copy(), low[met].copy()
            below[:, axis] = above[:, axis] = plane
            low, high = np.concatenate([low[~met], low[met], above]), np.concatenate([high[~met], below, high[met]])
    return low, high


def _mapped(t: ndarray) -> ndarray:
    """The s in (-1, 1) with t = s / (1 - s^2)."""
    return 2 * t / (1 + np.sqrt(1 + 4 * t**2))


@dataclass(frozen=True, eq=False)
class Quadrature:
    """Adaptive quadrature over all of R^d, mapped to a box: x = mode + scale t, t_i = s_i / (1 - s_i^2).

    Args:
        peaks: the first gives mode and scale, turned so that the last lies along the axes of t; around those that are
            far from the first, or narrow, the box is split beforehand.
        kinks: (k,), d = 1 only: points at which a derivative of the integrand jumps; split there too.
    """

    peaks: Sequence[Peak]
    kinks: Float[ndarray, " k"]

    @cached_property
    def _frame(self) -> Peak:
        mode, scale = self.peaks[0]
        turned, _, _ = linalg.svd(np.linalg.solve(scale, self.peaks[-1].scale))
        return Peak(mode, scale @ turned)

    @cached_property
    def _first_boxes(self) -> tuple[ndarray, ndarray]:
        mode, scale = self._frame
        d = mode.size
        low, high = _split(-np.ones((1, d)), np.ones((1, d)), np.zeros((1, d)))
        for kink in self.kinks:
            cut = _mapped((kink - mode) / scale[0])
            low, high = _cut(low, high, np.array([-1.0, cut[0], 1.0])[:, None])
        for peak in self.peaks[1:]:
            far, shape = np.linalg.solve(scale, peak.mode - mode), np.linalg.solve(scale, peak.scale)
            if np.abs(far).max() > 2 or np.linalg.norm(shape, -2) < 0.25:
                extent = 8 * np.linalg.norm(shape, axis=1)  # beyond, a Gaussian is nil
                low, high = _cut(low, high, _mapped(np.array([far - extent, far, far + extent])))
        return low, high

    def _over(self, integrand: Integrand, low: ndarray, high: ndarray, nodes: int) -> ndarray:
        """Integrals (n, k) over boxes (n, d) by one rule."""
        mode, scale = self._frame
        unit, weights = _rule(nodes, mode.size)
        log_volume = np.log(np.abs(linalg.det(scale)))
        parts = []
        for chunk in np.array_split(np.arange(len(low)), -(-len(low) * len(unit) // LARGEST_CHUNK)):
            width = high[chunk] - low[chunk]
            s = (low[chunk][:, None] + width[:, None] * unit).reshape(-1, mode.size)
            edge = (1 - s) * (1 + s)
            log_jacobian = (np.log1p(s**2) - 2 * np.log(edge)).sum(axis=1)
            values = integrand(mode + (s / edge) @ scale.T, log_volume + log_jacobian)
            sums = np.einsum("nqk,q->nk", values.reshape(len(chunk), len(unit), -1), weights)
            parts.append(sums * width.prod(axis=1, keepdims=True))
        return np.concatenate(parts)

    def __call__(self, integrand: Integrand) -> tuple[ndarray, ndarray]:
        """As `Integrator`; the error is the difference of two Gauss rules, summed over the boxes."""
        fine, coarse = NODES[self.peaks[0].mode.size]

        def assessed(low: ndarray, high: ndarray) -> tuple[ndarray, ...]:
            integral = self._over(integrand, low, high, fine)
            return low, high, integral, np.abs(integral - self._over(integrand, low, high, coarse))

        boxes = assessed(*self._first_boxes)
        while True:
            low, high, integrals, error = boxes
            allowed = TOLERANCES[low.shape[1]] * np.abs(integrals.sum(axis=0))
            worst = (error > allowed / len(low)).any(axis=1)
            if (error.sum(axis=0) <= allowed).all() or not worst.any() or len(low) > MOST_BOXES[low.shape[1]]:
                return integrals.sum(axis=0), error.sum(axis=0)
            parts = assessed(*_split(low[worst], high[worst], (low + high)[worst] / 2))
            boxes = tuple(np.concatenate([old[~worst], new]) for old, new in zip(boxes, parts, strict=True))


def _log_student(t: ndarray, scale: ndarray) -> ndarray:
    """Log density of the multivariate t distribution at x = mode + scale t."""
    half, d = PROPOSAL_DEGREES / 2, t.shape[1]
    log_volume = np.log(np.abs(linalg.det(scale))) + d / 2 * np.log(np.pi * PROPOSAL_DEGREES)
    kernel = -(half + d / 2) * np.log1p((t**2).sum(axis=1) / PROPOSAL_DEGREES)
    return kernel + special.gammaln(half + d / 2) - special.gammaln(half) - log_volume


class ImportanceSampling:
    """Importance sampling from equal shares of multivariate t distributions around the given peaks."""

    def __init__(self, peaks: Sequence[Peak], samples: int, seed: int) -> None:
        """Draw `samples` points (rounded up to equal shares), a function of the seed alone."""
        generator = np.random.default_rng(seed)
        each, d = -(-samples // len(peaks)), peaks[0].mode.size
        spread = np.sqrt(PROPOSAL_DEGREES / generator.chisquare(PROPOSAL_DEGREES, (len(peaks), each, 1)))
        t = generator.standard_normal((len(peaks), each, d)) * spread
        self.x = np.concatenate([peak.mode + at @ peak.scale.T for peak, at in zip(peaks, t, strict=True)])
        shares = [_log_student(np.linalg.solve(scale, (self.x - mode).T).T, scale) for mode, scale in peaks]
        self.log_weight = np.log(len(peaks)) - special.logsumexp(shares, axis=0)

    def __call__(self, integrand: Integrand) -> tuple[ndarray, ndarray]:
        """As `Integrator`; the errors are standard errors."""
        values = integrand(self.x, self.log_weight)
        return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))

    def effective_samples(self, log_density: LogDensity) -> float:
        """(sum w)^2 / sum w^2 of the weights w = density / proposal."""
        weights = np.exp(special.log_softmax(log_density(self.x) + self.log_weight))
        return float(1 / (weights**2).sum())


def unnormalisable_ray(
    log_density: LogDensity, peak: Peak, directions: Float[ndarray, "k d"]
) -> Float[ndarray, " d"] | None:
    """A unit vector along which the density falls more slowly than 1/r far out, or None where none is seen.

    Looked for among the given directions, 64 random ones and their opposites, and by a local search from the best.
    """
    reach = FAR * float(linalg.norm(peak.scale, 2))
    rays = np.concatenate([directions, np.random.default_rng(0).standard_normal((64, peak.mode.size))])
    largest = np.abs(rays).max(axis=1, keepdims=True)
    rays = rays[largest[:, 0] > 0] / largest[largest[:, 0] > 0]
    rays = np.concatenate([rays, -rays])
    rays = rays / linalg.norm(rays, axis=1, keepdims=True)
    if peak.mode.size > 1:

        def depth(u: ndarray) -> float:
            return -float(log_density(peak.mode + reach * u / linalg.norm(u))) / FAR**2

        best = np.argsort(-log_density(peak.mode + reach * rays))[:3]
        refined = np.array([_minimum(depth, rays[index]) for index in best])
        rays = np.concatenate([rays, refined / linalg.norm(refined, axis=1, keepdims=True)])
    near, far = (log_density(peak.mode + factor * reach * rays) for factor in (1, 2))
    with np.errstate(invalid="ignore"):
        slow = far - near >= -np.log(2)  # false where both are -inf
    return rays[slow][0] if slow.any() else None
