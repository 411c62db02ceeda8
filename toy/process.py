"""The discrete variance-preserving diffusion process, x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) epsilon.

Schedules: cosine (Nichol and Dhariwal, 2021, Eq. 17: s = .008, beta <= .999) and linear (Ho et al., 2020: beta from
1e-4 to .02 at T = 1000; for other T both ends are scaled by 1000 / T, so that the last alpha_bar stays about the same).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flatness import arguments
from flatness.diffusion.sampling import ReverseStep, respaced_steps, reverse_steps

COSINE_OFFSET = 0.008
LARGEST_BETA = 0.999
REFERENCE_STEPS = 1000
"""The number of steps to which the linear schedule's betas and the time embedding refer."""
SCHEDULES = ("cosine", "linear")
FIXED_VARIANCES = ("small", "large")
"""The variances of an ancestral step that no network has to predict."""

AlphaBar = float | Float[Tensor, "*n"]


@dataclass(frozen=True, eq=False)
class Process:
    """A diffusion process of T steps, t = 0, ..., T - 1.

    Args:
        alphas_cumprod: (T,), alpha_bar in float64, strictly decreasing within (0, 1).

    Raises:
        ValueError: alphas_cumprod is not as above.
    """

    alphas_cumprod: Float[Tensor, " T"]

    def __post_init__(self) -> None:
        """Check the table, and hold it in float64."""
        bars = arguments.floating_tensor("alphas_cumprod", self.alphas_cumprod).double()
        reverse_steps(bars, [0])  # checks it
        object.__setattr__(self, "alphas_cumprod", bars)

    @property
    def steps(self) -> int:
        """T."""
        return len(self.alphas_cumprod)

    @property
    def signal(self) -> Float[Tensor, " T"]:
        """sqrt(alpha_bar), what x_0 is multiplied by."""
        return self.alphas_cumprod.sqrt()

    @property
    def noise(self) -> Float[Tensor, " T"]:
        """sqrt(1 - alpha_bar), what epsilon is multiplied by."""
        return (1.0 - self.alphas_cumprod).sqrt()

    def alpha_bar(self, t: int | Int[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """alpha_bar_t in float64, of t's shape.

        Raises:
            ValueError: a t that is not a whole number from 0 to T - 1.
        """
        return self.alphas_cumprod[self.checked_steps(t)]

    def checked_steps(self, t: int | Int[Tensor, "*n"]) -> Int[Tensor, "*n"]:
        """t as an int64 tensor.

        Raises:
            ValueError: a t that is not a whole number from 0 to T - 1.
        """
        allowed = f"whole numbers from 0 to {self.steps - 1}"
        if isinstance(t, bool) or not isinstance(t, int | Tensor):
            raise arguments.refuse("t", t, allowed)
        steps = torch.as_tensor(t)
        if steps.dtype != torch.int64 or (steps.numel() and not 0 <= int(steps.min()) <= int(steps.max()) < self.steps):
            raise arguments.refuse("t", t, allowed)
        return steps

    def noisy(
        self, x_0: Float[Tensor, "*n d"], t: int | Int[Tensor, "*n"], epsilon: Float[Tensor, "*n d"]
    ) -> Float[Tensor, "*n d"]:
        """x_t, in x_0's dtype.

        Args:
            x_0: points.
            t: one step for all points, or one a point.
            epsilon: standard normal noise, of x_0's shape.

        Raises:
            ValueError: another shape of epsilon or t, a t out of range.
        """
        bars = self.alpha_bar(t)
        if epsilon.shape != x_0.shape:
            raise arguments.refuse("epsilon", epsilon, f"a tensor of x_0's shape {tuple(x_0.shape)}")
        if bars.dim() and bars.shape != x_0.shape[:-1]:
            raise arguments.refuse("t", t, f"a whole number, or a tensor of shape {tuple(x_0.shape[:-1])}")
        bars = bars[..., None]
        return bars.sqrt().to(x_0) * x_0 + (1.0 - bars).sqrt().to(x_0) * epsilon

    def reverse(self, count: int) -> list[ReverseStep]:
        """The ancestral steps of the process respaced to `count` steps, ascending in t.

        Raises:
            ValueError: fewer than one step, or more than T.
        """
        return reverse_steps(self.alphas_cumprod, respaced_steps(self.steps, count))


@lru_cache(maxsize=8)
def cosine_process(steps: int = 1000) -> Process:
    """The cosine schedule.

    Raises:
        ValueError: fewer than 2 steps.
    """
    steps = arguments.count("steps", steps, at_least=2)
    grid = torch.arange(steps + 1, dtype=torch.float64) / steps
    bars = torch.cos((grid + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) * (math.pi / 2.0)) ** 2
    betas = (1.0 - bars[1:] / bars[:-1]).clamp(max=LARGEST_BETA)
    return Process(torch.cumprod(1.0 - betas, dim=0))


def linear_process(steps: int = 1000) -> Process:
    """The linear schedule.

    Raises:
        ValueError: so few steps that the last beta would reach 1 (20 or fewer).
    """
    steps = arguments.count("steps", steps, at_least=21)
    scale = REFERENCE_STEPS / steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64)
    return Process(torch.cumprod(1.0 - betas, dim=0))


def process_of(schedule: str = "cosine", steps: int = 1000) -> Process:
    """The process of the named schedule.

    Raises:
        ValueError: an unknown schedule, too few steps.
    """
    chosen = arguments.choice("schedule", schedule, SCHEDULES)
    return cosine_process(steps) if chosen == "cosine" else linear_process(steps)


def time_embedding(steps: int, size: int) -> Float[Tensor, "T k"]:
    """The sinusoidal embedding e_t of every step, float64: cos(s w_i), then sin(s w_i), w_i = 10000^(-2i/k).

    s = t 1000 / T, so that a time is embedded alike in processes of any number of steps. ||e_t||^2 = k / 2.

    Args:
        steps: T.
        size: k, even.

    Raises:
        ValueError: no steps, a size that is odd or below 2.
    """
    steps = arguments.count("steps", steps, at_least=1)
    size = arguments.count("size", size, at_least=2)
    if size % 2:
        raise arguments.refuse("size", size, "an even whole number of at least 2")
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(size // 2, dtype=torch.float64) / (size // 2))
    angles = torch.arange(steps, dtype=torch.float64)[:, None] * (REFERENCE_STEPS / steps) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)
