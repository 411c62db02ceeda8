"""Verdicts from numbers that are one a seed: intervals, and one rule for all predictions.

A comparison yields one number a seed and claims the region in which their mean lies. Its interval is Student's t at
99%, widened by Bonferroni's correction for all comparisons that belong to one prediction (P1, P2, ...). The claim is
confirmed where the interval lies inside the region, refuted where the two do not meet, and undecided otherwise. So
"no difference" can be confirmed: its region is a margin about zero, stated beforehand.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from flatness import arguments

LEVEL = 0.99
FEWEST_SEEDS = 20
"""Fewer seeds than this give intervals, but no verdict that should be quoted."""


class Verdict(enum.Enum):
    """What the seeds say of a claim."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its confidence interval; `level` is the interval's own, after any correction."""

    mean: float
    low: float
    high: float
    seeds: int
    level: float


@dataclass(frozen=True)
class Region:
    """The open interval in which a mean is claimed to lie.

    Raises:
        ValueError: low is not below high.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the order."""
        if not self.low < self.high:
            raise arguments.refuse("low", self.low, f"a number below high, {self.high}")

    def verdict(self, interval: Interval) -> Verdict:
        """Confirmed where the interval lies inside, refuted where it lies outside, undecided otherwise."""
        if self.low < interval.low and interval.high < self.high:
            return Verdict.CONFIRMED
        if interval.high <= self.low or interval.low >= self.high:
            return Verdict.REFUTED
        return Verdict.UNDECIDED


def below(bound: float = 0.0) -> Region:
    """Less than the bound."""
    return Region(-math.inf, bound)


def above(bound: float = 0.0) -> Region:
    """More than the bound."""
    return Region(bound, math.inf)


def within(margin: float, centre: float = 0.0) -> Region:
    """Closer to the centre than the margin."""
    margin = arguments.number("margin", margin, above=0.0)
    return Region(centre - margin, centre + margin)


def mean_interval(values: Sequence[float] | Float[ndarray, " S"], comparisons: int = 1) -> Interval:
    """Student's t interval of the mean, at 99% for all the comparisons together.

    Args:
        values: one number a seed, at least two.
        comparisons: how many intervals are meant to hold at once (Bonferroni).

    Raises:
        ValueError: fewer than two values, values that are not finite, fewer than one comparison.
    """
    found = np.asarray(values, dtype=float)
    comparisons = arguments.count("comparisons", comparisons, at_least=1)
    if found.ndim != 1 or len(found) < 2 or not np.isfinite(found).all():
        raise arguments.refuse("values", values, "at least two finite numbers, one a seed")
    level = 1.0 - (1.0 - LEVEL) / comparisons
    half = float(stats.t.ppf((1.0 + level) / 2.0, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5)
    mean = float(found.mean())
    return Interval(mean, mean - half, mean + half, len(found), level)


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a conjunction: refuted if any part is, confirmed if every part is.

    Raises:
        ValueError: no verdict.
    """
    found = set(verdicts)
    if not found:
        raise ValueError("verdicts is empty; allowed: at least one")
    if Verdict.REFUTED in found:
        return Verdict.REFUTED
    return Verdict.CONFIRMED if found == {Verdict.CONFIRMED} else Verdict.UNDECIDED
