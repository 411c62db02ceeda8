"""The exact law of a sampling chain whose noise prediction is affine: an oracle for exposure bias.

With epsilon_hat(x, t) = A_t x + c_t every ancestral step is affine with Gaussian noise, so a chain that starts from
N(0, I) is Gaussian throughout, and its mean and covariance follow by recursion. Real noised data x_t of covariance
Sigma_t give E||epsilon_hat||^2 = tr(A_t Sigma_t A_t^T) + |A_t mean_t + c_t|^2, and the chain likewise with its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flatness import arguments
from flatness.diffusion.sampling import ReverseStep, ancestral_step, variance_of
from theory.model.gaussians import Gaussian, kl_divergence
from toy.data import GaussianMixture
from toy.models import ScoreModels
from toy.process import FIXED_VARIANCES, Process


@dataclass(frozen=True, eq=False)
class Affine:
    """x -> A x + c.

    Attributes:
        A: (d, d), float64.
        c: (d,), float64.
    """

    A: Float[Tensor, "d d"]
    c: Float[Tensor, " d"]


Denoiser = Callable[[int], Affine]


def optimal_denoiser(data: GaussianMixture, process: Process) -> Denoiser:
    """The exact noise prediction of Gaussian data, sqrt(1 - alpha_bar) Sigma_t^-1 (x - mean_t).

    Raises:
        ValueError: a mixture of more than one component.
    """
    _one_component(data)

    def at(t: int) -> Affine:
        bar = float(process.alpha_bar(t))
        noised = data.noised(bar)
        A = (1.0 - bar) ** 0.5 * torch.linalg.inv(noised.covariances[0])
        return Affine(A, -A @ noised.means[0])

    return at


def linear_model(models: ScoreModels, seed: int) -> Denoiser:
    """A model with linear activation: A_t = c_t theta W^T / divisor, and c = c_t theta U^T e_t / divisor.

    Raises:
        ValueError: another activation, a seed out of range.
    """
    if models.activation != "linear":
        raise arguments.refuse("models.activation", models.activation, "'linear'")
    if arguments.count("seed", seed) >= models.seeds:
        raise arguments.refuse("seed", seed, f"a whole number from 0 to {models.seeds - 1}")
    theta, W, U = (tensor[seed].detach().double() for tensor in (models.theta, models.W, models.U))

    def at(t: int) -> Affine:
        scale = models.coefficients[t] / models.normaliser
        return Affine(scale * theta @ W.T, scale * theta @ (models.embedding[t].double() @ U))

    return at


@dataclass(frozen=True, eq=False)
class ChainLaw:
    """Laws and exposure bias, step by step; index 0 is the last step of sampling, with the least noise.

    Attributes:
        steps: numbers of the steps in the original process, ascending.
        before: the chain's law when the noise of that step is predicted.
        final: the law of the samples.
        training: E||epsilon_hat||^2 on real noised data.
        sampling: E||epsilon_hat||^2 along the chain.
        divergence: KL(law of the chain || law of real noised data) before the step, in nats.
        final_divergence: KL(law of the samples || law of the data).
    """

    steps: tuple[int, ...]
    before: tuple[Gaussian, ...]
    final: Gaussian
    training: Float[Tensor, " steps"]
    sampling: Float[Tensor, " steps"]
    divergence: Float[Tensor, " steps"]
    final_divergence: float


def chain_law(
    denoiser: Denoiser, data: GaussianMixture, process: Process, count: int, variance: str = "small"
) -> ChainLaw:
    """The law of ancestral sampling in `count` respaced steps, without clipping, as `toy.sampling.sample` makes it.

    Args:
        denoiser: from the step, in the original process, to the affine noise prediction.
        data: Gaussian.
        process: the process.
        count: T'.
        variance: "small" (the posterior variance) or "large" (beta). The last step adds no noise.

    Raises:
        ValueError: an argument is not as above.
    """
    _one_component(data)
    arguments.choice("variance", variance, FIXED_VARIANCES)
    mean = torch.zeros(data.dimension, dtype=torch.float64)
    covariance = torch.eye(data.dimension, dtype=torch.float64)
    before: list[Gaussian] = []
    training: list[Tensor] = []
    sampling: list[Tensor] = []
    divergences: list[float] = []
    reverse = process.reverse(count)
    for index in reversed(range(count)):
        step = reverse[index]
        prediction = denoiser(step.t)
        real = data.noised(step.alpha_bar)
        training.insert(0, _mean_square(prediction, real.means[0], real.covariances[0]))
        sampling.insert(0, _mean_square(prediction, mean, covariance))
        before.insert(0, _gaussian(mean, covariance))
        divergences.insert(0, kl_divergence(before[0], _gaussian(real.means[0], real.covariances[0])))
        move = _affine_step(prediction, step)
        mean = move.A @ mean + move.c
        covariance = move.A @ covariance @ move.A.T
        if index:
            covariance = covariance + variance_of(variance, None, step) * torch.eye(data.dimension, dtype=torch.float64)
    final = _gaussian(mean, covariance)
    return ChainLaw(
        steps=tuple(step.t for step in reverse),
        before=tuple(before),
        final=final,
        training=torch.stack(training),
        sampling=torch.stack(sampling),
        divergence=torch.tensor(divergences, dtype=torch.float64),
        final_divergence=kl_divergence(final, _gaussian(data.means[0], data.covariances[0])),
    )


def _affine_step(prediction: Affine, step: ReverseStep) -> Affine:
    """The mean of the next point as a function of this one: the step itself, taken at 0 and at the unit vectors."""
    d = len(prediction.c)
    points = torch.cat([torch.zeros(1, d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)])
    noise = points @ prediction.A.T + prediction.c
    moved = ancestral_step(points, noise, step, 0.0, torch.zeros_like(points), None)
    return Affine((moved[1:] - moved[0]).T, moved[0])


def _mean_square(prediction: Affine, mean: Tensor, covariance: Tensor) -> Tensor:
    return (prediction.A @ covariance * prediction.A).sum() + (prediction.A @ mean + prediction.c).square().sum()


def _gaussian(mean: Tensor, covariance: Tensor) -> Gaussian:
    symmetric = (covariance + covariance.T) / 2.0
    return Gaussian(mean.numpy(), symmetric.numpy())


def _one_component(data: GaussianMixture) -> None:
    if len(arguments.instance("data", data, GaussianMixture).weights) != 1:
        raise ValueError(f"data has {len(data.weights)} components; allowed: one, a Gaussian")
