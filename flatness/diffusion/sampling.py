"""Ancestral sampling of a respaced diffusion process (Ho et al., 2020; Nichol and Dhariwal, 2021), as coefficients.

`sampling_process` makes of a model of any parametrisation what `exposure_bias` takes: its predicted noise along a
discrete process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.diffusion.losses import DiffusionLoss
from flatness.diffusion.noise_paths import broadcast, sampler_times

VARIANCES = ("small", "large", "learned")


@dataclass(frozen=True)
class ReverseStep:
    """The coefficients of one ancestral step x -> x_previous of the respaced process (Ho et al., 2020, Eqs. 6-7).

    Attributes:
        t: the step's number in the original process.
        alpha_bar, previous_alpha_bar: the signal's share before and after it; 1 after the last.
        beta: 1 - alpha_bar / previous_alpha_bar, the "large" variance.
        posterior_variance: beta (1 - previous_alpha_bar) / (1 - alpha_bar), the "small" variance; 0 at the last.
    """

    t: int
    alpha_bar: float
    previous_alpha_bar: float
    beta: float
    posterior_variance: float

    def mean(self, x: Tensor, x_0: Tensor) -> Tensor:
        """The mean of q(x_previous | x, x_0)."""
        of_x_0 = self.beta * self.previous_alpha_bar**0.5 / (1.0 - self.alpha_bar)
        of_x = (1.0 - self.beta) ** 0.5 * (1.0 - self.previous_alpha_bar) / (1.0 - self.alpha_bar)
        return of_x_0 * x_0 + of_x * x


Variance = str | Callable[[Tensor, ReverseStep], Tensor]


def respaced_steps(total: int, count: int) -> list[int]:
    """count of total steps, evenly spaced from 0 to total - 1 and rounded, halves to even; `[0]` for one.

    Raises:
        ValueError: fewer than one step, or more than there are.
    """
    total = arguments.count("total", total, at_least=1)
    count = arguments.count("count", count, at_least=1)
    if count > total:
        raise arguments.refuse("count", count, f"at most total = {total}")
    return [round(Fraction(index * (total - 1), max(count - 1, 1))) for index in range(count)]


def reverse_steps(alphas_cumprod: Tensor, steps: Sequence[int]) -> list[ReverseStep]:
    """The ancestral steps of the process respaced to the given ones, ascending in t, computed in float64.

    Raises:
        ValueError: alphas_cumprod rises or leaves (0, 1), or does not fall strictly from step to step, or steps do not
            ascend within its range.
    """
    shown = arguments.floating_tensor("alphas_cumprod", alphas_cumprod)
    if shown.is_meta:
        raise arguments.refuse("alphas_cumprod", alphas_cumprod, "a tensor with values")
    bars = shown.detach().cpu().double()
    allowed = "a tensor (T,) of numbers between 0 and 1 that do not rise"
    if bars.dim() != 1 or len(bars) == 0 or not bool(((bars > 0) & (bars < 1)).all()) or bool((bars.diff() > 0).any()):
        raise arguments.refuse("alphas_cumprod", alphas_cumprod, allowed)
    numbers = [arguments.count("steps", step) for step in steps] if isinstance(steps, Sequence) else []
    ascending = all(a < b for a, b in pairwise(numbers))
    if not numbers or not ascending or numbers[-1] >= len(bars):
        raise arguments.refuse("steps", steps, f"whole numbers from 0 to {len(bars) - 1}, ascending, at least one")
    reverse_steps: list[ReverseStep] = []
    bars_kept = [float(bars[t]) for t in numbers]
    for (first, bar), (second, next_bar) in pairwise(zip(numbers, bars_kept, strict=True)):
        if bar == next_bar:  # as where a schedule is clamped
            raise ValueError(
                f"alphas_cumprod is {bar:g} at steps {first} and {second}; allowed: less noise at the first of them"
            )
    for t, bar, previous in zip(numbers, bars_kept, [1.0, *bars_kept], strict=False):
        beta = 1.0 - bar / previous
        reverse_steps.append(ReverseStep(t, bar, previous, beta, beta * (1.0 - previous) / (1.0 - bar)))
    return reverse_steps


def checked_variance(variance: Variance) -> Variance:
    """One of VARIANCES, or a function of (v, step) that returns the variance; ValueError for anything else."""
    return variance if callable(variance) else arguments.choice("variance", variance, VARIANCES)


def checked_clip(clip: float | None) -> float | None:
    """A number above 0, or None; ValueError for anything else."""
    return None if clip is None else arguments.number("clip", clip, above=0.0)


def v_is_missing() -> ValueError:
    """The error for a network that does not return what the variance is computed from."""
    return ValueError("epsilon_model returned one tensor; allowed with a variance from v: a pair (epsilon, v)")


def variance_of(choice: Variance, v: Tensor | None, step: ReverseStep) -> Tensor | float:
    """The variance of an ancestral step.

    Raises:
        ValueError: it is to be computed from v, and the network has not returned one; or a function of v returned other
            than finite numbers of at least 0, one or as many as v's.
    """
    if choice == "small":
        return step.posterior_variance
    if choice == "large":
        return step.beta
    if v is None:
        raise v_is_missing()
    if callable(choice):
        return _checked(choice(v, step), v)
    share = (v + 1.0) / 2.0
    return step.beta**share * step.posterior_variance ** (1.0 - share)


def _checked(variance: object, v: Tensor) -> Tensor | float:
    if not isinstance(variance, Tensor):
        return arguments.number("what variance returned", variance, at_least=0.0)
    try:
        fits = arguments.has_reals(variance) and torch.broadcast_shapes(variance.shape, v.shape) == v.shape
    except RuntimeError:
        fits = False
    if not fits or not bool((variance.isfinite() & (variance >= 0)).all()):
        allowed = f"finite numbers of at least 0, one or of shape {tuple(v.shape)}"
        raise arguments.refuse("what variance returned", variance, allowed)
    return variance


def ancestral_step(
    x: Tensor, epsilon: Tensor, step: ReverseStep, variance: Tensor | float, noise: Tensor, clip: float | None
) -> Tensor:
    """One step of ancestral sampling: the posterior's mean at the predicted x_0, and noise of the given variance."""
    x_0 = (x - (1.0 - step.alpha_bar) ** 0.5 * epsilon) / step.alpha_bar**0.5
    if clip is not None:
        x_0 = x_0.clamp(-clip, clip)
    return step.mean(x, x_0) + variance**0.5 * noise


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
