"""The ladder's figure: its points are the studies' ratios, and what is not measured is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from findings.ladder import Study
from paper_figs.figures import ladder
from tests.findings.test_ladder import RADII, plain, study


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    (tmp_path / "results" / "ladder").mkdir(parents=True)
    study(tmp_path / "results" / "ladder" / "mini")
    monkeypatch.setattr(ladder, "ROOT", tmp_path)
    return ladder.compute()


def test_points_are_ratios_to_plain_training(data: dict, tmp_path: Path) -> None:
    points = data["studies"][ladder.STUDIES["mini"]]
    assert [p["dose"] for p in points if (p["method"], p["weights"]) == ("sam", "raw")] == list(RADII)
    (point,) = (p for p in points if (p["method"], p["weights"], p["dose"]) == ("sam", "ema", 0.03))
    seeds = Study(tmp_path / "results" / "ladder" / "mini").seeds
    for measure, name in (("rise", "rise"), ("distance-20", "distance")):
        logs = [np.log(plain("sam", 0.03, s, "ema")[name] / plain("adm", 0.0, s, "ema")[name]) for s in seeds]
        assert point[measure]["mean"] == pytest.approx(np.mean(logs), rel=1e-3)
        assert point[measure]["low"] < point[measure]["mean"] < point[measure]["high"]


def test_the_papers_points_are_its_tables(data: dict) -> None:
    points = next(of for name, of in data["studies"].items() if name.startswith("rung 5"))
    (raw,) = (p for p in points if (p["dose"], p["weights"]) == ("cifar10", "raw"))
    assert np.exp(raw["rise"]["mean"]) == pytest.approx(0.063 / 0.097)
    assert np.exp(raw["distance-20"]["mean"]) == pytest.approx(9.01 / 34.47)


def test_what_is_not_measured_is_named_and_has_no_panel(data: dict) -> None:
    figure = ladder.draw(data)
    shown = [axes.get_title(loc="left").replace("\n", " ") for axes in figure.axes]
    assert len(shown) == 2
    assert ladder.STUDIES["mini"] in shown
    assert "Not measured yet" in figure.get_suptitle()
    assert ladder.STUDIES["tiny"] in figure.get_suptitle().replace("\n", " ")
