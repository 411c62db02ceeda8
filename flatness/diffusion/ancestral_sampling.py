"""Ancestral sampling of a respaced diffusion process (Ho et al., 2020; Nichol and Dhariwal, 2021), as coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor

from flatness import arguments

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
