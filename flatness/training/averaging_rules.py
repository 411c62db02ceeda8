"""How weights are averaged along training: EMA, SWA, and power-function EMA with its width."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flatness import arguments

LARGEST_SIGMA_REL = math.sqrt(1 / 3) / 2
"""The relative width of gamma = 0, the plain mean over the whole of training."""


@dataclass(frozen=True)
class EMA:
    """w_ema <- decay w_ema + (1 - decay) w after every step, from the initial weights on (Algorithm 1, line 16)."""

    decay: float = 0.9999

    def __post_init__(self) -> None:
        """Check the rate."""
        arguments.number("decay", self.decay, at_least=0, at_most=1)


@dataclass(frozen=True)
class SWA:
    """The mean of the weights after steps start, ... that are multiples of cycle, steps counted from 0 (line 14)."""

    start: int = 0
    cycle: int = 1

    def __post_init__(self) -> None:
        """Check both counts."""
        arguments.count("start", self.start)
        arguments.count("cycle", self.cycle, at_least=1)


@dataclass(frozen=True)
class PowerEMA:
    """w_gamma(t) <- beta w_gamma(t - 1) + (1 - beta) w(t), beta = (1 - 1/t)^(gamma + 1), t = 1, 2, ... steps made.

    The average of the weights after step k then has weight (k^(gamma+1) - (k-1)^(gamma+1)) / t^(gamma+1): the profile
    (gamma + 1) tau^gamma / t^(gamma+1) on [0, t], whose width grows with training (Karras et al. 2024, Section 3.1).
    """

    gamma: float

    def __post_init__(self) -> None:
        """Check the exponent."""
        arguments.number("gamma", self.gamma, at_least=0)

    @classmethod
    def of_width(cls, sigma_rel: float) -> PowerEMA:
        """The profile of which the standard deviation is this share of training, in (0, 12^(-1/2)].

        Solves sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), which falls in gamma, by bisection.
        """
        sigma_rel = arguments.number("sigma_rel", sigma_rel, above=0, at_most=LARGEST_SIGMA_REL)
        low, high = 0.0, 1 / sigma_rel  # sigma_rel(gamma) < 1 / (gamma + 2)
        while low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if cls(middle).sigma_rel > sigma_rel else (low, middle)
        return cls(low)

    @property
    def sigma_rel(self) -> float:
        """The standard deviation of the profile, as a share of training."""
        return math.sqrt((self.gamma + 1) / (self.gamma + 3)) / (self.gamma + 2)


Rule = EMA | SWA | PowerEMA
