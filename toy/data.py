"""Data whose noised density, score and optimal noise prediction are known in closed form: Gaussian mixtures.

With x_0 ~ sum_k w_k N(mu_k, Sigma_k), x_t ~ sum_k w_k N(sqrt(alpha_bar) mu_k, alpha_bar Sigma_k + (1 - alpha_bar) I).
The optimal noise prediction is E[epsilon | x_t] = -sqrt(1 - alpha_bar) score(x_t).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from flatness import arguments
from flatness.weights import derived_seed
from toy.process import AlphaBar

DEVIATIONS_COVERED = 5.0
"""Standard deviations beyond the outermost mean that `extent` covers: a coordinate leaves it once in a million."""


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of K normal distributions on R^d; a Gaussian for K = 1.

    Args:
        weights: (K,), positive, summing to 1.
        means: (K, d).
        covariances: (K, d, d), symmetric and positive definite.

    Raises:
        ValueError: an argument is not as above.
    """

    weights: Float[Tensor, " K"]
    means: Float[Tensor, "K d"]
    covariances: Float[Tensor, "K d d"]
    _eigenvalues: Float[Tensor, "K d"] = field(init=False, repr=False)
    _eigenvectors: Float[Tensor, "K d d"] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Check every argument; take the eigenvectors, which the noise does not change."""
        for name in ("weights", "means", "covariances"):
            object.__setattr__(self, name, arguments.finite_tensor(name, getattr(self, name)).double())
        components, d = self.means.shape if self.means.dim() == 2 else (0, 0)
        if not components:
            raise arguments.refuse("means", self.means, "a tensor (K, d)")
        weights = self.weights
        # 1e-6: what float32 leaves in a sum of a few thousand weights
        if weights.shape != (components,) or not bool((weights > 0).all()) or abs(float(weights.sum()) - 1) > 1e-6:
            raise arguments.refuse("weights", weights.tolist(), f"{components} positive numbers that sum to 1")
        object.__setattr__(self, "weights", weights / weights.sum())
        covariances = self.covariances
        if covariances.shape != (components, d, d):
            raise arguments.refuse("covariances", covariances, f"a tensor of shape {(components, d, d)}")
        asymmetry = (covariances - covariances.mT).abs().amax()
        eigenvalues, eigenvectors = torch.linalg.eigh(covariances)
        if asymmetry > 1e-9 * covariances.abs().amax() or bool((eigenvalues <= 0).any()):
            raise ValueError(
                f"covariances have asymmetry {float(asymmetry):.3g} and smallest eigenvalue "
                f"{float(eigenvalues.min()):.3g}; allowed: symmetric positive definite matrices"
            )
        object.__setattr__(self, "_eigenvalues", eigenvalues)
        object.__setattr__(self, "_eigenvectors", eigenvectors)

    @property
    def dimension(self) -> int:
        """d."""
        return self.means.shape[1]

    @property
    def extent(self) -> float:
        """A bound on the coordinates' magnitudes that samples keep to but for one in a million."""
        deviations = self.covariances.diagonal(dim1=1, dim2=2).sqrt()
        return float((self.means.abs() + DEVIATIONS_COVERED * deviations).max())

    def mean(self) -> Float[Tensor, " d"]:
        """The mean of the mixture."""
        return self.weights @ self.means

    def covariance(self) -> Float[Tensor, "d d"]:
        """The covariance of the mixture."""
        about = self.means - self.mean()
        return torch.einsum("k,kij->ij", self.weights, self.covariances + about[:, :, None] * about[:, None, :])

    def sample(
        self, number: int, seed: int | torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Float[Tensor, "n d"]:
        """Draw points; a function of the seed, or from a generator.

        Raises:
            ValueError: fewer than one point, a seed that is neither.
        """
        number = arguments.count("number", number, at_least=1)
        generator = seed if isinstance(seed, torch.Generator) else generator_of("data", arguments.count("seed", seed))
        noise = torch.randn(number, self.dimension, generator=generator, dtype=dtype)
        roots = (self._eigenvectors * self._eigenvalues.sqrt()[:, None, :]).to(dtype)
        if len(self.weights) == 1:
            return self.means[0].to(dtype) + noise @ roots[0].T
        chosen = torch.rand(number, generator=generator, dtype=torch.float64)
        index = torch.bucketize(chosen, self.weights.cumsum(0)[:-1])
        if bool((self.covariances == self.covariances[0]).all()):
            return self.means.to(dtype)[index] + noise @ roots[0].T
        return self.means.to(dtype)[index] + torch.einsum("nij,nj->ni", roots[index], noise)

    def noised(self, alpha_bar: float) -> GaussianMixture:
        """The distribution of x_t at this alpha_bar, in [0, 1].

        Raises:
            ValueError: alpha_bar out of range.
        """
        bar = arguments.number("alpha_bar", float(alpha_bar), at_least=0.0, at_most=1.0)
        identity = torch.eye(self.dimension, dtype=torch.float64)
        return GaussianMixture(self.weights, bar**0.5 * self.means, bar * self.covariances + (1.0 - bar) * identity)

    def log_density(self, x: Float[Tensor, "*n d"], alpha_bar: AlphaBar = 1.0) -> Float[Tensor, "*n"]:
        """The log of the density of x_t, float64.

        Args:
            x: points.
            alpha_bar: one for all points, or one a point; 1 is the data itself.

        Raises:
            ValueError: wrong shapes, alpha_bar out of [0, 1].
        """
        return self._terms(x, alpha_bar)[0].logsumexp(-1)

    def score(self, x: Float[Tensor, "*n d"], alpha_bar: AlphaBar = 1.0) -> Float[Tensor, "*n d"]:
        """The gradient of `log_density` in x, float64; arguments as there."""
        joint, displacement = self._terms(x, alpha_bar)
        return -(joint.softmax(-1)[..., None] * displacement).sum(-2)

    def optimal_noise(self, x: Float[Tensor, "*n d"], alpha_bar: AlphaBar) -> Float[Tensor, "*n d"]:
        """E[epsilon | x_t = x] = -sqrt(1 - alpha_bar) score(x), float64; arguments as in `log_density`."""
        bar = torch.as_tensor(alpha_bar, dtype=torch.float64)
        return -(1.0 - bar).sqrt()[..., None] * self.score(x, alpha_bar)

    def _terms(self, x: Tensor, alpha_bar: AlphaBar) -> tuple[Tensor, Tensor]:
        """The log of w_k p_k(x), (*n, K), and Sigma_kt^-1 (x - mean_kt), (*n, K, d)."""
        if not isinstance(x, Tensor) or x.dim() == 0 or x.shape[-1] != self.dimension:
            raise arguments.refuse("x", x, f"a tensor of shape (..., {self.dimension})")
        bar = torch.as_tensor(alpha_bar, dtype=torch.float64)
        if bar.dim() and bar.shape != x.shape[:-1]:
            raise arguments.refuse("alpha_bar", alpha_bar, f"a number, or a tensor of shape {tuple(x.shape[:-1])}")
        if not bool(((bar >= 0) & (bar <= 1)).all()):
            raise arguments.refuse("alpha_bar", bar.tolist(), "numbers from 0 to 1")
        bar = bar[..., None, None]
        rotated = torch.einsum(
            "...ki,kij->...kj", x.double()[..., None, :] - bar.sqrt() * self.means, self._eigenvectors
        )
        variances = bar * self._eigenvalues + (1.0 - bar)
        quadratic = (rotated.square() / variances + variances.log() + math.log(2.0 * math.pi)).sum(-1)
        displacement = torch.einsum("...kj,kij->...ki", rotated / variances, self._eigenvectors)
        return self.weights.log() - quadratic / 2.0, displacement


def generator_of(*label: int | str) -> torch.Generator:
    """A generator that is a function of the label; streams of different labels share no numbers."""
    return torch.Generator().manual_seed(derived_seed("toy", *label))


def gaussian(covariance: Float[Tensor, "d d"], mean: Float[Tensor, " d"] | None = None) -> GaussianMixture:
    """N(mean, covariance); mean 0 unless given."""
    covariance = arguments.finite_tensor("covariance", covariance).double()
    centre = torch.zeros(covariance.shape[-1], dtype=torch.float64) if mean is None else mean
    return GaussianMixture(torch.ones(1, dtype=torch.float64), centre[None], covariance[None])


def equal_mixture(means: Float[Tensor, "K d"], deviation: float) -> GaussianMixture:
    """Isotropic normals of one standard deviation and equal weights."""
    deviation = arguments.number("deviation", deviation, above=0.0)
    components, d = means.shape
    weights = torch.full((components,), 1.0 / components, dtype=torch.float64)
    identity = torch.eye(d, dtype=torch.float64)
    return GaussianMixture(weights, means.double(), (deviation**2 * identity).expand(components, d, d))


def ring(modes: int = 8, radius: float = math.sqrt(2.0), deviation: float = 0.1) -> GaussianMixture:
    """Modes evenly spaced on a circle in the plane; the default radius gives the means unit variance a coordinate.

    Raises:
        ValueError: no mode, a radius or deviation that is not positive.
    """
    modes = arguments.count("modes", modes, at_least=1)
    radius = arguments.number("radius", radius, above=0.0)
    angles = torch.arange(modes, dtype=torch.float64) * (2.0 * math.pi / modes)
    return equal_mixture(radius * torch.stack([angles.cos(), angles.sin()], dim=1), deviation)


def grid(side: int = 5, dimension: int = 2, deviation: float = 0.1) -> GaussianMixture:
    """side^dimension modes on a cubic lattice, its means of unit variance a coordinate.

    Raises:
        ValueError: a side below 2, no dimension, more than 4096 modes, a deviation that is not positive.
    """
    side = arguments.count("side", side, at_least=2)
    dimension = arguments.count("dimension", dimension, at_least=1)
    if side**dimension > 4096:
        raise arguments.refuse("side**dimension", side**dimension, "at most 4096 modes")
    line = (torch.arange(side, dtype=torch.float64) - (side - 1) / 2.0) / math.sqrt((side**2 - 1) / 12.0)
    return equal_mixture(torch.tensor(list(itertools.product(line.tolist(), repeat=dimension))), deviation)


def random_mixture(dimension: int, modes: int = 8, seed: int = 0) -> GaussianMixture:
    """Random means, weights and covariances of any shape: no symmetry in which an error of sign could hide.

    Means are N(0, I), weights Dirichlet(2, ..., 2), covariances .1 R diag(v) R^T, R a random rotation, v in [.2, 1].

    Args:
        dimension: d, 1 to 32.
        modes: K.
        seed: all of it is a function of the seed and of the two sizes.

    Raises:
        ValueError: an argument outside of what is allowed.
    """
    dimension = arguments.count("dimension", dimension, at_least=1)
    modes = arguments.count("modes", modes, at_least=1)
    if dimension > 32:
        raise arguments.refuse("dimension", dimension, "a whole number from 1 to 32")
    generator = generator_of("random_mixture", dimension, modes, arguments.count("seed", seed))
    means = torch.randn(modes, dimension, generator=generator, dtype=torch.float64)
    uniform = torch.rand(modes, 2, generator=generator, dtype=torch.float64).clamp(min=1e-12)
    weights = -uniform.log().sum(1)  # a Gamma(2) variable each, and their shares are Dirichlet
    gaussians = torch.randn(modes, dimension, dimension, generator=generator, dtype=torch.float64)
    rotations = torch.linalg.qr(gaussians).Q
    scales = 0.2 + 0.8 * torch.rand(modes, 1, dimension, generator=generator, dtype=torch.float64)
    covariances = 0.1 * (rotations * scales) @ rotations.mT
    return GaussianMixture(weights / weights.sum(), means, (covariances + covariances.mT) / 2.0)
