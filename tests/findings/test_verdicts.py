"""The rule of verdicts, on numbers whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from findings.verdicts import LEVEL, Region, Verdict, above, below, mean_interval, seeds_to_decide, together, within

SEEDS = 20


def drawn(mean: float, deviation: float = 1.0, seed: int = 0) -> np.ndarray:
    return mean + deviation * np.random.default_rng(seed).standard_normal(SEEDS)


def test_the_interval_is_that_of_scipy() -> None:
    values = drawn(0.3)
    reference = stats.ttest_1samp(values, 0.0).confidence_interval(LEVEL)
    interval = mean_interval(values)
    assert interval.seeds == SEEDS
    assert interval.level == LEVEL
    # 1e-12: rounding of some dozens of float64 operations
    assert interval.low == pytest.approx(float(reference.low), rel=1e-12)
    assert interval.high == pytest.approx(float(reference.high), rel=1e-12)


def test_more_comparisons_widen_the_interval_as_bonferroni_says() -> None:
    values = drawn(0.0)
    reference = stats.ttest_1samp(values, 0.0).confidence_interval(1 - 0.01 / 7)
    interval = mean_interval(values, comparisons=7)
    # 1e-9: the quantile of t, inverted by iteration
    assert interval.low == pytest.approx(float(reference.low), rel=1e-9)
    assert interval.high == pytest.approx(float(reference.high), rel=1e-9)
    assert interval.high - interval.low > mean_interval(values).high - mean_interval(values).low


@pytest.mark.parametrize(
    ("mean", "deviation", "region", "expected"),
    [
        (-2.0, 1.0, below(), Verdict.CONFIRMED),
        (-2.0, 1.0, above(), Verdict.REFUTED),  # a rule whose sign is flipped fails here and above
        (2.0, 1.0, below(), Verdict.REFUTED),
        (2.0, 1.0, above(), Verdict.CONFIRMED),
        (0.0, 1.0, below(), Verdict.UNDECIDED),
        (0.0, 1.0, above(), Verdict.UNDECIDED),
        (0.0, 0.01, within(0.05), Verdict.CONFIRMED),
        (0.0, 1.0, within(0.05), Verdict.UNDECIDED),
        (0.2, 0.01, within(0.05), Verdict.REFUTED),
        (-0.2, 0.01, within(0.05), Verdict.REFUTED),
        (1.0, 0.01, within(0.05, centre=1.0), Verdict.CONFIRMED),
        (0.0, 0.01, above(-0.05), Verdict.CONFIRMED),
        (-0.2, 0.01, above(-0.05), Verdict.REFUTED),
    ],
)
def test_the_rule(mean: float, deviation: float, region: Region, expected: Verdict) -> None:
    assert region.verdict(mean_interval(drawn(mean, deviation))) is expected


def test_a_negligible_but_certain_difference_does_not_refute_equality() -> None:
    """Equality is refuted by the margin, not by a small p-value."""
    values = drawn(0.01, 1e-4)
    assert mean_interval(values).low > 0
    assert within(0.05).verdict(mean_interval(values)) is Verdict.CONFIRMED


@pytest.mark.parametrize("region", [below(), above()])
def test_no_effect_at_all_refutes_a_sign(region: Region) -> None:
    assert region.verdict(mean_interval(np.zeros(SEEDS))) is Verdict.REFUTED


def test_errors_are_as_rare_as_the_level_says() -> None:
    """With no effect, a sign is confirmed once in 200 (one side of 99%); 4 standard errors of that frequency."""
    trials = 4000
    verdicts = [below().verdict(mean_interval(drawn(0.0, seed=seed))) for seed in range(trials)]
    share = verdicts.count(Verdict.CONFIRMED) / trials
    assert abs(share - 0.005) < 4 * (0.005 * 0.995 / trials) ** 0.5


def test_a_conjunction() -> None:
    yes, no, open_ = Verdict.CONFIRMED, Verdict.REFUTED, Verdict.UNDECIDED
    assert together([yes, yes]) is yes
    assert together([yes, open_]) is open_
    assert together([open_, no, yes]) is no
    with pytest.raises(ValueError, match="verdicts"):
        together([])


@pytest.mark.parametrize("values", [[1.0], [1.0, float("nan")], [[1.0, 2.0]]])
def test_bad_values_are_named(values: list) -> None:
    with pytest.raises(ValueError, match="values is"):
        mean_interval(values)


def test_bad_regions_are_named() -> None:
    with pytest.raises(ValueError, match="low is"):
        Region(1.0, 1.0)
    with pytest.raises(ValueError, match="margin is"):
        within(0.0)


def exactly(mean: float, deviation: float, seeds: int) -> np.ndarray:
    """Numbers whose sample mean and deviation are these."""
    raw = np.random.default_rng(seeds).standard_normal(seeds)
    return mean + deviation * (raw - raw.mean()) / raw.std(ddof=1)


@pytest.mark.parametrize("region", [below(), above(-0.05), within(0.1)])
@pytest.mark.parametrize("mean", [-0.3, -0.12, -0.04, 0.03, 0.15])
@pytest.mark.parametrize("comparisons", [1, 12])
def test_so_many_seeds_decide_and_one_fewer_does_not(region: Region, mean: float, comparisons: int) -> None:
    now = mean_interval(exactly(mean, 0.5, 4), comparisons)
    assert region.verdict(now) is Verdict.UNDECIDED
    seeds = seeds_to_decide(now, region, most=100_000)
    assert seeds is not None
    assert seeds > 4
    assert region.verdict(mean_interval(exactly(mean, 0.5, seeds), comparisons)) is not Verdict.UNDECIDED
    assert region.verdict(mean_interval(exactly(mean, 0.5, seeds - 1), comparisons)) is Verdict.UNDECIDED


def test_no_number_of_seeds_decides_next_to_the_end() -> None:
    assert seeds_to_decide(mean_interval(exactly(1e-4, 0.5, 20)), below()) is None
