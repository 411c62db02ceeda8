"""A model of any parametrisation as `exposure_bias` takes one: its predicted noise along a discrete process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.diffusion.ancestral_sampling import Variance, checked_clip, checked_variance
from flatness.diffusion.losses import DiffusionLoss
from flatness.diffusion.noise_paths import broadcast, sampler_times


class EpsilonModel(nn.Module):
    """A network of any parametrisation as `exposure_bias` takes one: (x, step) -> the predicted noise, or with v.

    x is of the variance-preserving process that has the signal-to-noise ratio of the path at the step's time; it is
    rescaled to the path, on which epsilon is the same.

    Args:
        model: the network.
        loss: names the path, the prediction and the call.
        times: (T,), of the steps, in order of rising noise.
        labels: (n,) classes of the samples, which are gone through again and again in their order, at every step from
            the first on: a sample keeps its class along its chain.
    """

    def __init__(self, model: nn.Module, loss: DiffusionLoss, times: Tensor, labels: Tensor | None = None) -> None:
        """Around the network."""
        super().__init__()
        self.model, self.loss, self.times, self.labels = model, loss, times, labels
        self._step, self._seen = -1, 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """The noise, or noise and v, of x's shape, at the steps t (n,)."""
        steps = t.cpu()
        labels = self._next_labels(int(steps[0]), len(x))
        times = self.times[steps]
        alpha, sigma = self.loss.path.coefficients(times)
        scale, _ = broadcast(((alpha.square() + sigma.square()).sqrt(), sigma), x)
        epsilon, v = self.loss.epsilon(self.model, x * scale, times, labels)
        return epsilon if v is None else (epsilon, v)

    def _next_labels(self, step: int, count: int) -> Tensor | None:
        """The labels of the next so many samples of this step."""
        if self.labels is None:
            return None
        if step != self._step:
            self._step, self._seen = step, 0
        places = (torch.arange(count) + self._seen) % len(self.labels)
        self._seen = (self._seen + count) % len(self.labels)
        return self.labels[places]


class SamplingProcess(NamedTuple):
    """What `exposure_bias` needs of a model: its first two arguments and how chains are sampled.

    Attributes:
        epsilon_model: (x, t) -> the predicted noise, or with v.
        alphas_cumprod: (T,), of the process.
        variance, clip: as `exposure_bias` takes them.
    """

    epsilon_model: Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor]]
    alphas_cumprod: Tensor
    variance: Variance = "small"
    clip: float | None = None


def sampling_process(
    model: nn.Module,
    loss: DiffusionLoss,
    *,
    times: Sequence[float] | None = None,
    labels: Tensor | None = None,
    variance: Variance = "small",
    clip: float | None = None,
) -> SamplingProcess:
    """The process of a model that is trained by one of the losses here; 1000 steps of a continuous one by default.

    Args:
        model: the network.
        loss: of this module.
        times: of the steps, in order of rising noise; all steps of a discrete path by default.
        labels: (n,) classes of the images whose exposure bias is measured.
        variance, clip: as `exposure_bias` takes them.

    Raises:
        ValueError: an argument is not as above.
    """
    arguments.module("model", model)
    arguments.instance("loss", loss, DiffusionLoss)
    variance, clip = checked_variance(variance), checked_clip(clip)
    if labels is not None and (not arguments.is_dense(labels) or labels.is_meta or not labels.shape or not len(labels)):
        raise arguments.refuse("labels", labels, "a tensor (n, ...) with values, at least one, or None")
    own = sampler_times(loss.path, times)
    alpha, sigma = loss.path.coefficients(own)
    bars = alpha.square() / (alpha.square() + sigma.square())
    return SamplingProcess(EpsilonModel(model, loss, own, labels), bars, variance, clip)
