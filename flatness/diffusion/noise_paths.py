"""Noising x_t = alpha x_0 + sigma epsilon over discrete and continuous time, and how times are drawn.

A distribution of times is its quantile function: a callable that takes positions u (n,) within (0, 1) to times (n,).
Positions that are stratified, one in each of n equal shares of (0, 1), then give stratified times under any
distribution; and losses of different distributions see the same u, which pairs them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from flatness import arguments

Times = Callable[[Tensor], Tensor]
Coefficient = Callable[[Tensor], Tensor]
STEPS = 1000
"""Of the discrete process that stands for a continuous one."""
RHO = 7.0
"""The exponent of Karras et al.'s (2022, Eq. 5) spacing of noise levels."""
WHOLE = {
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8, torch.int16, torch.int32, torch.int64),
}
"""Types of whole numbers that can be steps."""
EDGE = 1e-12
"""How near to 0 and 1 positions come, so that a normal quantile stays finite (7 standard deviations)."""


def stratified_positions(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Positions u (count,), float64: one in each of count equal shares of (0, 1), in random order.

    Args:
        count: how many.
        generator: on the CPU; torch's global one by default.
    """
    within = torch.rand(count, generator=generator, dtype=torch.float64)
    order = torch.randperm(count, generator=generator)
    return ((order + within) / max(count, 1)).clamp(EDGE, 1.0 - EDGE)


@dataclass(frozen=True)
class UniformSteps:
    """Steps 0 to total - 1 of a discrete process, all alike, as int64."""

    total: int

    def __post_init__(self) -> None:
        """Check the number of steps."""
        arguments.count("total", self.total, at_least=1)

    def __call__(self, u: Tensor) -> Tensor:
        """Times at the positions u (n,)."""
        return (u * self.total).long().clamp(max=self.total - 1)


@dataclass(frozen=True)
class Uniform:
    """Times uniform between two numbers."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Check the bounds."""
        arguments.number("high", self.high, above=arguments.number("low", self.low))

    def __call__(self, u: Tensor) -> Tensor:
        """Times at the positions u (n,)."""
        return self.low + (self.high - self.low) * u


@dataclass(frozen=True)
class LogNormal:
    """Times whose logarithm is normal; the defaults are P_mean and P_std of Karras et al. (2022, Table 1)."""

    mean: float = -1.2
    std: float = 1.2

    def __post_init__(self) -> None:
        """Check both numbers."""
        arguments.number("mean", self.mean)
        arguments.number("std", self.std, above=0.0)

    def __call__(self, u: Tensor) -> Tensor:
        """Times at the positions u (n,)."""
        return torch.exp(self.mean + self.std * torch.special.ndtri(u))


@dataclass(frozen=True)
class LogitNormal:
    """Times in (0, 1) whose log-odds are normal (Esser et al., 2024, Section 3.1)."""

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        """Check both numbers."""
        arguments.number("mean", self.mean)
        arguments.number("std", self.std, above=0.0)

    def __call__(self, u: Tensor) -> Tensor:
        """Times at the positions u (n,)."""
        return torch.sigmoid(self.mean + self.std * torch.special.ndtri(u))


@dataclass(frozen=True)
class GivenTimes:
    """A list of times, all alike: whole numbers for a discrete process, any numbers for a continuous one."""

    values: tuple[float, ...]

    def __init__(self, values: Sequence[float]) -> None:
        """Check the list.

        Raises:
            ValueError: it is empty, or holds other than finite numbers.
        """
        if not isinstance(values, Sequence) or isinstance(values, str | bytes) or not values:
            raise arguments.refuse("values", values, "a list of times, at least one")
        numbers = tuple(arguments.number("values", value) for value in values)
        if all(isinstance(value, int) for value in values):
            if max(map(abs, values)) > arguments.LARGEST_COUNT:
                raise arguments.refuse("values", values, "whole numbers less than 2^63 to either side")
            numbers = tuple(map(int, values))
        object.__setattr__(self, "values", numbers)

    def __call__(self, u: Tensor) -> Tensor:
        """Times at the positions u (n,)."""
        whole = isinstance(self.values[0], int)
        table = torch.tensor(self.values, dtype=torch.int64 if whole else torch.float64, device=u.device)
        return table[(u * len(table)).long().clamp(max=len(table) - 1)]


@dataclass(frozen=True, eq=False)
class DiscretePath:
    """The process of Ho et al. (2020): alpha = sqrt(alpha_bar_t), sigma = sqrt(1 - alpha_bar_t), t = 0, ..., T - 1.

    Attributes:
        alphas_cumprod: (T,), alpha_bar, within [0, 1] and not increasing; kept in float64 on the CPU.
    """

    alphas_cumprod: Tensor

    def __post_init__(self) -> None:
        """Check the table; ValueError where it is not as above."""
        bars = arguments.finite_tensor("alphas_cumprod", self.alphas_cumprod).detach().cpu().double()
        if bars.dim() != 1 or not bool(((bars >= 0) & (bars <= 1)).all()) or bool((bars.diff() > 0).any()):
            allowed = "a tensor (T,) of numbers from 0 to 1 that do not increase"
            raise arguments.refuse("alphas_cumprod", self.alphas_cumprod, allowed)
        object.__setattr__(self, "alphas_cumprod", bars)

    def uniform(self) -> Times:
        """All steps alike."""
        return UniformSteps(len(self.alphas_cumprod))

    def grid(self) -> Tensor:
        """All steps, from the least noise on."""
        return torch.arange(len(self.alphas_cumprod))

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma (n,), float64 on the CPU, at the steps t (n,).

        Raises:
            ValueError: t are not steps of the process.
        """
        total = len(self.alphas_cumprod)
        known = arguments.is_dense(t) and not t.is_meta and t.dtype in WHOLE
        steps = t.cpu().long() if known and t.dim() == 1 else None
        if steps is None or (len(steps) and not 0 <= int(steps.min()) <= int(steps.max()) < total):
            raise arguments.refuse("t", t, f"whole numbers (n,) from 0 to {total - 1}, the steps of alphas_cumprod")
        bars = self.alphas_cumprod[steps]
        return bars.sqrt(), (1.0 - bars).sqrt()

    def settings(self) -> dict[str, Any]:
        """For records."""
        ends = [float(self.alphas_cumprod[0]), float(self.alphas_cumprod[-1])]
        return {"time": "discrete", "steps": len(self.alphas_cumprod), "alphas_cumprod_ends": ends}


def even_times(low: float, high: float, count: int = STEPS) -> Tensor:
    """The middles of count equal shares of low to high (count,), float64."""
    return low + (high - low) * (torch.arange(count, dtype=torch.float64) + 0.5) / count


def karras_sigmas(low: float, high: float, count: int = STEPS) -> Tensor:
    """Noise levels from low to high (count,), float64, spaced as Karras et al. (2022, Eq. 5)."""
    share = torch.linspace(0.0, 1.0, count, dtype=torch.float64)
    return (low ** (1 / RHO) + share * (high ** (1 / RHO) - low ** (1 / RHO))) ** RHO


@dataclass(frozen=True)
class ContinuousPath:
    """alpha(t) and sigma(t) as functions of float64 tensors (n,); sigma does not fall with t, alpha does not rise.

    Attributes:
        alpha, sigma: the functions.
        low, high: the times between which `uniform` draws.
        name: for records.
        spacing: how `grid` divides low to high, a function of the two.
    """

    alpha: Coefficient
    sigma: Coefficient
    low: float = 0.0
    high: float = 1.0
    name: str = "alpha(t), sigma(t)"
    spacing: Callable[[float, float], Tensor] = even_times

    def __post_init__(self) -> None:
        """Check all fields."""
        arguments.function("alpha", self.alpha)
        arguments.function("sigma", self.sigma)
        arguments.number("high", self.high, above=arguments.number("low", self.low))

    def uniform(self) -> Times:
        """All times between low and high alike."""
        return Uniform(self.low, self.high)

    def grid(self) -> Tensor:
        """Times that a discrete process is made of (STEPS,), from the least noise on: see `spacing`."""
        return self.spacing(self.low, self.high)

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma (n,), float64 on the CPU, at the times t (n,).

        Raises:
            ValueError: the functions return anything but finite numbers of at least 0, one for each time.
        """
        wide = t.detach().cpu().double()
        parts = []
        for name, function in (("alpha", self.alpha), ("sigma", self.sigma)):
            values = function(wide)
            fits = isinstance(values, Tensor) and values.shape == wide.shape and values.is_floating_point()
            if not fits or not bool((values.isfinite() & (values >= 0)).all()):
                raise arguments.refuse(f"what {name}(t) returned", values, f"{len(wide)} finite numbers of at least 0")
            parts.append(values.double())
        return parts[0], parts[1]

    def settings(self) -> dict[str, Any]:
        """For records."""
        return {"time": "continuous", "path": self.name, "low": self.low, "high": self.high}


Path = DiscretePath | ContinuousPath
RECTIFIED_FLOW = ContinuousPath(lambda t: 1.0 - t, lambda t: t, name="rectified flow: alpha = 1 - t, sigma = t")
"""The straight path of Liu et al. (2023) and Lipman et al. (2023), data at t = 0 and noise at t = 1."""
EDM_PATH = ContinuousPath(torch.ones_like, lambda t: t, 0.002, 80.0, "EDM: alpha = 1, sigma = t", karras_sigmas)
"""The variance-exploding path of Karras et al. (2022), with the ends of their sampler."""


def sampler_times(path: Path, times: Sequence[float] | Tensor | None) -> Tensor:
    """The times (T,) of a sampler's steps along a path: those given, or the path's grid.

    Raises:
        ValueError: they are not finite numbers, at least one, in order of rising noise; or, for a discrete path, not
            its steps.
    """
    if times is None:
        return path.grid()
    values = times
    if arguments.is_dense(times) and not times.is_meta:
        values = times.tolist()
    if not isinstance(values, Sequence) or isinstance(values, str | bytes) or not values:
        raise arguments.refuse("times", times, "a list of times, at least one")
    discrete = isinstance(path, DiscretePath)
    checked = [arguments.count("times", one) if discrete else arguments.number("times", one) for one in values]
    if isinstance(path, DiscretePath) and max(checked) >= len(path.alphas_cumprod):
        raise arguments.refuse("times", times, f"steps from 0 to {len(path.alphas_cumprod) - 1} of alphas_cumprod")
    if any(later <= earlier for earlier, later in pairwise(checked)):
        raise arguments.refuse("times", times, "times that ascend, in order of rising noise")
    return torch.tensor(checked, dtype=torch.int64 if discrete else torch.float64)


def broadcast(values: tuple[Tensor, Tensor], like: Tensor) -> tuple[Tensor, Tensor]:
    """Two rows of numbers (n,), shaped to multiply `like` (n, ...), in its type on its device."""
    shape = (-1, *[1] * (like.dim() - 1))
    a, b = (value.to(like.dtype).to(like.device).view(shape) for value in values)
    return a, b
