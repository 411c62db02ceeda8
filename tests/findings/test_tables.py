"""Tables: what real images reach beside what samples do, which bias is said, seeds, failures, and how numbers look."""

import math
from typing import Any

import pytest
from rich.console import Console

from experiments.distances.classifier import WIDTH
from experiments.measures.options import EVALUATIONS
from findings import columns, comparisons, tables
from findings.estimates import Cell
from findings.tables import Table
from tests.findings.made_results import distance, estimate, filtered, result

PSEUDO = [1.0, 2.0, 3.0, 2.0]


def table(results: list[dict[str, Any]], name: str) -> Table:
    return next(one for one in tables.tables(results) if one.name == name)


def row_of(shown: Table, label: str) -> dict[str, Cell | None]:
    return {column.name: cell for column, cell in zip(shown.columns, shown.rows[label], strict=True)}


def sampled(few: int, many: int, **floors: int) -> dict[str, Any]:
    """Distances at T' = 2 and 3 of four groups of so many, and floors."""
    distances = {"frechet-2-32": distance(5.0, PSEUDO, few), "frechet-3-32": distance(4.0, PSEUDO, many)}
    return distances | {f"frechet-floor-{4 * n}": distance(1.0, PSEUDO, n, bias=0.75) for n in floors.values()}


def test_a_floor_stands_only_beside_as_many_samples() -> None:
    shown = table([result(sampled(8, 64, a=8, b=40), samples=(32, 256))], "distances")
    assert list(shown.rows) == ["adm", "real images, n=32", "real images, n=160"]
    small, large = row_of(shown, "real images, n=32"), row_of(shown, "real images, n=160")
    assert small["frechet-2"] is not None
    assert small["frechet-2"].value == 1.0
    # 160 real images are no floor of 256 samples, but enough for one without bias
    assert [name for name, cell in small.items() if cell is not None] == ["frechet-2"]
    assert [name for name, cell in large.items() if cell is not None] == ["frechet-3-extrapolated"]
    assert large["frechet-3-extrapolated"] == pytest.approx((0.25, found_error(), float("inf")))


def found_error() -> float:
    return float(distance(1.0, PSEUDO)["standard_error"])


def test_without_a_floor_there_is_no_row_of_it() -> None:
    shown = table([result(sampled(8, 64), samples=(32, 256))], "distances")
    assert list(shown.rows) == ["adm"]


def test_distances_without_bias_need_eight_samples_a_feature_and_else_the_title_says_so() -> None:
    shown = table([result(sampled(8, 32), samples=(32, 128))], "distances")
    assert [column.name for column in shown.columns] == ["frechet-2", "frechet-3", "frechet-3-extrapolated"]
    assert "; biased: n (32 at T'=2) is near D = 16" in shown.title
    assert "biased" in table([result(sampled(8, 32), samples=(32, 128))], "summary").title
    enough = table([result(sampled(32, 32), samples=(128, 128))], "distances")
    assert [column.name for column in enough.columns if "extrapolated" in column.name] == [
        "frechet-2-extrapolated",
        "frechet-3-extrapolated",
    ]
    assert "biased" not in enough.title


def test_the_tiny_presets_distances_are_extrapolated() -> None:
    assert min(EVALUATIONS["tiny"].samples) >= columns.PER_FEATURE * WIDTH


def test_several_seeds_are_shown_by_their_mean_and_error_and_the_floor_by_none() -> None:
    rows = []
    for seed, value in enumerate((1.0, 1.5)):
        measures = sampled(32, 32, a=32) | {"lpf-absolute": filtered(estimate(0.5, 0.1), loss=value)}
        rows.append(result(measures, seed=seed, samples=(128, 128)))
    # Mean of a and a + 1/2, and the standard error of two numbers: half their distance
    assert row_of(table(rows, "summary"), "adm")["lpf"] == pytest.approx((1.75, 0.25, 1))
    floor = row_of(table(rows, "distances"), "real images, n=128")["frechet-2"]
    assert floor == Cell(1.0, None)
    single = row_of(table(rows[:1], "distances"), "real images, n=128")["frechet-2"]
    assert single is not None
    assert single.error == pytest.approx(found_error())


def test_the_gap_is_the_same_number_in_the_summary_and_in_comparisons() -> None:
    gap = {"mean_signed_gap": estimate(-0.5), "last_gap": estimate(3.0), "mean_absolute_gap": estimate(2.0, 0.0, 0.1)}
    rows = [result({"exposure-2": gap}), result({"exposure-2": gap}, "sam")]
    rows[1]["measures"]["exposure-2"]["mean_absolute_gap"]["value"] = 7.0
    ours, theirs = (row_of(table(rows, "summary"), label)["gap"] for label in ("sam", "adm"))
    (one,) = (one for one in comparisons.compared(rows) if one.measure == "gap-2")
    assert ours is not None
    assert theirs is not None
    assert one.difference.value == ours.value - theirs.value == 5.0
    named = {column.heading for column in table(rows, "summary").columns if column.name == "gap"}
    assert named == {one.words}


def test_no_number_is_broken_over_lines_on_the_terminal() -> None:
    measures = {
        "frechet-20-32": distance(64.19, [62.7, 65.7] * 2, 128, bias=0.66),
        "frechet-100-32": distance(62.6, [60.7, 64.5] * 2, 128, bias=0.66),
        "frechet-floor-512": distance(0.9506, [0.5, 1.4] * 2, 128, bias=0.87),
    }
    steps: dict[str, Any] = {"sampling_steps": (20, 100), "quantized_steps": (20,), "samples": (512, 512)}
    rows = [result(measures, average="ema", **steps)]
    console = Console(record=True, width=80)
    tables.shown(rows, console)
    text = console.export_text()
    shown = table(rows, "distances")
    assert all(cell.shown() in text for row in shown.rows.values() for cell in row if cell is not None)


def test_what_failed_is_marked_and_has_no_number() -> None:
    whole = {"frechet-2-32": distance(5.0, PSEUDO)}
    rows = [result(whole), result({"frechet-2-32": {"failed": "3 images of 24 are not finite"}}, "sam")]
    shown = table(rows, "distances")
    assert "| sam | failed |" in tables.markdown([shown])
    (document,) = tables.document([shown])
    assert document["rows"]["sam"]["frechet-2"] == {"value": None, "error": None}
    console = Console(record=True, width=100)
    tables.shown(rows, console)
    assert "failed" in console.export_text()
    # A mean over the seeds that are left would be of other seeds than its neighbours
    later = result(whole, "sam", seed=1)
    assert "| sam | failed |" in tables.markdown([table([*rows, later], "distances")])


def test_cells_are_rounded_to_two_digits_of_their_error() -> None:
    shown = {
        Cell(1.23456, 0.0123): "1.235 ± 0.012",
        Cell(-1234.5, 99.0): "-1234 ± 99",
        Cell(3.6534e-7, 3.02e-9): "(3.653 ± 0.030)e-7",
        Cell(-2e-6, 4.4e-5): "(-0.2 ± 4.4)e-5",
        Cell(2.5, None): "2.5",
        Cell(0.0, 0.0): "0",
    }
    for cell, text in shown.items():
        assert cell.shown() == text


def dosed(
    rise: float, loss: float, norm: float, method: str = "adm", average: str = "raw", seed: int = 0
) -> dict[str, Any]:
    gradient = {"norm": {"value": norm, "standard_error": 0.1}, "loss": {"value": 0.5, "standard_error": 0.0}}
    measures = {"lpf-absolute": filtered(estimate(rise, 0.01), loss), "gradient": gradient}
    return result(measures, method, average, seed)


def test_the_dose_is_the_share_of_the_loss_and_falls_are_to_plain_trainings_same_average_and_seed() -> None:
    shown = table(
        [
            dosed(0.2, 1.0, 3.0), dosed(0.1, 0.9, 2.0, "sam"),
            dosed(0.4, 1.0, 3.0, average="ema"), dosed(0.1, 1.0, 2.5, "sam", "ema"),
        ],
        "dose",
    )  # fmt: skip
    assert list(shown.rows) == ["sam", "sam+ema"]
    raw, ema = (row_of(shown, label) for label in shown.rows)
    values = {name: (a.value, b.value) for (name, a), b in zip(raw.items(), ema.values(), strict=True) if a and b}
    assert values == {
        "rho": (0.1, 0.1),
        "dose": pytest.approx((0.1 * 2.0 / 0.5, 0.1 * 2.5 / 0.5)),
        "lpf-value-ratio": pytest.approx((1.0 / 1.2, 1.1 / 1.4)),
        "lpf-rise-ratio": pytest.approx((0.5, 0.25)),
    }
    assert raw["dose"] is not None
    assert raw["dose"].error == pytest.approx(0.1 * 0.1 / 0.5)


def test_over_seeds_falls_are_geometric_means_of_pairs() -> None:
    shown = table(
        [
            *(dosed(rise, 1.0, 3.0, seed=seed) for seed, rise in enumerate((0.2, 0.8))),
            *(dosed(rise, 1.0, 3.0, "sam", seed=seed) for seed, rise in enumerate((0.1, 0.1))),
        ],
        "dose",
    )
    cell = row_of(shown, "sam")["lpf-rise-ratio"]
    assert cell is not None
    assert cell.value == pytest.approx(0.25)  # of 1/2 and 1/8
    assert cell.error == pytest.approx(0.25 * abs(math.log(4)) / 2)  # deviation ln 4 / sqrt 2, over sqrt 2


def test_without_plain_training_or_a_gradient_only_the_radius_is_known() -> None:
    alone = dosed(0.1, 0.9, 2.0, "sam")
    del alone["measures"]["gradient"]
    shown = table([alone], "dose")
    assert [column.name for column in shown.columns] == ["rho"]
    assert not [one for one in tables.tables([dosed(0.2, 1.0, 3.0)]) if one.name == "dose"]
