"""Numbers with their errors, held against one worked out by hand or by another formula; and the judge of claims."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import stats

from findings import estimates, verdicts
from findings.estimates import Cell, Replicates
from findings.verdicts import LEVEL, Interval, Region, Verdict, above, below, mean_interval, seeds_to_decide


@pytest.mark.parametrize(
    ("number", "digits", "power"),
    [(0.0996, 2, -1), (0.0994, 2, -2), (9.96, 2, 1), (9.94, 2, 0), (-1234.0, 4, 3), (1e-20, 1, -20)],
)
def test_the_power_of_ten_is_that_of_the_rounded_number(number: float, digits: int, power: int) -> None:
    assert estimates.exponent(number, digits) == power


def test_numbers_are_rounded_to_digits_that_count() -> None:
    assert estimates.significant(0.123456) == 0.1235
    assert estimates.significant(-98765.0, 2) == -99000.0
    assert [estimates.decimals_of(error) for error in (0.012, 0.0996, 3.4, 120.0)] == [3, 2, 1, -1]
    assert estimates.fixed(1234.5678, 2) == "1234.57"
    assert estimates.fixed(1234.5678, 1, power=3) == "1.2346"
    assert estimates.fixed(1234.5678, -2, power=3) == "1.2"
    assert estimates.fixed(1234.5678, -2) == "1200"
    assert [estimates.fixed(x, 2, signed=True) for x in (0.5, -0.5, -0.001, 0.0)] == ["+0.50", "-0.50", "0.00", "0.00"]
    assert estimates.fixed(-0.001, 2) == "0.00"


def test_small_numbers_are_shown_with_their_power_of_ten() -> None:
    assert Cell(0.0012345, 0.0001).shown() == "0.00123 ± 0.00010"
    assert Cell(0.00012345, 0.00001).shown() == "(1.23 ± 0.10)e-4"


def test_an_estimate_with_groups_has_their_degrees_of_freedom() -> None:
    entry = {"value": 2.0, "standard_error": 0.5, "group_sizes": [3, 3, 4]}
    assert estimates.estimate(entry) == Cell(2.0, 0.5, 2)
    assert estimates.estimate({"value": 2.0, "standard_error": 0.5}) == Cell(2.0, 0.5, math.inf)
    assert estimates.estimated(entry, {}) == Cell(2.0, 0.5, 2)
    assert estimates.estimated(None, {}) is None


@pytest.mark.parametrize("images", ["samples", "images"])
def test_errors_over_draws_and_images_are_added_in_quadrature(images: str) -> None:
    entry = {"value": 7.0, "draw_standard_error": 3.0, "data_standard_error": 4.0}
    cell = estimates.estimated(entry, {"draws": 11, images: 6})
    assert cell is not None
    assert (cell.value, cell.error) == (7.0, 5.0)
    # Satterthwaite: 25^2 / (9^2 / 10 + 16^2 / 5)
    assert cell.degrees == pytest.approx(625 / (8.1 + 51.2), rel=1e-14)
    alone = estimates.estimate(entry)
    assert (alone.value, alone.error, alone.degrees) == (7.0, 5.0, math.inf)


def result(**measures: Any) -> dict[str, Any]:
    return {"measures": measures, "settings": {"evaluation": {"draws": 3}}}


def test_columns_read_what_stands_in_a_measure() -> None:
    column = estimates.bare("n", "heading", "m", "a", "b")
    assert (column.name, column.heading, column.needs) == ("n", "heading", ("m",))
    assert column.cell(result(m={"a": {"b": 3}})) == Cell(3.0)
    assert column.of([result(other={})]) is None
    assert estimates.change("n", "heading", "m", "o").heading == "heading"
    assert estimates.options_of([result()]) == {"draws": 3}


def test_images_are_groups_of_one() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    replicates = estimates.by_image(result(loss={"by_image": values}))
    assert replicates == Replicates((1.0, 2.0, 4.0, 9.0), (1, 1, 1, 1))
    cell = replicates.cell(4.0)
    assert cell.error == pytest.approx(stats.sem(values), rel=1e-14)
    assert (cell.value, cell.degrees) == (4.0, 3)


def test_groups_without_a_value_are_an_error() -> None:
    short = Replicates((1.0, 2.0), (1, 1, 1))
    with pytest.raises(ValueError, match="zip"):
        short.cell(1.0)
    with pytest.raises(ValueError, match="zip"):
        short.less(Replicates((1.0, 2.0, 3.0), (1, 1, 1)))


def test_a_ratio_has_the_relative_errors_in_quadrature() -> None:
    ratio = estimates.ratio(Cell(6.0, 0.3, 9), Cell(2.0, 0.2, 4))
    assert ratio is not None
    first, second = 0.05, 0.1  # relative
    assert ratio.value == 3.0
    assert ratio.error == pytest.approx(3.0 * math.hypot(first, second), rel=1e-14)
    squares = first**2 + second**2
    assert ratio.degrees == pytest.approx(squares**2 / (first**4 / 9 + second**4 / 4), rel=1e-12)
    assert estimates.ratio(Cell(6.0), Cell(2.0)) == Cell(3.0, 0.0, math.inf)
    assert estimates.ratio(Cell(6.0, 1.0), Cell(0.0, 1.0)) is None
    assert estimates.ratio(Cell(6.0, 1.0), Cell(-1.0, 1.0)) is None


def test_a_paired_ratio_is_the_jackknife_s_to_first_order() -> None:
    generator = np.random.default_rng(0)
    b = generator.uniform(1.0, 2.0, 400)
    a = 0.7 * b + generator.normal(0.0, 0.05, 400)
    ratio = estimates.paired_ratio(list(a), list(b))
    assert ratio is not None
    assert ratio.value == pytest.approx(a.mean() / b.mean(), rel=1e-14)
    left_out = np.array([np.delete(a, i).mean() / np.delete(b, i).mean() for i in range(400)])
    jackknife = math.sqrt(399 / 400 * ((left_out - left_out.mean()) ** 2).sum())
    assert ratio.error == pytest.approx(jackknife, rel=0.01)  # terms of the second order, some 1/400
    assert ratio.degrees == pytest.approx(399)
    more = estimates.paired_ratio(list(a), list(b), Cell(0.0, jackknife))
    assert more is not None
    assert more.error == pytest.approx(math.sqrt(2) * jackknife, rel=0.01)
    assert estimates.paired_ratio([1.0, 2.0], [1.0, -1.0]) is None


def test_a_logarithm_has_the_relative_error() -> None:
    logarithm = estimates.logarithm(Cell(4.0, 0.8, 6))
    assert logarithm is not None
    assert (logarithm.value, logarithm.degrees) == (math.log(4.0), 6)
    assert logarithm.error == pytest.approx(0.2)
    assert estimates.logarithm(Cell(4.0)) == Cell(math.log(4.0), None, math.inf)
    assert [estimates.logarithm(cell) for cell in (None, Cell(0.0, 1.0), Cell(-1.0, 1.0))] == [None] * 3


def test_regions_are_open_to_one_side() -> None:
    assert (above(), above(0.5)) == (Region(0.0, math.inf), Region(0.5, math.inf))
    assert below() == Region(-math.inf, 0.0)
    assert Region(-1.0, 1.0).ends == [-1.0, 1.0]
    assert above().ends == [0.0, None]


def test_two_seeds_are_enough_for_an_interval_at_a_level_of_its_own() -> None:
    interval = mean_interval([1.0, 2.0], level=0.5)
    # Student's t with one degree of freedom is Cauchy: its upper quartile is 1
    assert (interval.mean, interval.level) == (1.5, 0.5)
    assert interval.high == pytest.approx(1.5 + 0.5)
    with pytest.raises(ValueError, match="comparisons is True"):
        mean_interval([1.0, 2.0], True)


def test_few_seeds_may_be_enough_and_the_most_is_among_them() -> None:
    clear = Interval(1.0, 0.9, 1.1, 20, LEVEL)
    assert seeds_to_decide(clear, below()) == 3
    scattered = mean_interval([0.2, 1.0, -0.5, 0.7], 1)
    needed = seeds_to_decide(scattered, below(), most=10_000)
    assert needed is not None
    assert seeds_to_decide(scattered, below(), most=needed) == needed
    assert seeds_to_decide(scattered, below(), most=needed - 1) is None


def test_one_number_has_the_interval_of_its_own_error() -> None:
    several = verdicts.interval_of_cells([Cell(1.0), Cell(2.0), Cell(4.0)], 3)
    assert several == mean_interval([1.0, 2.0, 4.0], 3)
    one = verdicts.interval_of_cells([Cell(2.0, 0.5, 4)], 2)
    assert one is not None
    half = 0.5 * stats.t.ppf(1.0 - 0.01 / 2 / 2, 4)
    assert (one.mean, one.seeds) == (2.0, 1)
    assert [one.level, one.low, one.high] == pytest.approx([0.995, 2.0 - half, 2.0 + half])
    assert verdicts.interval_of_cells([Cell(2.0, 0.0)], 1) == Interval(2.0, 2.0, 2.0, 1, LEVEL)
    assert verdicts.interval_of_cells([Cell(2.0)], 1) is None
    assert verdicts.interval_of_cells([Cell(2.0, math.inf)], 1) is None


@dataclass
class Claim:
    group: str
    comparisons: tuple[Any, ...]
    regions: tuple[Region, ...]


def test_comparisons_of_a_group_are_counted_together() -> None:
    counted: list[tuple[Any, int]] = []

    def interval_of(comparison: Any, count: int) -> Interval | None:
        counted.append((comparison, count))
        return None if comparison is None else Interval(comparison, comparison - 0.5, comparison + 0.5, 3, LEVEL)

    claims = [
        Claim("a", (1.0, -1.0), (above(), above())),
        Claim("b", (1.0,), (above(),)),
        Claim("a", (2.0, None), (above(), above())),
        Claim("c", (), ()),
    ]
    outcomes = verdicts.judge(claims, interval_of, lambda comparison: comparison is not None)
    assert counted == [(1.0, 3), (-1.0, 3), (1.0, 1), (2.0, 3), (None, 3)]
    assert [one.claim for one in outcomes] == claims
    assert [one.verdict for one in outcomes] == [
        Verdict.REFUTED, Verdict.CONFIRMED, Verdict.UNDECIDED, Verdict.NOT_MEASURED
    ]  # fmt: skip
    assert [one.deciding for one in outcomes] == [1, 0, 1, None]
    assert outcomes[0].intervals[0] == Interval(1.0, 0.5, 1.5, 3, LEVEL)
    verdicts.judge(claims[:1], interval_of)
    assert counted[-1] == (-1.0, 2)
    with pytest.raises(ValueError, match="zip"):
        verdicts.judge([Claim("a", (1.0, 2.0), (above(),))], interval_of)
