"""How weights are averaged along training: EMA, SWA, and power-function EMA with its width.

An EMA of any length is made after training from snapshots of two power-function ones (Karras et al. 2024, Section 3.2):
these are linear in the weights' history, each with a profile of its own, and the one that is wanted is combined from
snapshots of others as its profile is from theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

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


RESOLVED = 1e-13
"""Singular values of the fit's matrix below this share of the largest are rounding: float64, a few hundred profiles."""


LARGEST = 1e12
"""Exponents and steps: beyond, squares and powers of them leave float64's range."""


class Snapshot(TypedDict):
    """A power-function EMA at one time, in plain types, so that torch.load(weights_only=True) reads it.

    gamma: the exponent; steps: how many were made, t; weights: the averaged parameters by name.
    """

    gamma: float
    steps: int
    weights: dict[str, Tensor]


class Fit(NamedTuple):
    """An EMA profile as a combination of others.

    coefficients: one for each profile, summing to 1; error: the L2 norm of what is left over the L2 norm of the
    target profile; amplification: the sum of the coefficients' magnitudes, by which rounding in snapshots grows.
    """

    coefficients: list[float]
    error: float
    amplification: float


def _inner_product(a: tuple[float, float], b: tuple[float, float]) -> float:
    """The integral of two profiles (gamma, t), (gamma + 1) tau^gamma / t^(gamma+1) on [0, t], over their L2 norms."""
    (p, s), (q, t) = sorted((a, b), key=lambda profile: profile[1])
    overlap = math.sqrt((2 * p + 1) * (2 * q + 1)) / (p + q + 1)
    return overlap * (s / t) ** (q + 0.5)


def _sequence(name: str, value: object) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise arguments.refuse(name, value, "a list")
    return value


def fit(profiles: Sequence[tuple[float, float]], target: tuple[float, float]) -> Fit:
    """The combination of power-function profiles nearest to another in L2 (Karras et al. 2024, Section 3.2).

    Their least squares, with the coefficients made to sum to 1, so that weights that stand still are reproduced
    exactly, not up to the error of the fit.

    Args:
        profiles: (gamma, steps) of the snapshots.
        target: (gamma, steps) of the average that is wanted.

    Raises:
        ValueError: no profile, a gamma below 0, no steps, or a target later than every snapshot.
    """
    named = (("profiles", one) for one in _sequence("profiles", profiles))
    for name, profile in (*named, ("target", target)):
        if not isinstance(profile, tuple | list) or len(profile) != 2:
            raise arguments.refuse(name, profile, "pairs (gamma, steps)")
        arguments.number(f"gamma of {name}", profile[0], at_least=0, at_most=LARGEST)
        arguments.number(f"steps of {name}", profile[1], above=0, at_most=LARGEST)
    if not profiles:
        raise ValueError("profiles is empty; allowed: at least one pair (gamma, steps)")
    latest = max(steps for _, steps in profiles)
    if target[1] > latest:
        raise ValueError(f"target has {target[1]} steps; allowed: at most {latest}, those of the latest snapshot")
    size = len(profiles)
    every = (*profiles, target)
    norms = torch.tensor([(g + 1) / math.sqrt((2 * g + 1) * t) for g, t in every], dtype=torch.float64)
    gram = torch.tensor([[_inner_product(a, b) for a in profiles] for b in every], dtype=torch.float64)
    # with all profiles scaled to norm 1: least |sum y_i u_i - u|^2 where the coefficients, sums_i y_i, sum to 1
    sums = norms[-1] / norms[:-1]
    system = torch.zeros(size + 1, size + 1, dtype=torch.float64)
    system[:size, :size], system[size, :size], system[:size, size] = gram[:-1], sums, sums
    right = torch.cat([gram[-1], torch.ones(1, dtype=torch.float64)])
    y = torch.linalg.lstsq(system, right[:, None], rcond=RESOLVED, driver="gelsd").solution[:size, 0]
    error = float((1 - 2 * y @ gram[-1] + y @ gram[:-1] @ y).clamp(min=0).sqrt())
    coefficients = y * sums
    return Fit(coefficients.tolist(), error, float(coefficients.abs().sum()))


def reconstruct(snapshots: Sequence[Snapshot], rule: PowerEMA, steps: int | None = None) -> dict[str, Tensor]:
    """The parameters, by name, of a power-function EMA that was not tracked (post-hoc EMA).

    Summed in float64, one parameter at a time; snapshots loaded with `torch.load(path, mmap=True)` stay on disk.
    How good it is, `fit` says.

    Args:
        snapshots: from `Shadows.snapshots`, of two exponents or more, over the whole of training.
        rule: the average that is wanted.
        steps: at which time, at most that of the latest snapshot; None for that one.

    Raises:
        ValueError: as `fit`, or snapshots of different parameters.
    """
    for snapshot in _sequence("snapshots", snapshots):
        weights = snapshot.get("weights") if isinstance(snapshot, Mapping) else None
        if not isinstance(weights, Mapping) or not {"gamma", "steps"} <= snapshot.keys():
            raise arguments.refuse("snapshots", snapshot, "what Shadows.snapshots gives: gamma, steps and weights")
        for name, value in weights.items():
            arguments.floating_tensor(f"snapshots' weights {name!r}", value)
    if not snapshots:
        raise ValueError("snapshots is empty; allowed: at least one snapshot")
    arguments.instance("rule", rule, PowerEMA)
    steps = max(snapshot["steps"] for snapshot in snapshots) if steps is None else steps
    fitted = fit([(snapshot["gamma"], snapshot["steps"]) for snapshot in snapshots], (rule.gamma, steps))
    names = snapshots[0]["weights"].keys()
    if any(snapshot["weights"].keys() != names for snapshot in snapshots):
        raise ValueError("snapshots are of different parameters; allowed: snapshots of one model")
    combined: dict[str, Tensor] = {}
    for name in names:
        like = snapshots[0]["weights"][name]
        if any(snapshot["weights"][name].shape != like.shape for snapshot in snapshots):
            raise ValueError(f"snapshots have {name!r} in different shapes; allowed: snapshots of one model")
        total = torch.zeros_like(like, dtype=torch.float64)
        for snapshot, coefficient in zip(snapshots, fitted.coefficients, strict=True):
            total.add_(snapshot["weights"][name].double(), alpha=coefficient)
        combined[name] = total.to(like.dtype)
    return combined
