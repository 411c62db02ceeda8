"""Verdicts: how often they are wrong where nothing differs, what is paired, and what is said of it all."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm, t

from findings import comparisons, estimates
from findings.comparisons import LEVEL, Comparison, criterion
from findings.estimates import Cell, Replicates
from tests.findings.made_results import distance, estimate, filtered, result

REPEATS = 20_000


def of(first: dict[str, Any], second: dict[str, Any], **options: Any) -> dict[str, Comparison]:
    """sam against adm."""
    compared = comparisons.compared([result(second, **options), result(first, "sam", **options)])
    return {one.measure: one for one in compared}


def test_the_criterion_is_students_at_the_level_of_three_normal_standard_errors() -> None:
    assert pytest.approx(2 * norm.sf(3.0), rel=1e-12) == LEVEL
    assert criterion(math.inf) == 3.0
    for degrees in (1, 2, 15, 6.4):
        assert criterion(degrees) == pytest.approx(t.isf(LEVEL / 2, degrees), rel=1e-9)


@pytest.mark.parametrize("seeds", [3, 5])
def test_verdicts_over_few_seeds_are_wrong_as_often_as_is_said(seeds: int) -> None:
    """Where both rows have the same law; three standard errors, as of a normal number, would call 95 or 40 of 1000."""
    draws = np.random.default_rng(seeds).normal(size=(REPEATS, seeds)) * 2**0.5
    compared = [Comparison("m", "m", "a", "b", estimates.mean(list(row)), seeds) for row in draws]
    wrong = sum(one.verdict != "undecided" for one in compared)
    expected = LEVEL * REPEATS
    assert abs(wrong - expected) <= 4 * expected**0.5  # standard errors of a rare count
    normal = [one.difference._replace(degrees=math.inf) for one in compared]
    naive = sum(Comparison("m", "m", "a", "b", cell, seeds).verdict != "undecided" for cell in normal)
    assert naive > 10 * expected


def test_a_large_difference_over_three_seeds_is_seen_and_over_two_is_not() -> None:
    def over(seeds: int) -> tuple[Comparison, list[str]]:
        rows = []
        for seed in range(seeds):
            for method, value in (("adm", 5.0), ("sam", 4.0 + 0.001 * seed)):
                measure = {"lpf-absolute": filtered(estimate(value))}
                rows.append(result(measure, method, seed=seed))
        compared = [one for one in comparisons.compared(rows) if one.measure == "lpf-absolute-rise"]
        return compared[0], comparisons.statement(rows, compared)

    one, lines = over(3)
    assert (one.verdict, one.seeds, one.difference.degrees) == ("lower", 3, 2)
    assert one.difference[:2] == pytest.approx((-0.999, 0.001 / 3**0.5))
    assert "over 3 training seeds" in lines[0]
    two, lines = over(2)
    assert two.verdict == "undecided"
    assert "over 2 training seeds, of which verdicts need 3" in lines[0]


def test_distances_are_compared_group_by_group() -> None:
    """Groups that scatter alike in both rows scatter little in the difference."""
    common = [10.0, 14.0, 6.0, 12.0, 8.0, 11.0, 9.0, 10.0]
    small = [0.1, -0.1, 0.2, -0.2, 0.1, -0.1, 0.05, -0.05]
    ours, theirs = distance(9.0, [a + b - 1 for a, b in zip(common, small, strict=True)]), distance(10.0, common)
    apart = of({"frechet-2-32": ours}, {"frechet-2-32": theirs})["frechet-2"]
    expected = float(np.std(small, ddof=1) / len(small) ** 0.5)
    assert apart.difference == pytest.approx((-1.0, expected, 7))
    assert apart.verdict == "lower"
    assert ours["standard_error"] > 10 * expected  # in quadrature nothing would be seen
    rounded = distance(9.5, [a + 1.5 * b for a, b in zip(common, small, strict=True)])
    change = estimates.change("change", "", "frechet-2-3", "frechet-2-32")
    row = result({"frechet-2-32": theirs, "frechet-2-3": rounded})
    assert change.cell(row) == pytest.approx((-0.5, 1.5 * expected, 7))
    both = of({"frechet-2-32": ours, "frechet-2-3": rounded}, {"frechet-2-32": theirs, "frechet-2-3": rounded})
    assert both["frechet-2-3-change"].difference == pytest.approx((1.0, expected, 7))  # the rounded ones cancel


def test_rows_of_other_groups_are_not_paired() -> None:
    with pytest.raises(ValueError, match=r"groups have \(2, 2\) images; allowed: those of the other, \(3, 3\)"):
        Replicates((1.0, 2.0), (2, 2)).less(Replicates((1.0, 2.0), (3, 3)))


def test_a_mean_of_images_has_its_usual_error() -> None:
    values = (1.0, 4.0, 2.0, 8.0)
    cell = Replicates(values, (1,) * 4).cell(3.75)
    assert cell == pytest.approx((3.75, float(np.std(values, ddof=1)) / 2, 3))


def test_losses_are_compared_image_by_image() -> None:
    ours, theirs = [1.0, 2.0, 3.0, 5.5], [1.5, 2.25, 3.5, 6.0]
    common = {"lpf-absolute": filtered(estimate(0.5, 0.03, 0.04), loss=float(np.mean(ours)), draws=5, samples=9)}
    other = {"lpf-absolute": filtered(estimate(0.25), loss=float(np.mean(theirs)))}
    comparison = of(common | {"loss": {"by_image": ours}}, other | {"loss": {"by_image": theirs}})
    error = float(np.std(np.subtract(ours, theirs), ddof=1)) / 2
    assert comparison["loss"].difference == pytest.approx((-0.4375, error, 3))
    together = (error**2 + 0.03**2 + 0.04**2) ** 0.5
    degrees = together**4 / (error**4 / 3 + 0.05**4 / (0.05**4 / (0.03**4 / 4 + 0.04**4 / 8)))
    assert comparison["lpf"].difference == pytest.approx((-0.1875, together, degrees))


def test_other_differences_have_the_sign_the_size_and_both_errors() -> None:
    ours, theirs = filtered(estimate(1.0, 0.03, 0.0), draws=9), filtered(estimate(2.0, 0.0, 0.04), samples=17)
    one = of({"lpf-absolute": ours}, {"lpf-absolute": theirs})["lpf-absolute-rise"]
    assert (one.row, one.against, one.verdict) == ("sam", "adm", "lower")
    assert one.difference == pytest.approx((-1.0, 0.05, 0.05**4 / (0.03**4 / 8 + 0.04**4 / 16)))  # Satterthwaite
    assert one.in_words() == "sam's is lower than adm's by 1.000 ± 0.050"
    again = of({"lpf-absolute": filtered(estimate(2.1, 0.03))}, {"lpf-absolute": theirs})["lpf-absolute-rise"]
    assert again.verdict == "undecided"
    assert again.in_words() == "sam and adm cannot be told apart (+0.100 ± 0.050)"


def test_without_bias_is_compared_where_there_are_samples_enough_and_else_bias_is_said() -> None:
    few, many = distance(3.0, [1.0, 2.0] * 2, group=24, bias=1.0), distance(3.0, [1.0, 2.0] * 2, group=32, bias=1.0)
    comparison = of({"frechet-2-32": few}, {"frechet-2-32": few}, samples=(96, 128))
    assert "frechet-2-extrapolated" not in comparison
    assert "biased: n (96 at T'=2) is near D = 16" in comparison["frechet-2"].words
    comparison = of({"frechet-3-32": many}, {"frechet-3-32": many | {"extrapolated": 1.5}}, samples=(96, 128))
    assert comparison["frechet-3-extrapolated"].difference.value == 0.5
    assert comparison["frechet-3"].words == "distance of samples, T'=3"


def test_how_many_comparisons_are_made_is_said_and_what_failed() -> None:
    whole, broken = {"lpf-absolute": filtered(estimate(1.0, 0.1))}, {"lpf-absolute": {"failed": "loss is nan"}}
    rows = [result(whole), result(whole, "sam"), result(broken, "ip", seed=7)]
    compared = comparisons.compared(rows)
    assert {one.row for one in compared} == {"sam"}
    lines = comparisons.statement(rows, compared)
    assert f"Of 1 comparisons without any difference that calls {LEVEL:.2g} one in the mean" in lines[0]
    assert "of two networks, not of two methods" in lines[0]
    assert lines[-1] == "ip (seed 7): lpf-absolute failed: loss is nan."


def test_an_error_that_is_not_known_decides_nothing() -> None:
    assert Comparison("m", "m", "a", "b", Cell(1.0, None)).verdict == "undecided"
    assert Comparison("m", "m", "a", "b", Cell(1.0, 0.0)).verdict == "undecided"
