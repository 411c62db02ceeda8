"""Every dose: ratios, doses and scatter are those of the made runs, and nothing that was not measured has a number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from findings.ladder import LOSS, RISE, Measure
from findings.ladder_doses import DoseRow, StudyRows, document, dose_rows, page
from findings.toy_ladder import studies_of
from findings.verdicts import mean_interval
from tests.findings.test_ladder import NOISES, RADII, SEEDS, plain, study

FEATURES = Measure("distance-20", "features")


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[DoseRow]:
    return dose_rows(study(tmp_path_factory.mktemp("doses")))


def at(rows: list[DoseRow], method: str, dose: float) -> DoseRow:
    return next(row for row in rows if (row.method, row.dose) == (method, dose))


def test_there_is_a_row_a_method_and_dose(rows: list[DoseRow]) -> None:
    assert {(row.method, row.dose) for row in rows} == {
        ("adm", 0.0), ("ip", 0.0), *(("sam", r) for r in RADII), *(("rwp", n) for n in NOISES)
    }  # fmt: skip
    assert rows[0].method == "adm"
    assert not rows[0].ratios


@pytest.mark.parametrize(
    ("weights", "measure", "key"), [("raw", LOSS, "loss"), ("ema", RISE, "rise"), ("raw", RISE, "rise")]
)
def test_ratios_are_to_plain_training_with_the_same_weights_and_seed(
    rows: list[DoseRow], weights: str, measure: Measure, key: str
) -> None:
    for method, dose in (("sam", RADII[0]), ("rwp", NOISES[-1])):
        logs = [math.log(plain(method, dose, s, weights)[key] / plain("adm", 0.0, s, weights)[key]) for s in SEEDS]
        interval = mean_interval(logs, 1, 0.95)
        ratio = at(rows, method, dose).ratios[weights, measure]  # type: ignore[index]
        # 1e-9: the quantile of t, inverted by iteration; the rest is rounding
        assert ratio == pytest.approx([math.exp(x) for x in (interval.mean, interval.low, interval.high)], rel=1e-9)


def test_the_relative_dose_is_the_ascents_share_of_the_loss(rows: list[DoseRow]) -> None:
    of_radius_1 = float(np.mean([(2.0 + seed) / 0.5 for seed in SEEDS]))
    assert at(rows, "adm", 0.0).relative_dose == pytest.approx(of_radius_1)
    for radius in RADII:
        assert at(rows, "sam", radius).relative_dose == pytest.approx(radius * of_radius_1)
    assert at(rows, "rwp", NOISES[0]).relative_dose is None
    assert at(rows, "ip", 0.0).relative_dose is None


def test_roles_passes_and_scatter(rows: list[DoseRow]) -> None:
    assert "best raw" in at(rows, "sam", 0.03).roles
    assert "best EMA" in at(rows, "sam", 0.01).roles
    assert [at(rows, *key).passes for key in (("adm", 0.0), ("sam", 0.03), ("rwp", NOISES[0]))] == [1.0, 2.0, 1.0]
    within, between = at(rows, "adm", 0.0).scatter["features"]
    shifts = np.log([1 - 0.1 / 9, 1, 1 + 0.1 / 9])
    assert within == pytest.approx(shifts.std(ddof=1))
    means = [math.log(plain("adm", 0.0, seed, "raw")["distance"]) + shifts.mean() for seed in SEEDS]
    assert between == pytest.approx(np.std(means, ddof=1))


def test_what_is_cheaper_is_as_flat_as_sam_at_its_least_dose(rows: list[DoseRow]) -> None:
    made = StudyRows("2", "mini", len(SEEDS), rows)
    assert made.sam == at(rows, "sam", 0.03)
    limit = made.sam.ratios["raw", RISE].value
    flat = [noise for noise in NOISES if at(rows, "rwp", noise).ratios["raw", RISE].value <= limit]
    expected = [at(rows, "rwp", min(flat))] if flat else []
    assert made.cheaper == expected  # not ip, which is not flat, nor another radius of SAM, which costs two
    row, own = at(rows, "rwp", NOISES[0]), made.sam.ratios["raw", FEATURES]
    for factor, well in ((1.1, True), (1.11, False), (0.1, True)):
        keys = [key for key in row.ratios if key[1].name == "distance-20"]
        other = row._replace(ratios={key: made.sam.ratios[key]._replace(value=own.value) for key in keys})
        at_limit = other.ratios | {("raw", FEATURES): own._replace(value=factor * own.value)}
        assert made.samples_as_well(other._replace(ratios=at_limit)) is well
    nothing = StudyRows("2", "mini", 3, [one._replace(roles=()) for one in rows])
    assert (nothing.sam, nothing.cheaper) == (None, [])
    assert not nothing.samples_as_well(row)


def test_what_was_not_measured_has_no_number() -> None:
    measures = {"held_out_loss": [1.0, 1.1], "lpf_rise": [0.1, -0.1], "cost": [1.0, 1.0], "distance-20": [0.2, 0.3]}
    plain_row = {"regime": "a", "method": "adm", "dose": 0.0, "weights": "raw", "step": 10, "last": True}
    plain_row |= {"measures": measures}
    sam = plain_row | {"method": "sam", "dose": 0.1, "measures": measures | {"cost": [2.0, 2.0]}}
    made = dose_rows(studies_of([plain_row, sam])["a"])
    ratios = at(made, "sam", 0.1).ratios
    assert set(ratios) == {("raw", LOSS), ("raw", Measure("distance-20"))}  # a rise below zero has no ratio
    assert at(made, "sam", 0.1).passes == 2.0
    assert at(made, "sam", 0.1).relative_dose is None
    assert at(made, "sam", 0.1).roles == ()


def test_the_page_and_the_document_hold_every_row(rows: list[DoseRow]) -> None:
    made = [StudyRows("2", "mini", len(SEEDS), rows)]
    text, entries = page(made), document(made)["studies"][0]["rows"]
    assert len(entries) == len(rows)
    for row in rows:
        assert f"| {row.method} | {row.dose:g}" in text or row.dose == 0
    ratio = at(rows, "sam", 0.03).ratios["raw", FEATURES]
    assert f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]" in text
    line = next(line for line in text.splitlines() if line.startswith("| adm |  | features"))
    assert line.count("|") == 6
