"""The five tables: the paper's numbers as printed, the toy's and trained networks' as their files have them."""

import csv
import io
import json
import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import t

from findings import toy_study, trained
from findings.names import FID_FEATURES, NINE, PAPER_METHODS, SUFFIXES
from paper_figs import build, catalogue
from paper_figs.columns import columns as table_sources
from paper_figs.columns import studies
from paper_figs.columns.tabular import comma_separated, latex, markdown
from paper_figs.drawing import style
from paper_figs.report import pictures
from tests.paper_figs import study as made
from tests.paper_figs.table_checks import latex_flaws, markdown_flaws
from tests.paper_figs.test_figures import cut, overlaps

NAMES = [f"table_{number}" for number in range(1, 6)]
OURS = "ours, Fashion-MNIST"
Data = dict[str, Any]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results of an empty checkout."""
    monkeypatch.setattr(trained, "ROOT", tmp_path / "checkout")
    return tmp_path / "checkout" / "results"


def computed(name: str) -> Data:
    """A table's data as `draw` gets them."""
    return dict(json.loads(build.as_json(import_module(f"paper_figs.figures.{name}").compute())))


def drawn(name: str, data: Data, *, laid_out: bool = True) -> Figure:
    """The figure; where its words alone are looked at, it need not be laid out."""
    with style.applied():
        figure: Figure = import_module(f"paper_figs.figures.{name}").draw(data)
        if laid_out:
            FigureCanvasAgg(figure).draw()
        return figure


def words(figure: Figure) -> str:
    """All that a figure says, its lines joined."""
    pieces = [piece.get_text() for piece in figure.findobj(Text) if isinstance(piece, Text)]
    return " | ".join(" ".join(text.split()) for text in pieces if text.strip())


def write(
    folder: Path, dataset: str = "fashion-mnist", width: int = 8, name: str = "small-net", **options: Any
) -> Path:
    """A study whose rows say what features distances are in, and what real images reach."""
    made.write(folder, dataset, grids=False, **options)
    for path in (folder / "rows").glob("*.json"):
        row = json.loads(path.read_bytes())
        row["settings"]["features"] = {"name": name, "width": width}
        row["measures"]["frechet-floor-64"] = {"value": 3.0, "standard_error": 0.25, "samples": 64}
        path.write_text(json.dumps(row))
    return folder


def everything(results: Path) -> None:
    """A study of each data set; CIFAR-10's of three seeds."""
    write(results / "ours")
    write(results / "cifar10", "cifar10", 2048, FID_FEATURES, radii=(0.1,), seeds=(0, 1, 2), steps=200_000)
    write(results / "tower", "lsun-tower", 2048, FID_FEATURES, radii=(0.1,), steps=200_000)
    write(results / "ffhq", "ffhq", 2048, FID_FEATURES, radii=(0.1,), steps=200_000)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_declared(name: str) -> None:
    declared = catalogue.declared_inputs(catalogue.figures()[name].source)
    wanted = {"results/toy.json", "findings/paper_numbers.json", "results/*/plan.json", "results/*/rows/*.json"}
    assert set(declared) == wanted


def test_a_misprinted_change_is_corrected_and_said(results: Path) -> None:
    for name in ("table_1", "table_4"):
        data = computed(name)
        columns = data["columns"]
        for key, column in columns.items():
            if key.endswith("change-8") and column["printed"]:
                printed = columns[key.replace("change-8", "printed")]["cells"]
                same = {method for method, cell in column["cells"].items() if cell == printed[method]}
                assert set(printed) - same == ({"adm"} if "/20/" in key else set())
        assert columns["paper/20/change-8"]["cells"]["adm"] == {"value": 13.55}
        assert columns["paper/20/printed"]["cells"]["adm"] == {"value": 13.65}
        (note,) = [note for note in data["notes"] if "is printed" in note]
        assert note == "paper, CIFAR-10, T' = 20: +13.65 is printed for ADM, but 48.02 - 34.47 = +13.55"


TOY_COLUMNS = {
    "table_1": {"toy/full": "sw_20", "toy/8": "sw_at_8", "toy/change-8": "sw_rise_8", "toy/lpf": "lpf"}
    | {"toy/rise": "lpf_rise", "toy/mean_absolute_gap": "absolute_gap_20", "toy/mean_signed_gap": "signed_gap_20"},
    "table_2": {"toy/20": "sw_20", "toy/100": "sw_100"},
    "table_3": {f"toy/{name}": name for name in ("loss", "lpf", "lpf_rise", "relative_rise")},
    "table_4": {"toy/change-4": "sw_rise_4", **{f"toy/rise-{bits}": f"quantized_rise_{bits}" for bits in (8, 4, 3)}},
    "table_5": {f"toy/{name}": name for name in ("loss", "lpf", "lpf_rise", "relative_rise")},
}


@pytest.mark.parametrize("name", NAMES)
def test_the_toy_s_columns_are_its_result_file_s(name: str, results: Path) -> None:
    data, measures = computed(name), toy_study.load()["measures"]
    for key, measure in TOY_COLUMNS[name].items():
        cells = data["columns"][key]["cells"]
        assert set(cells) == set(("adm", "sam") if name == "table_1" else NINE)
        for method, cell in cells.items():
            entry = measures[f"learnt/{method}"][measure]
            assert cell == {"value": entry["mean"], "low": entry["low"], "high": entry["high"]}


def _level(row: str, seed: int = 0) -> float:
    method, radius = table_sources.parted(row)
    base, _, average = method.partition("+")
    return made.level(base, average or "raw", 0.1 if radius is None else radius, seed)


EXPECTED = {
    "table_1": {"fashion-mnist/rise": 0.5, "fashion-mnist/lpf": 1.5, "fashion-mnist/mean_absolute_gap": 2.0},
    "table_3": {"fashion-mnist/loss": 1.0, "fashion-mnist/rise-layer": 0.5, "fashion-mnist/rise-filter": 0.5},
    "table_4": {"fashion-mnist/rise-8": 1 / 8, "fashion-mnist/rise-4": 1 / 4},
    "table_5": {"fashion-mnist/lpf": 1.5, "fashion-mnist/rise-absolute": 0.5},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_study_s_numbers_stand_in_their_rows_with_their_errors(name: str, results: Path) -> None:
    write(results / "ours", radii=(0.01, 0.1))
    data = computed(name)
    bases, averages = (("adm", "sam"), ("",)) if name == "table_1" else (PAPER_METHODS, SUFFIXES)
    rows = {f"{base}{average}" for base in (*bases, "sam rho=0.01") for average in averages}
    for key, factor in EXPECTED[name].items():
        column = data["columns"][key]
        assert column["group"] == OURS
        assert set(column["cells"]) == rows
        for row, cell in column["cells"].items():
            assert cell["value"] == pytest.approx(factor * _level(row))
            assert cell["high"] - cell["value"] == pytest.approx(made.ERROR)
            assert cell["value"] - cell["low"] == pytest.approx(made.ERROR)
    assert "± one standard error" in data["groups"][OURS]
    assert "rho = 0.1 where" in data["groups"][OURS]


def test_several_seeds_have_student_s_interval(results: Path) -> None:
    seeds = (0, 1, 2)
    write(results / "cifar10", "cifar10", radii=(0.1,), seeds=seeds)
    data = computed("table_3")
    for row, cell in data["columns"]["cifar10/rise-absolute"]["cells"].items():
        values = [0.5 * _level(row, seed) for seed in seeds]
        half = t.ppf(0.975, 2) * np.std(values, ddof=1) / math.sqrt(3)
        assert cell["value"] == pytest.approx(np.mean(values))
        assert cell["high"] - cell["low"] == pytest.approx(2 * half)
    assert "95% interval over 3 training seeds" in data["groups"]["ours, CIFAR-10"]


def _with_groups(study: Path, measure: str, values: Sequence[float], sizes: Sequence[int]) -> None:
    entry = {"value": float(np.mean(values)), "standard_error": 9.0, "pseudo_values": list(values), "samples": 64}
    made.change_row(study, "run-0", "raw", **{measure: {**entry, "group_sizes": list(sizes)}})


def test_a_change_is_compared_group_by_group(results: Path) -> None:
    """The error of a difference of means over equal groups is that of the groups' differences, not of each apart."""
    study = write(results / "ours")
    generator = np.random.default_rng(7)
    full = 10 * generator.normal(size=16)
    rounded = full + 1.0 + 0.1 * generator.normal(size=16)
    _with_groups(study, "frechet-20-32", full.tolist(), [4] * 16)
    for bits in (8, 4):
        _with_groups(study, f"frechet-20-{bits}", rounded.tolist(), [4] * 16)
    cell = computed("table_4")["columns"]["fashion-mnist/20/change-8"]["cells"]["adm"]
    assert cell["value"] == pytest.approx(np.mean(rounded - full))
    error = np.std(rounded - full, ddof=1) / math.sqrt(16)
    assert cell["high"] - cell["value"] == pytest.approx(error, rel=1e-9)
    assert error < 0.05


def test_a_change_of_other_groups_is_refused(results: Path) -> None:
    study = write(results / "ours")
    _with_groups(study, "frechet-20-8", [1.0, 2.0], [30, 34])
    with pytest.raises(
        ValueError, match=r"run-0-raw\.json: frechet-20-8 less frechet-20-32: groups have .30, 34. images"
    ):
        computed("table_4")


def test_what_failed_is_said_and_what_was_not_measured_is_left_out(results: Path) -> None:
    study = write(results / "ours")
    made.change_row(study, "run-0", "raw", **{"lpf-layer": {"failed": "the loss is not finite"}, "lpf-filter": None})
    data = computed("table_3")
    assert data["columns"]["fashion-mnist/rise-layer"]["cells"]["adm"]["value"] is None
    assert "adm" not in data["columns"]["fashion-mnist/rise-filter"]["cells"]
    (note,) = [note for note in data["notes"] if "not finite" in note]
    assert note.startswith(f"{OURS}, LPF rise, noise in proportion to each layer, ADM: failed (run-0): the loss")
    written = import_module("paper_figs.figures.table_3").table(data)
    assert markdown(written).count("the loss is not finite") == 1
    assert r"ADM & $1.0000 \pm 0.0050$ & $1.5000 \pm 0.0050$ & $0.5000 \pm 0.0050$ & -- & -- \\" in latex(written, "x")
    assert not overlaps(drawn("table_3", data))


def test_distances_in_a_classifier_s_features_are_never_called_fid(results: Path) -> None:
    write(results / "ours", width=8)
    write(results / "ffhq", "ffhq", 64, FID_FEATURES, radii=(0.1,))
    headings: dict[str, list[str]] = {}
    for name in ("table_1", "table_2", "table_4"):
        data = computed(name)
        for column in data["columns"].values():
            headings.setdefault(column["group"], []).append(column["heading"])
        (note,) = [note for note in data["notes"] if note.startswith(f"{OURS}: Fréchet distance in")]
        assert "in the 8 features of small-net, which is not the FID, of 64 samples at T' = 20" in note
        assert "biased" not in note  # eight samples a feature
        assert "FID" not in words(drawn(name, data, laid_out=False)).partition(OURS)[2].replace("FID, no spread", "")
    assert not any("FID" in heading for heading in headings[OURS])
    assert "FID, T' = 20" in headings["ours, FFHQ"]
    data = computed("table_2")
    assert any(note.startswith("ours, FFHQ: FID, of 64 samples") and "biased upwards" in note for note in data["notes"])
    assert "fashion-mnist/20/extrapolated" in data["columns"]
    assert "ffhq/20/extrapolated" not in data["columns"]  # one sample a feature


def test_what_real_data_reach_is_drawn_and_said(results: Path) -> None:
    write(results / "ours")
    data = computed("table_2")
    assert data["floors"]["fashion-mnist/20"] == {"value": 3.0, "low": 2.75, "high": 3.25}
    assert f"{OURS}: 64 real images that are not in the reference reach 3.00 ± 0.25" in data["notes"]
    floor = toy_study.load()["distance_floor"]
    assert data["floors"]["toy/100"]["value"] == floor["mean"]


@pytest.mark.parametrize("name", NAMES)
def test_without_any_study_no_panel_is_empty_and_lines_say_how_to_fill_them(name: str, results: Path) -> None:
    data = computed(name)
    wanted = {"table_2": trained.PAPERS, "table_5": ("lsun-tower",)}.get(name, ("cifar10",))
    assert set(data["absent"]) == {*wanted, "fashion-mnist"}
    figure = drawn(name, data)
    shown, noted, lines = words(figure), " ".join(data["notes"]), pictures.missing(data)
    assert "no run yet" not in shown
    assert len(lines) == len(data["absent"])
    for dataset in data["absent"]:
        preset = "fashion-mnist-tiny" if dataset == "fashion-mnist" else dataset
        assert any(f"python -m experiments reproduce --config {preset} --out runs/{preset}" in line for line in lines)
        assert f"`make figs RUNS=runs/{preset}`" in noted
    assert " ".join(data["title"].split()) in shown
    assert "toy ring, 20 seeds" in shown
    faces = " ".join(pictures.faces(data))
    assert "toy, ring of eight Gaussians in the plane, 20 seeds; 99% intervals" in faces
    assert "seeds not given" in faces
    assert not overlaps(figure)
    assert not cut(figure)


@pytest.mark.parametrize("name", NAMES)
def test_with_every_study_no_panel_is_empty(name: str, results: Path) -> None:
    everything(results)
    data = computed(name)
    assert data["absent"] == {}
    figure = drawn(name, data)
    shown, faces = words(figure), " ".join(pictures.faces(data))
    assert "not measured" not in shown
    assert "ours, Fashion-MNIST 16 × 16, 1 seed" in shown
    assert "ours, Fashion-MNIST 16 × 16, 1.4 M parameters, 2,000 steps, 1 run a method; bars: 1 standard error" in faces
    assert "[results/ours]" in faces
    assert "SAM, ρ = 0.01" in shown
    assert ("ours, CIFAR-10 32 × 32, 3 seeds" in shown) == (name != "table_5")
    assert figure.get_figwidth() == style.WIDE
    assert not overlaps(figure)
    assert not cut(figure)


def test_how_often_rows_are_lower_is_counted_over_columns_that_have_both() -> None:
    def cells(**values: float | None) -> Data:
        return {"cells": {row: {"value": value} for row, value in values.items()}}

    columns = {
        "a": cells(adm=2.0, sam=1.0),
        "b": cells(adm=1.0, sam=1.5),
        "c": cells(adm=1.0),
        "d": cells(adm=1.0, sam=None),
    }
    assert table_sources.lower({"columns": columns}, ["sam"], ["adm"], ["a", "b", "c", "d", "e"]) == (1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_every_format_holds_every_number(name: str, results: Path) -> None:
    everything(results)
    module, data = import_module(f"paper_figs.figures.{name}"), computed(name)
    table = module.table(data)
    assert table.title.startswith(f"Table {name[-1]}: ")
    assert markdown_flaws(markdown(table)) == []
    assert latex_flaws(latex(table, name)) == []
    lines = list(csv.DictReader(io.StringIO(comma_separated(table), newline="")))
    assert [line["method"] for line in lines] == data["rows"]
    count = 0
    for column in data["columns"].values():
        heading = f"{column['group']}: {column['heading']}"
        for line in lines:
            cell = column["cells"].get(line["method"])
            if cell is None:
                assert line[heading] == ""
                continue
            half = (cell.get("high", 0.0) - cell.get("low", 0.0)) / 2  # without one, four digits or those printed
            slack = 0.051 * half if half > 0 else 5e-4 * abs(cell["value"]) + 1e-9
            assert float(line[heading]) == pytest.approx(cell["value"], abs=slack)
            if "low" in cell:
                assert float(line[f"{heading} low"]) <= float(line[heading]) <= float(line[f"{heading} high"])
            count += 1
    assert count >= 60 if name == "table_1" else count > 100
    for format_ in (markdown(table), latex(table, name)):
        assert "no spread" in format_
        assert "99" in format_  # the toy's intervals
    again = module.table(computed(name))
    assert [comma_separated(again), markdown(again)] == [comma_separated(table), markdown(table)]


def test_rows_and_labels() -> None:
    for method in NINE:
        assert table_sources.parted(table_sources.labelled(method, None)) == (method, None)
        assert table_sources.parted(table_sources.labelled(method, 0.01)) == (method, 0.01)
    rows = {"sam rho=0.001", "sam+swa", "sam rho=0.01+ema", "adm", "sam rho=0.01", "ip+ema", "sam"}
    expected = ["adm", "ip+ema", "sam", "sam+swa", "sam rho=0.01", "sam rho=0.01+ema", "sam rho=0.001"]
    assert table_sources.ordered(rows) == expected


def test_points_stand_on_their_lines_and_other_radii_beside_them(results: Path) -> None:
    write(results / "ours", radii=(0.001, 0.01, 0.1))
    data = computed("table_3")
    figure: Any = drawn("table_3", data, laid_out=False)
    (axes,) = [axes for axes in figure.axes if axes.get_xlabel() == "LPF rise" and axes.get_xlim()[1] > 1]
    marks = [line for line in axes.lines if line.get_marker() in "os^v<" and line.get_linestyle() == "None"]
    shown = {round(float(x), 6): float(y) for mark in marks for x, y in zip(*mark.get_data(), strict=True)}
    cells = data["columns"]["fashion-mnist/rise-absolute"]["cells"]
    assert len(shown) == len(cells) == 15
    assert {mark.get_marker() for mark in marks} == set("os^v<")  # three bases, and two further radii of SAM's
    for row, cell in cells.items():
        method, _ = table_sources.parted(row)
        away = abs(shown[round(cell["value"], 6)] - NINE.index(method))
        assert away < 0.5
        assert away == 0 or method.startswith("sam")


def test_a_study_without_distances_says_so(results: Path) -> None:
    study = made.write(results / "ours", grids=False)
    for path in (study / "rows").glob("*.json"):
        row = json.loads(path.read_bytes())
        row["measures"] = {name: entry for name, entry in row["measures"].items() if not name.startswith("frechet")}
        path.write_text(json.dumps(row))
    for name in ("table_1", "table_2", "table_4"):
        data = computed(name)
        assert f"{OURS}: no distances were measured" in data["notes"]
        figure = drawn(name, data, laid_out=name == "table_1")
        assert "not measured" in words(figure)
        assert name != "table_1" or not overlaps(figure)
        assert not any(column["group"] == OURS and "FID" in column["heading"] for column in data["columns"].values())
        import_module(f"paper_figs.figures.{name}").table(data)


def test_measured_widths_are_those_of_the_plan_that_a_row_has(results: Path) -> None:
    study = trained.Study(write(results / "ours"), "ours", json.loads((results / "ours" / "plan.json").read_bytes()))
    assert studies.loss_bits(study) == [8, 4]
    assert studies.sampled(study) == {20: [8, 4], 100: [8, 4]}
    assert studies.samples_of(study, 20) == 64
    assert studies.samples_of(study, 7) is None
