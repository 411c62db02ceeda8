"""Gaussian distributions, and the three divergences between them that the theory uses."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg

from theory.model import arguments

SYMMETRY_TOLERANCE = 1e-8
"""Relative asymmetry accepted in a covariance: what rounding leaves in a product of matrices, with a wide margin."""

LARGEST_DIMENSION = 2**16
"""Largest d of `standard_normal`, whose covariance then has 32 GiB."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The normal distribution N(mean, covariance) on R^d.

    Args:
        mean: (d,).
        covariance: (d, d), symmetric and positive definite.

    Raises:
        ValueError: wrong shapes, entries that are not finite, a covariance not symmetric or not positive definite.
    """

    mean: Float[ndarray, " d"]
    covariance: Float[ndarray, "d d"]
    _eigenvalues: ndarray = field(init=False, repr=False)
    _eigenvectors: ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check and freeze both arrays; the covariance is made exactly symmetric."""
        mean = arguments.vector("mean", self.mean).copy()
        covariance = arguments.matrix("covariance", self.covariance, mean.size, mean.size)
        scale = np.abs(covariance).max()
        asymmetry = np.abs(covariance - covariance.T).max()
        if asymmetry > SYMMETRY_TOLERANCE * scale:
            raise ValueError(f"covariance differs from its transpose by {asymmetry:.3g}; allowed: a symmetric matrix")
        covariance = (covariance + covariance.T) / 2
        eigenvalues, eigenvectors = linalg.eigh(covariance)
        lowest = max(np.finfo(float).eps * eigenvalues[-1], 1 / arguments.LARGEST)
        if not eigenvalues[0] >= lowest:
            raise ValueError(
                f"covariance has smallest eigenvalue {eigenvalues[0]:.6g}; "
                f"allowed: a matrix positive definite beyond rounding, smallest eigenvalue at least {lowest:.3g}"
            )
        mean.flags.writeable = covariance.flags.writeable = False
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", covariance)
        object.__setattr__(self, "_eigenvalues", eigenvalues)
        object.__setattr__(self, "_eigenvectors", eigenvectors)

    @property
    def dimension(self) -> int:
        """The number d of coordinates."""
        return self.mean.size

    @property
    def root(self) -> Float[ndarray, "d d"]:
        """A square root of the covariance: mean + root z is distributed like this for standard normal z."""
        return self._eigenvectors * np.sqrt(self._eigenvalues)

    @property
    def is_isotropic(self) -> bool:
        """Whether the covariance is a multiple of the identity, up to rounding."""
        return bool(self._eigenvalues[-1] - self._eigenvalues[0] <= 1e-13 * self._eigenvalues[-1])

    @property
    def largest_variance(self) -> float:
        """The largest eigenvalue of the covariance."""
        return float(self._eigenvalues[-1])

    def whiten(self, vectors: Float[ndarray, "*n d"]) -> Float[ndarray, "*n d"]:
        """Coordinates of displacements from the mean, (..., d), in which this Gaussian is standard.

        Raises:
            ValueError: displacements of another shape, or that are not finite.
        """
        return self._whiten(arguments.points("vectors", vectors, self.dimension))

    def _whiten(self, vectors: ndarray) -> ndarray:
        return vectors @ self._eigenvectors / np.sqrt(self._eigenvalues)

    def log_density(self, x: Float[ndarray, "*n d"]) -> Float[ndarray, "*n"]:
        """Log of the density at points x of shape (..., d).

        Raises:
            ValueError: points of another shape, or that are not finite.
        """
        x = arguments.points("x", x, self.dimension)
        log_normaliser = 0.5 * (self.dimension * np.log(2 * np.pi) + np.log(self._eigenvalues).sum())
        return -0.5 * (self._whiten(x - self.mean) ** 2).sum(axis=-1) - log_normaliser

    def sample(self, number: int, generator: np.random.Generator) -> Float[ndarray, "n d"]:
        """Draw `number` points; shape (number, d).

        Raises:
            ValueError: a number below 1 or of more points than memory holds, no generator of numpy's.
        """
        number = arguments.count("number", number)
        if not isinstance(generator, np.random.Generator):
            raise arguments.refuse("generator", generator, "a numpy.random.Generator")
        try:
            noise = generator.standard_normal((number, self.dimension)) * np.sqrt(self._eigenvalues)
            return self.mean + noise @ self._eigenvectors.T
        except (MemoryError, ValueError) as error:
            raise arguments.refuse("number", number, "as many points as memory holds") from error


def standard_normal(dimension: int) -> Gaussian:
    """N(0, I) on R^d: the distribution of the noise, and p wherever nothing else is said.

    Raises:
        ValueError: a dimension below 1 or above LARGEST_DIMENSION.
    """
    dimension = arguments.count("dimension", dimension)
    if dimension > LARGEST_DIMENSION:
        raise arguments.refuse("dimension", dimension, f"a whole number from 1 to {LARGEST_DIMENSION}")
    return Gaussian(np.zeros(dimension), np.eye(dimension))


def _pair(p: Gaussian, q: Gaussian) -> None:
    for name, value in (("p", p), ("q", q)):
        if not isinstance(value, Gaussian):
            raise ValueError(f"{name} is a {type(value).__name__}; allowed: a Gaussian")
    if p.dimension != q.dimension:
        raise ValueError(f"q has dimension {q.dimension}; allowed: that of p, {p.dimension}")


def kl_divergence(p: Gaussian, q: Gaussian) -> float:
    """Kullback-Leibler divergence KL(p || q) in nats, the expectation under p of log p - log q.

    Raises:
        ValueError: arguments that are no Gaussians of one dimension.
    """
    _pair(p, q)
    # In the coordinates that make q standard p has covariance M; with x = M - 1 eigenvalue by eigenvalue,
    # x - log(1 + x) cancels least near p = q.
    relative = q._whiten(q._whiten(p.covariance).T)
    excess = linalg.eigvalsh((relative + relative.T) / 2 - np.eye(p.dimension))
    if excess[0] + 1 > 1e-6 * (2 + excess[-1]):
        logarithms = np.log1p(excess).sum()
    else:  # the small eigenvalues of M are lost to rounding; those of p and q are not
        logarithms = np.log(p._eigenvalues).sum() - np.log(q._eigenvalues).sum()
    shift = q._whiten(p.mean - q.mean)
    return float(0.5 * (excess.sum() - logarithms + shift @ shift))


def squared_wasserstein(p: Gaussian, q: Gaussian) -> float:
    """Squared 2-Wasserstein distance, |mean difference|^2 + tr(P + Q - 2 (Q^1/2 P Q^1/2)^1/2).

    Raises:
        ValueError: arguments that are no Gaussians of one dimension.
    """
    _pair(p, q)
    # The least |P^1/2 R - Q^1/2|^2 over rotations R equals the trace term, and a sum of squares does not cancel.
    p_root = p._eigenvectors * np.sqrt(p._eigenvalues)
    q_root = q._eigenvectors * np.sqrt(q._eigenvalues)
    left, _, right = linalg.svd(p_root.T @ q_root)
    difference = p_root @ (left @ right) - q_root
    mean_difference = p.mean - q.mean
    return float((difference**2).sum() + mean_difference @ mean_difference)
