"""The toy study's figures show what the result file says, and say what they show."""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from findings import toy_study
from paper_figs import catalogue
from paper_figs.drawing import style
from paper_figs.figures import toy_readout
from paper_figs.report import pictures

NAMES = [name for name in catalogue.figures() if name.startswith("toy_")]
Data = dict[str, Any]


@pytest.fixture(scope="module")
def results() -> Data:
    return dict(json.loads(toy_study.RESULTS.read_bytes()))


def _texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def test_the_figures_asked_for_are_there() -> None:
    assert set(NAMES) == {"toy_sweep", "toy_readout", "toy_gap_tolerance"}


@pytest.mark.parametrize("name", NAMES)
def test_results_are_declared(name: str) -> None:
    """A figure that did not declare them would not be drawn again after a new run."""
    source = catalogue.figures()[name].source
    inputs = catalogue.declared_inputs(source)
    assert "results/toy.json" in inputs
    assert ("findings/paper_numbers.json" in inputs) == ("toy_study.paper()" in source.read_text())
    assert all((catalogue.ROOT / path).is_file() for path in inputs)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_data_and_seeds(name: str, data_of: Callable[[str], Data], results: Data) -> None:
    data = data_of(name)
    shown = "\n".join(pictures.faces(data))
    with style.applied():
        trial = _texts(
            import_module(f"paper_figs.figures.{name}").draw({**data, "face": {**data["face"], "trial": True}})
        )
    assert "ring" in shown
    assert f"{results['configuration']['seeds']} seeds" in shown
    assert "trial" in trial


def test_a_short_or_quick_study_is_a_trial(results: Data) -> None:
    full = {**results, "quick": False, "configuration": {**results["configuration"], "seeds": 20}}
    few = {**full, "configuration": {**full["configuration"], "seeds": 19}}
    assert not toy_study.face(full)["trial"]
    assert toy_study.face(few)["trial"]
    assert toy_study.face({**full, "quick": True})["trial"]


def test_a_missing_or_broken_file_names_the_command(tmp_path: Path) -> None:
    path = tmp_path / "toy.json"
    with pytest.raises(ValueError, match=r"cannot be read.*python -m toy"):
        toy_study.load(path)
    path.write_text('{"measures": {')
    with pytest.raises(ValueError, match=r"cannot be read.*python -m toy"):
        toy_study.load(path)
    path.write_text('{"measures": {}, "pairs": {}}')
    with pytest.raises(ValueError, match=r"lacks predictions, configuration, series, sweep, quick.*python -m toy"):
        toy_study.load(path)


@pytest.mark.parametrize(("row", "measure"), [("learnt/none", "loss"), ("learnt/adm", "none")])
def test_a_missing_number_is_named(results: Data, row: str, measure: str) -> None:
    with pytest.raises(ValueError, match=f"no {row}: {measure}.*python -m toy"):
        toy_study.number(results, row, measure)


def test_sweep(data_of: Callable[[str], Data], results: Data) -> None:
    data = data_of("toy_sweep")
    assert data["rho"] == sorted(data["rho"])
    assert len(set(data["rho"])) == len(results["sweep"]) > 3
    rows = {point["rho"]: point["row"] for point in results["sweep"]}
    for measure, shown in data["sam"].items():
        assert [one["mean"] for one in shown] == [
            results["measures"][rows[rho]][measure]["mean"] for rho in data["rho"]
        ]
        assert data["adm"][measure] == results["measures"]["learnt/adm"][measure]


def test_readout_shows_every_model(data_of: Callable[[str], Data], results: Data) -> None:
    data = data_of("toy_readout")
    seeds = results["configuration"]["seeds"]
    rows = [pairs for group in data["noise"].values() for pairs in group]
    assert len(rows) == 9 + len(results["sweep"]) - 1
    assert all(len(pairs["measured"]) == len(pairs["predicted"]) == seeds for pairs in rows)
    assert data["errors"]["rounding"]["4"]["ip"] == results["pairs"]["learnt/ip"]["quantized_readout_rise_4"]


@pytest.fixture
def dithered(data_of: Callable[[str], Data]) -> Data:
    """The figure's data with dither as T5 says it is but for a tenth, so that the two kinds differ."""
    data = data_of("toy_readout")
    exact = {
        bits: {
            base: {"predicted": pairs["predicted"], "measured": [1.1 * value for value in pairs["predicted"]]}
            for base, pairs in methods.items()
        }
        for bits, methods in data["errors"]["rounding"].items()
    }
    return {**data, "errors": {**data["errors"], "dither": exact}}


def test_dither_is_taken_from_the_results(results: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = {row: dict(entry) for row, entry in results["pairs"].items()}
    for row, entry in pairs.items():
        for bits in (8, 4, 3):
            entry[f"dithered_readout_rise_{bits}"] = {"predicted": [float(bits)], "measured": [float(len(row))]}
    monkeypatch.setattr(toy_study, "load", lambda: {**results, "pairs": pairs})
    data = toy_readout.compute()
    assert list(data["errors"]) == ["rounding", "dither"]
    assert data["errors"]["dither"]["3"]["sam"] == {"predicted": [3.0], "measured": [float(len("learnt/sam"))]}


def test_every_kind_of_error_in_the_results_is_shown(data_of: Callable[[str], Data], results: Data) -> None:
    kinds = {name.removesuffix("_4") for name in results["pairs"]["learnt/adm"] if name.endswith("_4")}
    shown = {toy_readout.ERRORS[error] for error in data_of("toy_readout")["errors"]}
    assert shown == kinds & set(toy_readout.ERRORS.values())


def test_rounding_and_dither_stand_on_the_same_axes(dithered: Data) -> None:
    with style.applied():
        figure: Any = toy_readout.draw(dithered)
    _, *panels = figure.axes
    for place in range(3):
        rounded, dither = panels[2 * place : 2 * place + 2]
        assert rounded.get_xlim() == dither.get_xlim()
        assert rounded.get_ylim() == dither.get_ylim()
        above, below = (axes.get_subplotspec().rowspan.start for axes in (rounded, dither))
        assert above + 1 == below
        (x, y), *_ = [line.get_data() for line in dither.lines if line.get_linestyle() == "None"]
        np.testing.assert_allclose(y, 1.1 * np.array(x))
    assert [axes.get_ylabel() for axes in panels[:2]] == ["rounding, measured", "dither, measured"]


@pytest.mark.parametrize("both", [False, True])
def test_no_point_of_the_readout_is_off_its_panel(data_of: Callable[[str], Data], dithered: Data, both: bool) -> None:
    data = dithered if both else data_of("toy_readout")
    with style.applied():
        figure: Any = toy_readout.draw(data)
    shown = 0
    for axes in figure.axes:
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        for line in axes.lines:
            if line.get_linestyle() == "None" and len(line.get_xdata()):
                x, y = line.get_data()
                assert ((x > left) & (x < right)).all()
                assert ((y > low) & (y < high)).all()
                shown += 1
    assert shown == 9 + 5 + 9 * len(data["errors"])


def test_gap_tolerance_is_the_formula(data_of: Callable[[str], Data]) -> None:
    data = data_of("toy_gap_tolerance")
    for radii in data["scales"].values():
        kappa = np.array([point["kappa"] for point in radii["curve"]])
        gap = [point["least_divergence"] for point in radii["curve"]]
        np.testing.assert_allclose(gap, (np.sqrt(kappa) - np.log1p(np.sqrt(kappa))) / 2, rtol=1e-5)  # six digits
        root = data["kappa"] ** 0.5
        assert radii["gap_radius"]["mean"] == pytest.approx((root - np.log1p(root)) / 2, rel=1e-5)
    assert all(len(rises) == len(data["kl"]) for rises in data["rise"].values())
    assert min(data["kl"]) > 0
