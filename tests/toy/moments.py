"""The second moments that decide everything about theta while the features stay as they are.

With epsilon_hat = theta psi, psi = c_t phi / divisor, the expected loss is a quadratic in theta:

    E ||epsilon - theta psi||^2 / d = 1 - 2 tr(theta C^T) / d + tr(theta M theta^T) / d,
    C = E[epsilon psi^T],  M = E[psi psi^T],

the expectations over t (uniform on the steps given), x_0 and epsilon. In the notation of Eq. (9), M = G / m^2.

`exact_moments` integrates by closed forms (x_t is a Gaussian mixture, so M is the theory's feature moment of each
component, and Stein's identity gives E[epsilon phi^T] = sqrt(1 - alpha_bar) W diag(E sigma'(z))); m^2 bivariate normal
probabilities a component and step. `sampled_moments` takes a large fixed sample instead, with standard errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy import special
from torch import Tensor

from flatness import arguments
from theory.model.random_features import ACTIVATIONS as THEORY_ACTIVATIONS
from theory.model.random_features import QUADRATURE_NODES, feature_second_moment
from toy.data import GaussianMixture, generator_of
from toy.models import ScoreModels

CHUNK = 4096
"""Points whose features are held at a time."""


@dataclass(frozen=True, eq=False)
class Moments:
    """M and C of one model, in float64.

    Attributes:
        second: (m, m), M.
        cross: (d, m), C.
        divisor: what theta phi is divided by.
        points: the size of the sample; 0 for exact moments.
    """

    second: Float[Tensor, "m m"]
    cross: Float[Tensor, "d m"]
    divisor: float
    points: int = 0

    @property
    def dimension(self) -> int:
        """d."""
        return self.cross.shape[0]

    @property
    def G(self) -> Float[Tensor, "m m"]:
        """E[c_t^2 phi phi^T], the theory's G."""
        return self.divisor**2 * self.second

    @property
    def feature_energy(self) -> float:
        """E[c_t^2 ||phi||^2], the trace of G."""
        return float(self.G.trace())

    def loss(self, theta: Float[Tensor, "d m"]) -> float:
        """The expected loss at theta.

        Raises:
            ValueError: another shape.
        """
        weights = self.checked(theta)
        quadratic = (weights @ self.second * weights).sum() - 2.0 * (weights * self.cross).sum()
        return 1.0 + float(quadratic) / self.dimension

    def gradient(self, theta: Float[Tensor, "d m"]) -> Float[Tensor, "d m"]:
        """The gradient of the expected loss at theta; errors as in `loss`."""
        return 2.0 / self.dimension * (self.checked(theta) @ self.second - self.cross)

    def checked(self, theta: Float[Tensor, "d m"]) -> Float[Tensor, "d m"]:
        """theta in float64.

        Raises:
            ValueError: another shape.
        """
        if not isinstance(theta, Tensor) or theta.shape != self.cross.shape:
            raise arguments.refuse("theta", theta, f"a tensor of shape {tuple(self.cross.shape)}")
        return theta.detach().double()


def exact_moments(models: ScoreModels, seed: int, data: GaussianMixture, steps: Sequence[int] | None = None) -> Moments:
    """The moments in closed form (quadrature for smooth activations, `theory.model.random_features`).

    Args:
        models: W, U, the activation and the process are taken from them.
        seed: which of them.
        data: the distribution of x_0.
        steps: the steps over which t is uniform; None for all T (costly: see the module's docstring).

    Raises:
        ValueError: a seed or a step out of range, data of another dimension.
    """
    W, U = _frozen(models, seed, data)
    chosen = _steps(models, steps)
    m, d = W.shape[1], W.shape[0]
    second, cross = np.zeros((m, m)), np.zeros((d, m))
    for t in chosen.tolist():
        bar = float(models.process.alphas_cumprod[t])
        noised = data.noised(bar)
        coefficient = float(models.coefficients[t]) / models.normaliser
        b = models.embedding[t].double().numpy() @ U
        for weight, mean, covariance in zip(noised.weights, noised.means, noised.covariances, strict=True):
            root = torch.linalg.cholesky(covariance).numpy()
            centre = b + mean.numpy() @ W
            second += float(weight) * coefficient**2 * feature_second_moment(root.T @ W, centre, models.activation)
            slopes = _mean_slope(models.activation, centre, np.linalg.norm(root.T @ W, axis=0))
            cross += float(weight) * coefficient * (1.0 - bar) ** 0.5 * W * slopes
    n = len(chosen)
    return Moments(torch.from_numpy(second / n), torch.from_numpy(cross / n), models.normaliser)


def sampled_moments(
    models: ScoreModels,
    seed: int,
    data: GaussianMixture,
    number: int = 2**17,
    steps: Sequence[int] | None = None,
    sample_seed: int = 0,
) -> Moments:
    """The moments on a fixed sample of (t, x_0, epsilon), a function of the sample seed.

    The times are spread evenly over the steps, so the sampling error is that of x_0 and epsilon; in place of epsilon
    its exact mean given x_t is taken, which changes no expectation and lowers the variance.

    Args:
        models, seed, data, steps: as in `exact_moments`.
        number: points.
        sample_seed: the sample's.

    Raises:
        ValueError: as `exact_moments`, or fewer than one point.
    """
    W, U = (torch.from_numpy(tensor) for tensor in _frozen(models, seed, data))
    number = arguments.count("number", number, at_least=1)
    chosen = _steps(models, steps)
    every = chosen[torch.arange(number) * len(chosen) // number]
    generator = generator_of("moments", arguments.count("sample_seed", sample_seed))
    second, cross = torch.zeros(W.shape[1], W.shape[1], dtype=torch.float64), torch.zeros_like(W)
    one = ScoreModels(torch.zeros_like(W)[None], W[None], U[None], models.process, models.activation)
    for t in every.split(CHUNK):
        x_0 = data.sample(len(t), generator)
        x = models.process.noisy(x_0, t, torch.randn(x_0.shape, generator=generator, dtype=torch.float64))
        psi = one.features(x[None], t[None])[0] * (models.coefficients[t] / models.normaliser)[:, None]
        second += psi.T @ psi
        cross += data.optimal_noise(x, models.process.alphas_cumprod[t]).T @ psi
    return Moments(second / number, cross / number, models.normaliser, number)


def _frozen(models: ScoreModels, seed: int, data: GaussianMixture) -> tuple[ndarray, ndarray]:
    if arguments.count("seed", seed) >= models.seeds:
        raise arguments.refuse("seed", seed, f"a whole number from 0 to {models.seeds - 1}")
    if data.dimension != models.dimension:
        raise ValueError(f"data has dimension {data.dimension}; allowed: that of the models, {models.dimension}")
    return models.W[seed].detach().double().numpy(), models.U[seed].detach().double().numpy()


def _steps(models: ScoreModels, steps: Sequence[int] | None) -> Tensor:
    chosen = torch.tensor(list(range(models.process.steps) if steps is None else steps), dtype=torch.int64)
    if len(chosen) == 0:
        raise arguments.refuse("steps", steps, "at least one step")
    return models.process.checked_steps(chosen)


def _mean_slope(activation: str, mean: ndarray, deviation: ndarray) -> ndarray:
    """E sigma'(z), z ~ N(mean, deviation^2), elementwise."""
    if activation == "linear":
        return np.ones_like(mean)
    if activation == "relu":
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(deviation > 0, special.ndtr(mean / deviation), mean > 0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
    slopes = THEORY_ACTIVATIONS[activation].derivative(mean[:, None] + deviation[:, None] * nodes)
    return np.asarray(slopes @ (weights / weights.sum()))
