"""An EMA of any length after training, from snapshots of two (Karras et al. 2024, Section 3.2).

Power-function averages of the weights, `flatness.training.averaging_rules.PowerEMA`, are linear in the weights'
history, each with a profile of its own. The one that is wanted is combined from snapshots of others as its profile is
from theirs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from flatness import arguments
from flatness.training.averaging_rules import PowerEMA

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
