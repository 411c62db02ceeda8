"""A diffusion model's loss in nats: what each timestep's squared error costs in likelihood under ancestral sampling.

    nats = likelihood_loss(epsilon_loss(alphas_cumprod))
    low_pass_filter(model, nats, batches).rise               # and quantization_rise, perturbation_curve, ...

For Ho et al.'s (2020) sampler with fixed variances sigma_t^2 the variational bound is, up to a constant that no weight
enters, sum_t w_t E|eps - eps_theta|^2 with w_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)) and squared errors
summed over a sample's D entries. So a rise of this loss under noise on the weights, or by rounding them, is a rise of
the bound in nats, and divided by D log 2 in bits per dimension, whatever the network and the noise are. Training, which
weighs all timesteps alike, sees another loss.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.diffusion.losses import Batch, DiffusionLoss, EDMLoss, completed
from flatness.diffusion.noise_paths import GivenTimes, sampler_times
from flatness.diffusion.sampling import reverse_steps

FIXED_VARIANCES = ("small", "large")
"""The variances of an ancestral step that no network has to predict: the posterior's, and beta."""


def likelihood_weights(alphas_cumprod: Tensor, variance: str = "small") -> Tensor:
    """w_t (T,), float64: nats that a squared error of 1 of the predicted noise costs at each step.

    Args:
        alphas_cumprod: (T,), alpha_bar, falling strictly within (0, 1).
        variance: "large" for beta_t; "small" for the posterior's, whose first, which is 0 and has no likelihood, is
            replaced by its second, as public samplers do.

    Raises:
        ValueError: an argument is not as above; "small" with a single step.
    """
    arguments.choice("variance", variance, FIXED_VARIANCES)
    bars = arguments.floating_tensor("alphas_cumprod", alphas_cumprod)
    steps = reverse_steps(bars, range(len(bars)) if bars.dim() == 1 else [0])
    if variance == "small" and len(steps) < 2:
        raise arguments.refuse(
            "alphas_cumprod", alphas_cumprod, "at least two steps, since the first small variance is 0"
        )
    weights = []
    for index, step in enumerate(steps):
        own = step.beta if variance == "large" else steps[max(index, 1)].posterior_variance
        weights.append(step.beta**2 / (2.0 * own * (1.0 - step.beta) * (1.0 - step.alpha_bar)))
    return torch.tensor(weights, dtype=torch.float64)


def _squared_slopes(loss: DiffusionLoss, times: Tensor) -> Tensor:
    """The square (T,) by which a squared error of what the network predicts becomes one of the noise, at each time.

    For an `EDMLoss`, by which its weighted squared error does.
    """
    alpha, sigma = loss.path.coefficients(times)
    if isinstance(loss, EDMLoss):
        return loss.sigma_data**2 / (sigma.square() + loss.sigma_data**2)
    slopes = {
        "epsilon": torch.ones_like(alpha),
        "x_0": alpha / sigma,
        "v": alpha / (alpha.square() + sigma.square()),
        "flow": alpha / (alpha + sigma),
    }
    return slopes[loss.prediction].square()


@dataclass(frozen=True)
class LikelihoodLoss:
    """A `DiffusionLoss` in nats, of each sample (n,), at one step drawn for it; use `likelihood_loss`.

    Attributes:
        loss: with weight 1 and times uniform over the steps.
        weights: (T,), w_t.
        factors: (T,), float64: nats that 1 of the loss's own unit counts at each step, times T and over D, the number
            of a sample's entries.
        variance: of the sampler, for records.
    """

    loss: DiffusionLoss
    weights: Tensor
    factors: Tensor
    variance: str

    def steps(self, u: Tensor) -> Tensor:
        """The steps (n,), int64 on the CPU, at which samples at the positions u (n,) are taken."""
        total = len(self.factors)
        return (u.cpu() * total).long().clamp(max=total - 1)

    def of_samples(self, u: Tensor, dimension: int) -> Tensor:
        """What the losses of samples at the positions u (n,) are multiplied by, (n,), float64 on the CPU."""
        return self.factors[self.steps(u)] * dimension

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """The losses (n,) in nats.

        Raises:
            ValueError: the batch, or what the network returns, is not as the loss's documentation says.
        """
        whole = Batch(*completed(batch))
        values = self.loss(model, whole)
        assert whole.u is not None
        return values * self.of_samples(whole.u, whole.x_0[0].numel()).to(values)

    def settings(self) -> dict[str, Any]:
        """For records."""
        return self.loss.settings() | {"unit": "nats", "sampling_variance": self.variance}


def likelihood_loss(
    loss: DiffusionLoss, *, times: Sequence[float] | None = None, variance: str = "small"
) -> LikelihoodLoss:
    """The loss in nats: its mean is the part of the variational bound that the weights enter.

    Its unit makes losses, rises and roundings of different models comparable; divide by D log 2 for bits per dimension
    (`bits_per_dimension`). Steps are drawn alike, whatever times the loss was trained with, and a step of little noise
    counts many times one in the middle, so take more samples, or more draws, than for the plain loss.

    Args:
        loss: one of this package's, of any parametrisation, without a weight of its own.
        times: of the sampler's steps, in order of rising noise; all steps of a discrete path, and 1000 of a continuous
            one, by default.
        variance: of the sampler, "small" or "large".

    Raises:
        ValueError: an argument is not as above, or a step has no likelihood, as where alpha_bar is 0.
    """
    arguments.instance("loss", loss, DiffusionLoss)
    if type(loss) not in (DiffusionLoss, EDMLoss):
        raise arguments.refuse(
            "loss", loss, "a DiffusionLoss or an EDMLoss itself: what a subclass computes is not known"
        )
    if loss.weight is not None:
        raise arguments.refuse("loss's weight", loss.weight, "None: the likelihood has weights of its own")
    at = sampler_times(loss.path, times)
    own = GivenTimes(at.tolist())
    alpha, sigma = loss.path.coefficients(at)
    bars = alpha.square() / (alpha.square() + sigma.square())
    weights = likelihood_weights(bars, variance)
    factors = len(weights) * weights * _squared_slopes(loss, at)
    return LikelihoodLoss(dataclasses.replace(loss, times=own), weights, factors, variance)


def bits_per_dimension(nats: float, dimension: int) -> float:
    """Nats of a sample as bits for each of its entries.

    Args:
        nats: of a sample.
        dimension: D, the number of its entries, at least 1.

    Raises:
        ValueError: an argument is not as above.
    """
    return arguments.number("nats", nats) / (float(arguments.count("dimension", dimension, at_least=1)) * math.log(2.0))
