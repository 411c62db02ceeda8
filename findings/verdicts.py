"""The one judge: from comparisons with their numbers to verdicts, for the toy, the bridge and the ladder alike.

A claim names an open region for each of its comparisons. Where a comparison has one number a seed, its interval is
Student's t at 99%, widened by Bonferroni's correction for all comparisons of the claim's group (P1, ..., B1, ...);
where it has one number alone, the interval is from that number's own error. A comparison is confirmed where the
interval lies inside the region, refuted where the two do not meet, and undecided otherwise: so "no difference" can be
confirmed, its region is a margin about zero, stated beforehand. A claim is refuted where one of its comparisons is,
confirmed where all are, and not measured where it has none.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from findings.estimates import FEWEST, Cell, significant

LEVEL = 0.99
FEWEST_SEEDS = 20
"""Fewer seeds than this give intervals, but no verdict on the toy that should be quoted."""


class Verdict(enum.Enum):
    """What the numbers say of a claim."""

    CONFIRMED = "confirmed"
    REFUTED = "refuted"
    UNDECIDED = "undecided"
    NOT_MEASURED = "not measured"


DECIDED = (Verdict.CONFIRMED, Verdict.REFUTED, Verdict.UNDECIDED)
"""The verdicts on what was measured."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds with its confidence interval; `level` is the interval's own, after any correction."""

    mean: float
    low: float
    high: float
    seeds: int
    level: float

    def ends(self, digits: int = 4) -> dict[str, float]:
        """The mean and both ends, rounded to so many digits that count: for JSON."""
        return {end: significant(getattr(self, end), digits) for end in ("mean", "low", "high")}


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
            raise ValueError(f"low is {self.low}; allowed: a number below high, {self.high}")

    @property
    def ends(self) -> list[float | None]:
        """Both, for JSON: one that is infinite is None."""
        return [end if math.isfinite(end) else None for end in (self.low, self.high)]

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
    """Closer to the centre than the margin.

    Raises:
        ValueError: the margin is not above 0, or not finite.
    """
    if isinstance(margin, bool) or not (math.isfinite(margin) and margin > 0):
        raise ValueError(f"margin is {margin}; allowed: a finite number greater than 0")
    return Region(centre - margin, centre + margin)


def mean_interval(
    values: Sequence[float] | Float[ndarray, " S"], comparisons: int = 1, level: float = LEVEL
) -> Interval:
    """Student's t interval of the mean, at the level (99%) for all the comparisons together.

    Args:
        values: one number a seed, at least two.
        comparisons: how many intervals are meant to hold at once (Bonferroni).
        level: of all of them together.

    Raises:
        ValueError: fewer than two values, values that are not finite, fewer than one comparison.
    """
    numbers = np.asarray(values, dtype=float)
    if isinstance(comparisons, bool) or comparisons < 1:
        raise ValueError(f"comparisons is {comparisons}; allowed: a whole number of at least 1")
    if numbers.ndim != 1 or len(numbers) < FEWEST or not np.isfinite(numbers).all():
        raise ValueError(f"values is {values!r}; allowed: at least two finite numbers, one a seed")
    level = corrected_level(comparisons, level)
    half = float(stats.t.ppf((1.0 + level) / 2.0, len(numbers) - 1) * numbers.std(ddof=1) / len(numbers) ** 0.5)
    mean = float(numbers.mean())
    return Interval(mean, mean - half, mean + half, len(numbers), level)


MOST_SEEDS = 1000
"""More than these nobody trains."""


def seeds_to_decide(interval: Interval, region: Region, most: int = MOST_SEEDS) -> int | None:
    """How many seeds would decide what this many leave open, were mean and scatter over seeds to stay as they are.

    The interval's half-length is t(n - 1) s / sqrt(n); wanted is the fewest n at which it no longer reaches over the
    nearest end of the region.

    Args:
        interval: over two seeds or more, at its own level.
        region: in which the mean is claimed to lie.
        most: no more are asked for.

    Returns:
        None where more than `most` would be needed: the mean lies next to the region's end.
    """
    half = (interval.high - interval.low) / 2.0
    room = min(abs(interval.mean - end) for end in (region.low, region.high))
    quantile = stats.t.ppf((1.0 + interval.level) / 2.0, interval.seeds - 1)
    scatter = half * interval.seeds**0.5 / quantile
    counts = np.arange(FEWEST, most + 1)
    halves = stats.t.ppf((1.0 + interval.level) / 2.0, counts - 1) * scatter / counts**0.5
    enough = counts[halves < room]
    return int(enough[0]) if len(enough) else None


def corrected_level(comparisons: int, level: float = LEVEL) -> float:
    """The level of one interval, where so many are to hold at once at the level (Bonferroni)."""
    return 1.0 - (1.0 - level) / comparisons


def interval_of_cells(values: Sequence[Cell], comparisons: int) -> Interval | None:
    """Over training seeds where there are several numbers; else from the one number's own error.

    Args:
        values: one number for each training seed, with its error over images and draws.
        comparisons: how many intervals are meant to hold at once (Bonferroni).

    Returns:
        None where there is one number, whose error is not known.
    """
    if len(values) >= FEWEST:
        return mean_interval([cell.value for cell in values], comparisons)
    cell, level = values[0], corrected_level(comparisons)
    if cell.error is None or not math.isfinite(cell.error):
        return None
    half = float(stats.t.ppf((1.0 + level) / 2.0, cell.degrees)) * cell.error if cell.error else 0.0
    return Interval(cell.value, cell.value - half, cell.value + half, 1, level)


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a conjunction: refuted if any part is, confirmed if every part is.

    Raises:
        ValueError: no verdict.
    """
    parts = set(verdicts)
    if not parts:
        raise ValueError("verdicts is empty; allowed: at least one")
    if Verdict.REFUTED in parts:
        return Verdict.REFUTED
    return Verdict.CONFIRMED if parts == {Verdict.CONFIRMED} else Verdict.UNDECIDED


class Claimed(Protocol):
    """What can be judged: a claim of a group, with comparisons and a region for each of them."""

    @property
    def group(self) -> str:
        """Its comparisons are corrected together with those of all claims of the same group."""

    @property
    def comparisons(self) -> Sequence[Any]:
        """What is compared."""

    @property
    def regions(self) -> Sequence[Region]:
        """Where the mean of each comparison must lie."""


C = TypeVar("C", bound=Claimed)


@dataclass(frozen=True)
class Outcome(Generic[C]):
    """A claim with the intervals and verdicts of its comparisons; an interval is None where there is no error."""

    claim: C
    intervals: tuple[Interval | None, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def verdict(self) -> Verdict:
        """Of all its comparisons together."""
        return together(self.verdicts) if self.verdicts else Verdict.NOT_MEASURED

    @property
    def deciding(self) -> int | None:
        """The place of the comparison that decides: the first of the claim's verdict; None where there is none."""
        return self.verdicts.index(self.verdict) if self.verdict in self.verdicts else None


def judge(
    claims: Sequence[C],
    interval_of: Callable[[Any, int], Interval | None],
    corrected: Callable[[Any], bool] = lambda comparison: True,
) -> list[Outcome[C]]:
    """The outcome of each claim.

    Args:
        claims: all that are judged together, as the correction counts the comparisons of a whole group.
        interval_of: of a comparison, where so many intervals are meant to hold at once.
        corrected: whether a comparison is among those that are corrected together.

    Raises:
        Exception: what `interval_of` raises.
    """
    sizes: dict[str, int] = {}
    for claim in claims:
        sizes[claim.group] = sizes.get(claim.group, 0) + sum(map(corrected, claim.comparisons))
    outcomes = []
    for claim in claims:
        intervals = tuple(interval_of(comparison, sizes[claim.group]) for comparison in claim.comparisons)
        verdicts = tuple(
            Verdict.UNDECIDED if interval is None else region.verdict(interval)
            for region, interval in zip(claim.regions, intervals, strict=True)
        )
        outcomes.append(Outcome(claim, intervals, verdicts))
    return outcomes
