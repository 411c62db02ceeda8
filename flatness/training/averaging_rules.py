"""How weights are averaged along training: EMA, SWA, and power-function EMA with its width."""

from __future__ import annotations

import math
from dataclasses import dataclass

from flatness import arguments

SMALLEST_SIGMA_REL = 1e-6
"""A relative width of less than a step of any training."""
LARGEST_SIGMA_REL = math.sqrt(1 / 3) / 2
"""The relative width of gamma = 0, the plain mean over the whole of training."""


@dataclass(frozen=True)
class EMA:
    """w_ema <- decay w_ema + (1 - decay) w after every step, from the initial weights on (Algorithm 1, line 16).

    An EMA of .9999 forgets its beginning over tens of thousands of steps; in a shorter run most of it is the weights
    that it began from (`share_of_start`). Both options are public trainers' remedies, diffusers' among them.

    Attributes:
        decay: of old weights, a step.
        start: steps, counted from 0, before which the average is the weights themselves: it begins from those after
            step start - 1.
        warmup: the exponent p > 0 of a decay that rises to its value: at the k-th step since the start, k = 0, 1, ...,
            it is min(decay, 1 - (1 + k)^-p), so that a moving average grows with the run; 2/3 and 3/4 are common. None
            for the decay from the first step on.
    """

    decay: float = 0.9999
    start: int = 0
    warmup: float | None = None

    def __post_init__(self) -> None:
        """Check all fields."""
        arguments.number("decay", self.decay, at_least=0, at_most=1)
        arguments.count("start", self.start)
        if self.warmup is not None:
            arguments.number("warmup", self.warmup, above=0)

    def decay_at(self, k: int) -> float:
        """The decay at the k-th step since the start, counted from 0."""
        return self.decay if self.warmup is None else min(self.decay, 1.0 - (1.0 + k) ** -self.warmup)

    def share_of_start(self, steps: int) -> float:
        """What share of the average, after so many steps, is the weights that it began from."""
        made = max(arguments.count("steps", steps) - self.start, 0)
        if self.warmup is None:
            return float(self.decay**made)
        return math.prod(self.decay_at(k) for k in range(made))  # 0 after one, which takes the weights over whole


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
        """The profile of which the standard deviation is this share of training, from 1e-6 to 12^(-1/2).

        Solves sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)), which falls in gamma, by bisection.
        """
        sigma_rel = arguments.number("sigma_rel", sigma_rel, at_least=SMALLEST_SIGMA_REL, at_most=LARGEST_SIGMA_REL)
        low, high = 0.0, 1 / sigma_rel  # sigma_rel(gamma) < 1 / (gamma + 2)
        while low < (middle := (low + high) / 2) < high:
            low, high = (middle, high) if cls(middle).sigma_rel > sigma_rel else (low, middle)
        return cls(low)

    @property
    def sigma_rel(self) -> float:
        """The standard deviation of the profile, as a share of training."""
        return math.sqrt((self.gamma + 1) / (self.gamma + 3)) / (self.gamma + 2)


Rule = EMA | SWA | PowerEMA
