"""The numbers that claims compare: ratios with their errors where these are known, and rows put together."""

import math
from typing import Any

import numpy as np
import pytest

from experiments.bridge.b3_b4_layers_and_scale import whole_ratio
from experiments.bridge.rows import Entry, Rows
from findings.estimates import Cell, logarithm, over_seeds, paired_ratio, ratio
from findings.names import AVERAGES, Average, RowName


def entry(run: str, method: str, average: Average = "raw", rho: float = 0.0, seed: int = 0) -> Entry:
    return Entry(run, average, method, rho, seed, str(RowName(method, average, rho or None)), None, None)


ROWS = Rows(
    entry(f"{name}-{seed}", method, average, rho, seed)
    for seed in (0, 1)
    for name, method, rho in (("adm", "adm", 0.0), ("low", "sam", 0.01), ("high", "sam", 0.1))
    for average in AVERAGES[:2]
)


def test_rows_are_put_together_by_label_and_paired_by_seed() -> None:
    assert ROWS.labels == ["adm", "adm+ema", "sam rho=0.01", "sam rho=0.01+ema", "sam rho=0.1", "sam rho=0.1+ema"]
    assert ROWS.seeds == 2
    assert dict(ROWS.counterparts("sam", "adm")) == {
        "sam rho=0.01": "adm", "sam rho=0.01+ema": "adm+ema", "sam rho=0.1": "adm", "sam rho=0.1+ema": "adm+ema",
    }  # fmt: skip
    assert dict(ROWS.averages())["sam rho=0.1+ema"] == "sam rho=0.1"
    assert [(a.run, b.run) for a, b in ROWS.pairs("sam rho=0.1", "adm")] == [("high-0", "adm-0"), ("high-1", "adm-1")]


def test_a_comparison_has_a_number_for_every_seed_or_none() -> None:
    comparison = ROWS.each(lambda one: Cell(float(one.seed)))
    assert [[cell.value for cell in one.values] for one in comparison] == [[0.0, 1.0]] * 6
    some = ROWS.each(lambda one: None if one.run == "adm-1" else Cell(1.0))
    assert [one.label for one in some] == ["sam rho=0.01", "sam rho=0.01+ema", "sam rho=0.1", "sam rho=0.1+ema"]
    assert ROWS.against([("sam rho=0.1", "adm")], lambda a, b: Cell(float(a.seed + b.seed)))[0].values[1].value == 2.0


def test_over_seeds_the_error_is_theirs() -> None:
    assert over_seeds([Cell(2.0, 0.5)]) == Cell(2.0, 0.5)
    cell = over_seeds([Cell(1.0, 9.0), Cell(3.0, 9.0)])
    assert (cell.value, cell.degrees) == (2.0, 1)
    assert cell.error == pytest.approx(1.0)


def test_the_errors_of_ratios_are_their_scatter() -> None:
    draw = np.random.default_rng(0)
    a, b = 2.0 + 0.05 * draw.standard_normal(20_000), 4.0 + 0.1 * draw.standard_normal(20_000)
    cell = ratio(Cell(2.0, 0.05), Cell(4.0, 0.1))
    assert cell is not None
    assert cell.value == 0.5
    assert cell.error == pytest.approx(float((a / b).std()), rel=0.03)
    logs = logarithm(cell)
    assert logs is not None
    assert logs.error == pytest.approx(float(np.log(a / b).std()), rel=0.03)
    assert ratio(Cell(1.0, 0.1), Cell(0.0, 0.1)) is None
    assert logarithm(Cell(-1.0, 0.1)) is None


def test_a_paired_ratio_knows_what_the_two_share() -> None:
    draw = np.random.default_rng(1)
    values = []
    for _ in range(400):
        common = draw.gamma(2.0, size=64)
        first, second = common * (1 + 0.1 * draw.standard_normal(64)), 2 * common * (1 + 0.1 * draw.standard_normal(64))
        values.append(paired_ratio(list(first), list(second)))
    there = [cell for cell in values if cell is not None and cell.error is not None]
    scatter = float(np.std([cell.value for cell in there]))
    assert float(np.mean([cell.value for cell in there])) == pytest.approx(0.5, abs=4 * scatter / 20)
    assert float(np.mean([cell.error or 0.0 for cell in there])) == pytest.approx(scatter, rel=0.15)
    exact = paired_ratio([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert exact is not None
    assert exact.value == 0.5
    assert exact.error == pytest.approx(0.0, abs=1e-12)
    assert paired_ratio([1.0], [-1.0]) is None


def whole(values: list[float], draws: list[float] | None) -> dict[str, Any]:
    error = 0.0 if draws is None else float(np.std(draws, ddof=1)) / math.sqrt(len(draws))
    entry = {
        "rise": {"value": float(np.mean(values)), "draw_standard_error": error},
        "by_image": values,
        "draws": 4 if draws is None else len(draws),
    }
    return entry | ({} if draws is None else {"by_draw": draws})


def test_a_ratio_of_whole_rises_pairs_draws_where_they_are_kept() -> None:
    images, draws = [1.0, 2.0, 3.0], [1.0, 1.5, 2.5, 3.0]
    theirs = whole(images, draws)
    ours = whole([value / 2 for value in images], [value / 2 for value in draws])
    cell = whole_ratio(ours, theirs)
    assert cell is not None
    assert cell.value == 0.5
    assert cell.error == pytest.approx(0.0, abs=1e-12)  # they share images and draws alike
    for one in (ours, theirs):
        del one["by_draw"]
    apart = whole_ratio(ours, theirs)
    assert apart is not None
    share = theirs["rise"]["draw_standard_error"] / 2.0
    assert apart.error == pytest.approx(0.5 * share * math.sqrt(2))
    assert whole_ratio(ours, whole([0.0, 0.0, 0.0], draws)) is None
