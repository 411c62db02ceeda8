"""The ladder's figure: its points are the studies' ratios, and what is not measured is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from findings.ladder import PAPERS_FALL, Study
from findings.ladder_claims import SAM
from findings.sentences import study_words
from findings.trained import TITLES
from paper_figs.drawing import panels
from paper_figs.figures import ladder, nine_methods
from tests.findings.test_ladder import RADII, plain, study

MINI = study_words("mini")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    (tmp_path / "results" / "ladder").mkdir(parents=True)
    study(tmp_path / "results" / "ladder" / "mini")
    monkeypatch.setattr(ladder, "ROOT", tmp_path)
    return ladder.compute()


def _panels(data: dict) -> dict[str, Axes]:
    """Those that are drawn, by study."""
    return {axes.get_title(loc="left").replace("\n", ": ", 1): axes for axes in ladder.draw(data).axes}


def test_points_are_ratios_to_plain_training(data: dict, tmp_path: Path) -> None:
    points = data["studies"][MINI]
    assert [p["dose"] for p in points if (p["method"], p["weights"]) == ("sam", "raw")] == list(RADII)
    (point,) = (p for p in points if (p["method"], p["weights"], p["dose"]) == ("sam", "ema", 0.03))
    seeds = Study(tmp_path / "results" / "ladder" / "mini").seeds
    for measure, name in (("rise", "rise"), ("distance-20", "distance")):
        logs = [np.log(plain("sam", 0.03, s, "ema")[name] / plain("adm", 0.0, s, "ema")[name]) for s in seeds]
        assert point[measure]["mean"] == pytest.approx(np.mean(logs), rel=1e-3)
        assert point[measure]["low"] < point[measure]["mean"] < point[measure]["high"]


def test_the_radius_that_claims_are_judged_at_is_ringed(data: dict, tmp_path: Path) -> None:
    of = Study(tmp_path / "results" / "ladder" / "mini")
    points = data["studies"][MINI]
    radius = of.dose_of(SAM)
    ringed = [(p["method"], p["dose"], p["weights"]) for p in points if p.get("chosen")]
    assert ringed == [("sam", radius, "raw"), ("sam", radius, "ema")]
    axes = _panels(data)[MINI]
    rings = [line for line in axes.lines if line.get_markersize() == ladder.RING["markersize"]]
    at = {(float(x), float(y)) for ring in rings for x, y in np.asarray(ring.get_xydata())}
    chosen = [p for p in points if p.get("chosen")]
    assert at == {(1 - np.exp(p["rise"]["mean"]), np.exp(p["distance-20"]["mean"])) for p in chosen}


def test_the_dotted_line_is_where_the_rise_has_fallen_by_the_papers_share(data: dict) -> None:
    fall = 1 - np.exp(data["matched"][MINI])
    assert fall == pytest.approx(PAPERS_FALL, abs=0.01)  # interpolated from logarithms of means, means of logarithms
    shown = _panels(data)

    def lines(name: str) -> list[float]:
        of = (np.asarray(line.get_xdata(), float) for line in shown[name].lines)
        return [float(x[0]) for x in of if len(x) == 2 and x[0] == x[1]]

    assert lines(MINI) == [pytest.approx(fall)]
    assert lines(ladder.PRINTED) == []


def test_where_no_radius_is_matched_there_is_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def level(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        return plain(method, dose, seed, weights) | {"rise": 0.03}

    folder = tmp_path / "results" / "ladder" / "mini"
    folder.parent.mkdir(parents=True)
    study(folder, level)
    monkeypatch.setattr(ladder, "ROOT", tmp_path)
    assert ladder.compute()["matched"] == {MINI: None}


def test_the_papers_points_are_its_tables(data: dict) -> None:
    points = data["studies"][ladder.PRINTED]
    (raw,) = (p for p in points if (p["dose"], p["weights"]) == ("cifar10", "raw"))
    assert np.exp(raw["rise"]["mean"]) == pytest.approx(0.063 / 0.097)
    assert np.exp(raw["distance-20"]["mean"]) == pytest.approx(9.01 / 34.47)


def test_the_papers_points_are_named_and_only_they(data: dict) -> None:
    named = {
        name: {(text.get_text(), *text.xy) for text in axes.texts if isinstance(text, Annotation)}
        for name, axes in _panels(data).items()
    }
    points = data["studies"][ladder.PRINTED]
    expected = {(TITLES[p["dose"]], 1 - np.exp(p["rise"]["mean"]), np.exp(p["distance-20"]["mean"])) for p in points}
    assert named == {MINI: set(), ladder.PRINTED: expected}
    assert len(expected) == len(points)


def test_a_panel_of_a_memorised_training_set_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def memorised(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        numbers = plain(method, dose, seed, weights)
        return numbers | {"training": numbers["loss"] / 2}

    monkeypatch.setattr(ladder, "ROOT", tmp_path)
    folder = tmp_path / "results" / "ladder" / "mini"
    folder.parent.mkdir(parents=True)
    for row, names in ((plain, [MINI]), (memorised, [f"{MINI}, memorised"])):
        study(folder, row)
        assert [name for name in _panels(ladder.compute()) if MINI in name] == names


def test_what_is_not_measured_is_named_and_has_no_panel(data: dict) -> None:
    figure = ladder.draw(data)
    shown = [axes.get_title(loc="left").replace("\n", " ") for axes in figure.axes]
    assert len(shown) == 2
    assert MINI.replace(":", "") in shown
    assert f"Not measured yet: {study_words('tiny')}" in data["missing"]
    assert not any(MINI in line for line in data["missing"])
    assert data["title"] == figure.get_suptitle().replace("\n", " ")


def test_the_nine_methods_are_ratios_to_plain_raw_and_say_what_an_ema_does(
    data: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nine_methods, "ROOT", tmp_path)
    nine = nine_methods.compute()
    rows = nine["studies"][MINI]
    assert rows["adm raw"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    seeds = Study(tmp_path / "results" / "ladder" / "mini").seeds
    logs = [np.log(plain("adm", 0.0, s, "ema")["distance"] / plain("adm", 0.0, s, "raw")["distance"]) for s in seeds]
    assert rows["adm ema"]["mean"] == pytest.approx(np.mean(logs), rel=1e-3)
    printed = nine["studies"]["the paper: CIFAR-10"]
    assert np.exp(printed["sam ema"]["mean"]) == pytest.approx(7.00 / 34.47)
    assert nine["title"].endswith("and on 1 of the paper's 3 data sets")
    judged = [one for one in nine_methods.columns_of(tmp_path / "results" / "ladder") if "L2e" in one.cells]
    for verdict, words in (
        ("confirmed", "in the one study,"),
        ("refuted", "not in the one study (contradicted)"),
    ):
        turned = [one._replace(cells={"L2e": one.cells["L2e"]._replace(verdict=verdict)}) for one in judged[:1]]
        assert words in nine_methods.title(turned, {"x": printed})
    shown = [axes.get_title(loc="left") for axes in nine_methods.draw(nine).axes]
    assert len(shown) == 4  # one study, three data sets


def test_a_row_of_which_no_rise_is_left_in_a_seed_is_drawn_by_its_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(method: str, dose: float, seed: int, weights: str) -> dict[str, float]:
        numbers = plain(method, dose, seed, weights)
        gone = method == "sam" and dose == RADII[-1] and seed == 0
        return numbers | ({"rise": -1e-9} if gone else {})

    folder = tmp_path / "results" / "ladder" / "mini"
    folder.parent.mkdir(parents=True)
    study(folder, row)
    monkeypatch.setattr(ladder, "ROOT", tmp_path)
    points = ladder.compute()["studies"][MINI]
    rises = {(p["dose"], p["weights"]): p["rise"] for p in points if p["method"] == "sam"}
    assert set(rises) == {(dose, weights) for dose in RADII for weights in ("raw", "ema")}
    of = [
        [row(method, dose, s, "ema")["rise"] for s in (0, 1, 2)] for method, dose in (("sam", RADII[-1]), ("adm", 0.0))
    ]
    assert rises[RADII[-1], "ema"] == {"mean": pytest.approx(np.log(np.mean(of[0]) / np.mean(of[1])), rel=1e-4)}
    assert set(rises[RADII[0], "ema"]) == {"mean", "low", "high"}


def test_a_study_that_is_not_judged_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "results" / "ladder" / "mini"
    folder.parent.mkdir(parents=True)
    study(folder)
    for path in folder.glob("*.json"):
        if path.stem.rsplit("-", 1)[1] not in ("0", "1"):
            path.unlink()
    assert Study(folder).seeds == (0, 1)
    for figure in (ladder, nine_methods):
        monkeypatch.setattr(figure, "ROOT", tmp_path)
        assert not figure.compute()["studies"][MINI]


@pytest.mark.parametrize("ends", [(0.97, 1.16), (0.999, 1.001), (0.6, 1.0), (0.9, 3.9), (0.2, 40.0)])
def test_an_axis_of_ratios_can_be_read(ends: tuple[float, float]) -> None:
    """At least two numbers stand at it, and no two of them are the same."""
    axes = Figure().add_subplot()
    axes.plot([0, 1], ends)
    panels.ratios(axes)
    low, high = axes.get_ylim()
    ticks = [value for value in axes.yaxis.get_majorticklocs() if low <= value <= high]
    labels = axes.yaxis.get_major_formatter().format_ticks(ticks)
    assert 2 <= len(ticks) <= 12
    assert len(set(labels)) == len(labels)
