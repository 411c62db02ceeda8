"""Rank correlations against scipy's, and their intervals where the truth is known."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.bridge import b5_correlations as correlations
from experiments.bridge.b5_correlations import FEWEST_POINTS, FEWEST_RUNS, rank_correlation, spearman


def drawn(seed: int, points: int, shared: float) -> tuple[np.ndarray, np.ndarray]:
    """Two normal numbers a point with this correlation."""
    first, second = np.random.default_rng(seed).standard_normal((2, points))
    return first, shared * first + math.sqrt(1 - shared**2) * second


def test_the_number_is_scipys_with_ties_and_along_the_last_axis() -> None:
    for seed in range(5):
        x, y = drawn(seed, 15, 0.5)
        x = x.round(0)
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    many = np.random.default_rng(9).standard_normal((2, 4, 7))
    expected = [stats.spearmanr(*pair).statistic for pair in zip(*many, strict=True)]
    assert spearman(*many) == pytest.approx(expected)
    assert spearman(np.arange(5.0), -np.arange(5.0)) == -1.0
    assert math.isnan(float(spearman(np.ones(5), np.arange(5.0))))


def check_coverage() -> None:
    """Of 99 per cent intervals of 200 samples of 60 points few miss the law's own correlation (6 / pi) asin(r / 2)."""
    shared = 0.6
    truth = 6 / math.pi * math.asin(shared / 2)
    correlations = [
        rank_correlation(*map(list, drawn(seed, 60, shared)), resamples=400, level=0.9) for seed in range(200)
    ]
    inside = sum(one.low < truth < one.high for one in correlations) / len(correlations)
    # 90 per cent but for the binomial's 2.1 and what the percentile bootstrap lacks at 60 points
    assert 0.82 < inside < 0.97
    assert abs(float(np.mean([one.value for one in correlations])) - truth) < 0.03
    width = float(np.mean([one.high - one.low for one in correlations]))
    scatter = float(np.std([one.value for one in correlations]))
    assert 2 * 1.645 * scatter == pytest.approx(width, rel=0.2)


def test_the_intervals_cover_as_often_as_they_say() -> None:
    check_coverage()


@pytest.mark.parametrize("mutant", [lambda r: -r, lambda r: 0.0 * r + np.arange(r.size).reshape(r.shape) * 1e-6])
def test_mutants_of_the_correlation_are_found(mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    right = correlations.spearman
    monkeypatch.setattr(correlations, "spearman", lambda x, y: mutant(np.asarray(right(x, y))))
    with pytest.raises(AssertionError):
        check_coverage()


def test_points_of_one_run_that_are_all_the_same_count_once() -> None:
    x, y = drawn(2, 8, 0.3)
    runs = [f"run {place // 10}" for place in range(80)]
    more_x, more_y = (list(np.repeat(side, 10)) for side in (x, y))
    by_point, by_run = rank_correlation(more_x, more_y), rank_correlation(more_x, more_y, runs)
    once = rank_correlation(list(x), list(y))
    assert by_point.value == by_run.value == pytest.approx(once.value)
    assert (by_run.points, by_run.runs) == (80, 8)
    # Ten copies of each point make an interval of points about 1 / sqrt(10) as wide, one of runs as wide as it is
    assert by_point.high - by_point.low < 0.6 * (once.high - once.low)
    assert by_run.high - by_run.low == pytest.approx(once.high - once.low, rel=0.15)


def test_too_few_have_a_number_and_no_interval() -> None:
    few = list(range(FEWEST_POINTS - 1))
    correlation = rank_correlation(few, few)
    assert correlation.value == 1.0
    assert math.isnan(correlation.low)
    assert math.isnan(correlation.high)
    many = [float(value) for value in range(20)]
    runs = [f"run {place % (FEWEST_RUNS - 1)}" for place in range(20)]
    assert math.isnan(rank_correlation(many, many, runs).low)
    assert rank_correlation(many, many).low == 1.0
    assert math.isnan(rank_correlation([1.0] * 8, many[:8]).value)


def test_it_is_a_function_of_its_seed() -> None:
    x, y = (list(side) for side in drawn(0, 12, 0.5))
    assert rank_correlation(x, y) == rank_correlation(x, y)
    assert rank_correlation(x, y, seed=1).low != rank_correlation(x, y).low


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"x": [1.0]}, "x is"),
        ({"x": [1.0, math.nan, 2.0]}, "x is"),
        ({"y": [1.0, 2.0]}, "3 finite numbers"),
        ({"runs": ["a"]}, "3 names"),
        ({"level": 1.0}, "level is 1"),
        ({"resamples": 0}, "resamples is 0"),
    ],
)
def test_what_is_not_allowed_is_said(given: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {"x": [1.0, 2.0, 3.0], "y": [3.0, 1.0, 2.0]} | given
    with pytest.raises(ValueError, match=message):
        rank_correlation(**right)
