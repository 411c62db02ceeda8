"""Rank correlations with bootstrap intervals, over rows as if they were independent and over the runs they belong to.

Rows of one run (its raw, EMA and SWA weights, its snapshots) are not independent: an interval that resamples rows says
how much the number depends on which rows were taken, and nothing of other runs. One that resamples whole runs does,
where there are runs enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import rankdata

from findings.verdicts import LEVEL
from flatness import arguments

RESAMPLES = 2000
FEWEST_POINTS = 6
"""Fewer have too few different resamples for an interval: of 5 points every fourth leaves three or fewer."""
FEWEST_RUNS = 6


class Correlation(NamedTuple):
    """A rank correlation.

    Attributes:
        value: Spearman's, NaN where one of the two does not vary.
        low, high: percentiles of the bootstrap; NaN where there are too few points, or runs.
        points: how many.
        runs: to which they belong.
    """

    value: float
    low: float
    high: float
    points: int
    runs: int


def spearman(x: Float[ndarray, "*many n"], y: Float[ndarray, "*many n"]) -> Float[ndarray, "*many"]:
    """Spearman's rank correlation along the last axis, ties at their mean rank; NaN where one side does not vary."""
    ranks = [rankdata(side, axis=-1) for side in (x, y)]
    a, b = (side - side.mean(-1, keepdims=True) for side in ranks)
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size > 0, np.clip((a * b).sum(-1) / size, -1.0, 1.0), np.nan)


def rank_correlation(
    x: Sequence[float],
    y: Sequence[float],
    runs: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Correlation:
    """Spearman's rank correlation with the percentile interval of a bootstrap.

    Args:
        x, y: one number a point.
        runs: the run that each point belongs to, to resample runs; None to resample points.
        resamples: of the bootstrap; those in which one side does not vary are left out.
        level: of the interval.
        seed: of the resamples.

    Raises:
        ValueError: lengths differ, fewer than two points, numbers that are not finite, a level outside (0, 1).
    """
    first, second = (np.asarray(side, dtype=float) for side in (x, y))
    if first.ndim != 1 or len(first) < 2 or not np.isfinite(first).all():
        raise arguments.refuse("x", x, "at least two finite numbers")
    if second.shape != first.shape or not np.isfinite(second).all():
        raise arguments.refuse("y", y, f"{len(first)} finite numbers, as of x")
    if runs is not None and len(runs) != len(first):
        raise arguments.refuse("runs", runs, f"{len(first)} names, as of x")
    level = arguments.number("level", level, above=0.0)
    if level >= 1:
        raise arguments.refuse("level", level, "below 1")
    resamples = arguments.count("resamples", resamples, at_least=1)
    value = float(spearman(first, second))
    number = len(first) if runs is None else len(set(runs))
    fewest = FEWEST_POINTS if runs is None else FEWEST_RUNS
    low = high = float("nan")
    if number >= fewest and np.isfinite(value):
        places = _resampled(len(first), runs, resamples, np.random.default_rng(seed))
        found = np.concatenate([np.atleast_1d(spearman(first[chosen], second[chosen])) for chosen in places])
        low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Correlation(value, float(low), float(high), len(first), len(set(runs)) if runs is not None else number)


def _resampled(
    points: int, runs: Sequence[str] | None, resamples: int, generator: np.random.Generator
) -> list[Int[ndarray, "*B n"]]:
    """Places of the points of each resample, many at once or one by one; those of whole runs where runs are given."""
    if runs is None:
        return [generator.integers(points, size=(resamples, points))]
    names = sorted(set(runs))
    places = [np.flatnonzero([run == name for run in runs]) for name in names]
    chosen = generator.integers(len(names), size=(resamples, len(names)))
    return [np.concatenate([places[run] for run in of_one]) for of_one in chosen]
