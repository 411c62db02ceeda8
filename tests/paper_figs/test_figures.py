"""The paper's figures beside the toy and trained networks: what stands in them, and where nothing is yet."""

import io
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm

from findings import surfaces, toy_study
from findings.checksums import with_checksum
from findings.documents import json_text
from findings.names import NINE, PAPER_METHODS, SUFFIXES, RowName
from findings.trained import RUNS_VARIABLE
from paper_figs import catalogue
from paper_figs.drawing import panels, style
from paper_figs.report import pictures
from tests.paper_figs import study as made
from tests.paper_figs.drawing import Data, computed, cut, drawn, overlaps, words
from tests.paper_figs.study import level

NAMES = [f"figure_{number}" for number in (1, 2, 4, 5, 6, 7, 8)]
CURVES = ("figure_5", "figure_6", "figure_7")
COMMANDS = ("python -m experiments reproduce --config", "make figs RUNS=runs/")


def everything(results: Path) -> None:
    """A study of every data set."""
    made.write(results / "ours")
    made.write(results / "cifar10", "cifar10", radii=(0.1,), seeds=(0, 1, 2), steps=200_000)
    made.write(results / "tower", "lsun-tower", radii=(0.1,), steps=200_000)
    made.write(results / "ffhq", "ffhq", radii=(0.1,), steps=200_000)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_is_declared(name: str) -> None:
    inputs = set(catalogue.declared_inputs(catalogue.figures()[name].source))
    wanted = {"results/*/plan.json", "results/*/rows/*.json"}
    wanted |= {"results/*/samples/*.png"} if name in ("figure_2", "figure_4") else set()
    wanted |= {surfaces.FILE} if name == "figure_1" else set()
    wanted |= set() if name == "figure_8" else {"results/toy.json"}
    assert inputs == wanted


@pytest.mark.parametrize("name", NAMES)
def test_without_any_study_no_panel_is_empty_and_lines_say_how_to_fill_them(name: str, results: Path) -> None:
    data = computed(name)
    empty = [place for place, column in data["columns"].items() if "empty" in column]
    assert empty == (["lsun-tower", "second"] if name == "figure_8" else ["fashion-mnist", "cifar10"])
    figure = drawn(name, data)
    shown = words(figure)
    assert " ".join(data["title"].split()) in shown
    assert len(figure.axes) == 0 if name == "figure_8" else figure.axes
    assert all(axes.lines or axes.images or axes.collections or axes.containers for axes in figure.axes)
    lines = pictures.missing(data)
    assert len(lines) == 2
    for line in lines:
        assert "no run yet" in line
        assert all(command in line for command in COMMANDS)
    assert not overlaps(figure)
    assert not cut(figure)


@pytest.mark.parametrize("name", NAMES)
def test_with_every_study_all_are_shown_in_a_column_s_width(name: str, results: Path) -> None:
    everything(results)
    data = computed(name)
    figure = drawn(name, data)
    on_figure = words(figure)
    assert " ".join(data["title"].split()) in on_figure
    assert pictures.missing(data) == []
    assert figure.get_figwidth() == style.WIDTH
    assert not overlaps(figure)
    assert not cut(figure)
    if name == "figure_8":
        assert "LSUN Tower 64 × 64, 1 seed" in on_figure
        assert "FFHQ 64 × 64" in on_figure
        return
    assert "Fashion-MNIST 16 × 16, 1 seed" in on_figure
    assert "CIFAR-10 32 × 32" in on_figure
    faces = " ".join(pictures.faces(data))
    assert "Fashion-MNIST 16 × 16, 1.4 M parameters, 2,000 steps, 1 run a method" in faces
    assert "[results/ours]" in faces
    shown = name not in CURVES
    assert ("3 seeds a method" in faces) == (not shown)  # a picture is of one of them
    assert ("95% intervals" in faces) == (not shown)
    assert ("1 standard error" in faces) == (not shown)
    assert ("toy ring, 1 seed" if shown else "toy ring, 20 seeds") in on_figure


def test_a_study_in_a_folder_that_is_named_is_shown(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.write(tmp_path / "elsewhere" / "mine", "cifar10", grids=False)
    monkeypatch.setenv(RUNS_VARIABLE, str(tmp_path / "elsewhere"))
    assert "empty" not in computed("figure_5")["columns"]["cifar10"]


def test_a_trial_of_the_toy_is_called_one(results: Path, toy: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy_study, "load", lambda: {**toy, "quick": True})
    for name in NAMES[:-1]:
        assert "(trial)" in words(drawn(name, computed(name)))


def test_figure_5_shows_the_rise_and_its_error(results: Path, toy: Data) -> None:
    made.write(results / "ours", grids=False)
    data = computed("figure_5")["columns"]
    for method in NINE:
        curve = toy["series"][f"learnt/{method}"]["perturbation_curve"]
        shown = data["toy"]["curves"][method]
        start = curve["loss"]["mean"][0]
        assert shown["x"] == curve["distance"]
        for key in ("mean", "low", "high"):
            np.testing.assert_allclose(np.add(shown[key], start), curve["loss"][key])
        at = level(*_parts(method))
        drawn = data["fashion-mnist"]["curves"][method]
        assert drawn["x"] == pytest.approx([0.0, *(rms * made.WEIGHTS**0.5 for rms in made.RMS)])
        assert drawn["loss"] == pytest.approx(at)
        assert drawn["mean"] == pytest.approx([0.0, *(at * rms for rms in made.RMS)])
        for side, sign in (("low", -1), ("high", 1)):
            off = np.array(drawn[side]) - drawn["mean"]
            np.testing.assert_allclose(off, sign * made.ERROR * np.array([0, 1, 1]), atol=1e-12)


def _parts(method: str) -> tuple[str, str, float, int]:
    name = RowName.of(method)
    base, average = name.method, name.average
    return base, average, 0.1, 0


def test_figure_5_has_intervals_over_seeds(results: Path) -> None:
    made.write(results / "c", "cifar10", radii=(0.1,), seeds=(0, 1), grids=False)
    curve = computed("figure_5")["columns"]["cifar10"]["curves"]["adm"]
    half = 12.7062 * 0.005  # t's .975 quantile at 1 degree of freedom; values 1 and 1.01
    assert curve["high"][2] - curve["mean"][2] == pytest.approx(half * made.RMS[1], rel=1e-4)


@pytest.mark.parametrize(("rises", "sentence"), [((1.0, 0.5), "least around SAM"), ((0.5, 1.0), "differs by source")])
def test_figure_5_says_around_whose_weights_the_loss_rises_least(rises: tuple[float, float], sentence: str) -> None:
    figure_5 = import_module("paper_figs.figures.figure_5")
    adm, sam = rises
    curves = {"adm": {"mean": [0, adm]}, "ip": {"missing": "no row yet"}, "sam": {"mean": [0, sam]}}
    assert sentence in figure_5.title({"toy": {"curves": curves}, "cifar10": {"empty": {}}})


def test_figure_5_draws_other_radii_thin(results: Path) -> None:
    made.write(results / "ours", radii=(0.001, 0.01, 0.1), grids=False)
    figure = drawn("figure_5", computed("figure_5"))
    (ours,) = [axes for axes in figure.axes if "Fashion" in axes.get_title(loc="left")]
    lines = {line.get_label(): line for line in ours.lines}
    named = {label for label in lines if not str(label).startswith("_")}
    assert named == {"ADM", "IP", *(f"SAM, $\\rho$ = {rho:g}" for rho in (0.1, 0.01, 0.001))}
    for rho in (0.1, 0.01, 0.001):
        line = lines[f"SAM, $\\rho$ = {rho:g}"]
        last: Any = line.get_ydata()
        assert last[-1] == pytest.approx(level("sam", "raw", rho, 0) * made.RMS[1])
        assert (line.get_linewidth() < 1) == (rho != 0.1)


def test_figure_6_shows_both_norms_and_the_gap_with_its_sign(results: Path, toy: Data) -> None:
    folder = made.write(results / "ours", grids=False)
    estimate = {"value": -0.25, "draw_standard_error": 0.0, "data_standard_error": 0.125}
    row = json.loads((folder / "rows" / "run-0-raw.json").read_bytes())["measures"]["exposure-20"]
    made.change_row(folder, "run-0", "raw", **{"exposure-20": {**row, "mean_signed_gap": estimate}})
    data = computed("figure_6")
    ours = data["columns"]["fashion-mnist"]["curves"]["ip"]
    np.testing.assert_allclose(np.subtract(ours["sampling"]["mean"], ours["training"]["mean"]), level(*_parts("ip")))
    assert ours["training"]["high"][3] - ours["training"]["mean"][3] == pytest.approx(made.ERROR)
    for base in PAPER_METHODS:
        measures = toy["measures"][f"learnt/{base}"]
        shown = data["columns"]["toy"]["curves"][base]
        assert shown["mean_signed_gap"]["mean"] == measures["signed_gap_20"]["mean"]
        assert shown["mean_absolute_gap"]["mean"] == measures["absolute_gap_20"]["mean"]
        assert shown["sampling"]["mean"] == toy["series"][f"learnt/{base}"]["epsilon_norm"]["sampling"]["mean"]
        assert np.mean(shown["gap"]["mean"]) == pytest.approx(shown["mean_signed_gap"]["mean"], abs=1e-5)  # six digits
    assert ours["mean_signed_gap"]["mean"] == pytest.approx(level(*_parts("ip")))
    assert data["columns"]["fashion-mnist"]["curves"]["adm"]["mean_signed_gap"]["mean"] == -0.25
    (axes,) = [axes for axes in drawn("figure_6", data).axes if "Fashion" in axes.get_title(loc="left")]
    (line,) = [line for line in axes.lines if line.get_label() == "IP"]
    shown_gap: Any = line.get_ydata()
    np.testing.assert_allclose(shown_gap, ours["gap"]["mean"])


@pytest.mark.parametrize(
    ("sam", "sentence"), [(0.5, "less than"), (1.05, "as much, within errors, as"), (2.0, "more than")]
)
def test_figure_6_says_whether_sam_s_noise_strays_less(sam: float, sentence: str) -> None:
    figure_6 = import_module("paper_figs.figures.figure_6")
    gaps = {
        base: {"mean_absolute_gap": {"low": at - 0.1, "high": at + 0.1}} for base, at in (("adm", 1.0), ("sam", sam))
    }
    assert f"strays {sentence} plain" in figure_6.title({"toy": {"curves": gaps}})


def test_figure_7_shows_nine_methods_and_every_radius(results: Path) -> None:
    made.write(results / "ours", radii=(0.1, 0.01), grids=False)
    data = computed("figure_7")
    rows = data["columns"]["fashion-mnist"]["rows"]
    others = {f"sam rho=0.01{suffix}" for suffix in SUFFIXES}
    assert set(rows) == {*NINE, *others}
    assert set(data["columns"]["toy"]["rows"]) == set(NINE)
    for row, cells in rows.items():
        name = RowName.of(row)
        at = level(name.method, name.average, name.rho or 0.1, 0)
        assert cells["rise"]["mean"] == pytest.approx(at * made.RMS[1])
        assert cells["gap"]["mean"] == pytest.approx(2 * at)
    figure = drawn("figure_7", data)
    place = next(n for n, axes in enumerate(figure.axes) if "Fashion" in axes.get_title(loc="left"))
    for axes, key in zip(figure.axes[place : place + 2], ("rise", "gap"), strict=True):
        marks: list[Any] = [line.get_xdata() for line in axes.lines if line.get_marker() in ("o", "s", "^", "v")]
        assert sorted(float(x) for xs in marks for x in xs) == pytest.approx(
            sorted(cells[key]["mean"] for cells in rows.values())
        )
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["ADM", "IP", "SAM", "SAM, ρ = 0.01"]


def test_no_two_of_the_nine_look_alike() -> None:
    looks = [panels.look_of(base, average) for base in PAPER_METHODS for average in SUFFIXES]
    assert len({(look["marker"], str(look["linestyle"])) for look in looks}) == 9  # in grey too


def test_figure_8_shows_the_study_that_the_others_do_not(results: Path) -> None:
    made.write(results / "short", steps=20, grids=False)
    made.write(results / "long", steps=300, grids=False)
    columns = computed("figure_8")["columns"]
    assert "empty" in columns["lsun-tower"]
    assert columns["second"]["source"] == "results/short"
    assert computed("figure_7")["columns"]["fashion-mnist"]["source"] == "results/long"


def of_figure_1() -> Any:
    return import_module("paper_figs.figures.figure_1")


def test_figure_1_shows_the_losses_where_they_were_measured(results: Path, toy: Data) -> None:
    made.write(results / "ours", grids=False)
    data = computed("figure_1")
    surface = data["columns"]["fashion-mnist"]["surfaces"][1]
    assert (surface["method"], surface["rho"]) == ("sam", 0.1)
    at = level("sam", "raw", 0.1, 0)
    along_second = [at + abs(-3 + 2 * b) for b in made.LINE]
    assert surface["loss"][0] == pytest.approx(along_second)  # at -.5 along the first direction
    (plain,) = (one for one in data["columns"]["toy"]["surfaces"] if one["method"] == "adm")
    np.testing.assert_allclose(plain["loss"], toy["series"]["learnt/adm"]["loss_surface"]["loss"], rtol=1e-5)
    figure = drawn("figure_1", data)
    assert "9 × 9 points" in words(figure)
    shown = {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}
    ours = shown["SAM, $\\rho$ = 0.1"]  # the last such is ours
    loss = np.array(surface["loss"])
    drawn_rises: Any = ours.collections[0]
    assert drawn_rises.zmax == pytest.approx((loss.max() - loss[4, 4]) / loss[4, 4])
    assert drawn_rises.norm is shown[of_figure_1().PLAIN].collections[0].norm  # one scale for all panels
    assert shown[of_figure_1().PLAIN].get_xlim() == ours.get_xlim() == (-0.5, 0.5)


@pytest.mark.parametrize("side", [0, 1])
def test_figure_1_is_steep_along_the_direction_that_is(side: int) -> None:
    """A surface that rises along one direction only has its contours across that direction's axis."""
    figure_1 = of_figure_1()
    line = [-1.0, 0.0, 1.0]
    loss = [[1.0 + abs((a, b)[side]) for b in line] for a in line]
    norm = BoundaryNorm(figure_1.LEVELS, 256, extend="both")
    with style.applied():
        axes = style.figure(2.0).subplots()
        lines = figure_1._surface(axes, {"first": line, "second": line, "loss": loss}, norm)
    (half,) = (path for level, path in zip(lines.levels, lines.get_paths(), strict=True) if level == 0.5)
    assert np.abs(half.vertices[:, side]) == pytest.approx(0.5)
    assert set(np.abs(half.vertices[:, 1 - side])) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("sam", "words"), [(0.5, "50% less"), (0.97, "as much"), (1.0, "as much"), (1.2, "20% more"), (-0.1, "110% less")]
)
def test_figure_1_says_how_much_less_the_loss_rises_on_the_square_that_is_shown(sam: float, words: str) -> None:
    inner, outer = [-1.0, 0.0, 1.0], [-2.0, -1.0, 0.0, 1.0, 2.0]

    def surface(method: str, rho: float | None, rise: float) -> Data:
        """Of loss 2 in the middle; beyond the square, of which nothing is to be said, it is much larger."""
        rises = [[9e9 if max(abs(a), abs(b)) > 1 else rise * (a * a + b * b) for b in outer] for a in outer]
        return {"method": method, "rho": rho, "first": outer, "second": outer, "loss": 2 + 2 * np.array(rises)}

    def column(where: str, *more: Data) -> Data:
        return {"where": where, "surfaces": [surface("adm", None, 1.0), surface("sam", 0.03, sam), *more]}

    small = {"method": "ip", "rho": None, "first": inner, "second": inner, "loss": [[1.0] * 3] * 3}  # the least reach
    columns = {
        "a": column("here"),
        "b": column("there", surface("sam", 0.1, 0.1)),
        "c": {"where": "", "surfaces": [small]},
    }
    near, far = (f"{by} {of_figure_1().AT}{rho}" for by, rho in ((words, 0.03), ("90% less", 0.1)))
    assert of_figure_1().title(columns).endswith(f" on a random plane {near} here; {near} and {far} there")


def test_figure_1_says_nothing_of_networks_that_cannot_be_compared() -> None:
    one = {"method": "sam", "rho": 0.1, "first": [0.0], "second": [0.0], "loss": [[1.0]]}
    plain = {"method": "adm", "rho": None, "missing": "failed"}
    assert "No surfaces" in of_figure_1().title({"x": {"where": "here", "surfaces": [plain, one]}})


def measured_surfaces(results: Path, **changes: Any) -> Path:
    """The file of networks that are measured for Figure 1: plain training and two radii of SAM's."""

    def source(method: str, rho: float, rise: float) -> Data:
        losses = [[{"value": 1 + rise * (a * a + b * b)} for b in made.LINE] for a in made.LINE]
        configuration = {
            "dataset": "fashion-mnist", "method": method, "seed": 2, "steps": 20_000, "sam": {"rho": rho},
            "network": {"image_size": 8},
        }  # fmt: skip
        surface = {"first": made.LINE, "second": made.LINE, "losses": losses}
        return {"about": {"configuration": configuration, "average": "raw"}, "measures": {"surface": surface}}

    sources = {"a": source("adm", 0.05, 2.0), "b": source("sam", 0.01, 1.5), "c": source("sam", 0.03, 1.0)}
    document = {"version": surfaces.VERSION, "data": {"used": 256}, "settings": {}, "sources": sources | changes}
    path = results.parent / surfaces.FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(json_text(with_checksum(document)))
    return path


def test_figure_1_shows_the_networks_that_were_measured_for_it(results: Path) -> None:
    measured_surfaces(results)
    folder = made.write(results / "ours", grids=False)  # a study, of too few points
    few = {"first": [-0.5, 0.0, 0.5], "second": [-0.5, 0.0, 0.5], "losses": [[{"value": 1.0}] * 3] * 3}
    for path in sorted((folder / "rows").glob("*.json")):
        run, average = path.stem.rsplit("-", 1)
        made.change_row(folder, run, average, surface=few)
    data = computed("figure_1")
    column = data["columns"]["fashion-mnist"]
    assert column["source"] == surfaces.FILE
    assert column["short"] == "Fashion-MNIST 8 × 8, seed 2"
    assert [(one["method"], one["rho"]) for one in column["surfaces"]] == [("adm", None), ("sam", 0.01), ("sam", 0.03)]
    at = of_figure_1().AT
    sized = "Fashion-MNIST 8 × 8".replace(" × ", "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}")
    assert data["title"].endswith(f"25% less {at}0.01 and 50% less {at}0.03 on {sized} (seed 2)")
    figure = drawn("figure_1", data)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert len(titles) == 5
    assert "SAM, $\\rho$ = 0.03" in titles
    assert not overlaps(figure)
    assert not cut(figure)
    (results.parent / surfaces.FILE).unlink()
    (line,) = [line for line in pictures.missing(computed("figure_1")) if "Fashion" in line]
    assert "3 points a side are too few" in line
    assert "--surface-points 17" in line


def test_a_study_with_points_enough_comes_before_the_networks_of_figure_1(results: Path) -> None:
    measured_surfaces(results)
    made.write(results / "ours", grids=False)
    assert computed("figure_1")["columns"]["fashion-mnist"]["source"] == "results/ours"


def test_a_network_of_figure_1_whose_surface_failed_says_so(results: Path) -> None:
    about = {"configuration": {"dataset": "fashion-mnist", "method": "sam", "seed": 2, "steps": 20_000,
                               "sam": {"rho": 0.3}, "network": {"image_size": 8}}, "average": "ema"}  # fmt: skip
    measured_surfaces(results, d={"about": about, "measures": {"surface": {"failed": "loss is not finite"}}})
    data = computed("figure_1")
    assert data["columns"]["fashion-mnist"]["surfaces"][3] == {
        "method": "sam+ema", "rho": 0.3, "missing": "loss is not finite",
    }  # fmt: skip
    assert "loss is not finite" in words(drawn("figure_1", data))


def test_what_failed_or_is_not_there_yet_is_said(results: Path) -> None:
    folder = made.write(results / "ours", radii=(0.1,), grids=False)
    failed = {"failed": "loss is not finite"}
    made.change_row(folder, "run-2", "raw", **{"curve-random": failed, "exposure-20": failed, "surface": failed})
    (folder / "rows" / "run-1-raw.json").unlink()
    for name in ("figure_1", "figure_5", "figure_6", "figure_7"):
        figure = drawn(name, computed(name))
        assert "failed (run-2): loss is not finite" in words(figure), name
        assert name == "figure_1" or "no row yet" in words(figure), name
        assert not cut(figure)
    for name in ("figure_2", "figure_4"):
        assert words(drawn(name, computed(name))).count("no grid") == 6


@pytest.mark.parametrize("name", NAMES)
def test_same_bytes_with_a_study(name: str, results: Path) -> None:
    made.write(results / "ours")
    data = computed(name)
    written = []
    for _ in range(2):
        stream = io.BytesIO()
        with style.applied():
            import_module(f"paper_figs.figures.{name}").draw(data).savefig(stream, format="png")
        written.append(stream.getvalue())
    assert written[0] == written[1]


def test_overlaps_are_found() -> None:
    with style.applied():
        figure = style.figure(1.0)
        figure.text(0.1, 0.5, "one text")
        figure.text(0.15, 0.5, "another")
        FigureCanvasAgg(figure).draw()
        assert overlaps(figure) == [("one text", "another")]
