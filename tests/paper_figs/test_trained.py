"""Studies of trained networks: found, read by configuration, and their numbers with the right errors."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from findings import trained
from findings.names import NINE, Average
from paper_figs import catalogue
from tests.paper_figs import study as made
from tests.paper_figs.study import level


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkout."""
    monkeypatch.setattr(trained, "ROOT", tmp_path / "checkout")
    return tmp_path / "checkout"


def _one(root: Path, **options: Any) -> trained.Study:
    made.write(root / "results" / "ours", **options)
    (study,) = trained.studies()
    return study


def test_nothing_is_found_where_nothing_is(root: Path) -> None:
    assert trained.studies() == []
    assert trained.small() is None
    assert trained.of_dataset("cifar10") is None


def test_the_folder_named_comes_first_and_nothing_comes_twice(root: Path, tmp_path: Path) -> None:
    made.write(root / "results" / "ours", grids=False)
    for name in ("b", "a"):
        made.write(tmp_path / "runs" / name, steps=10, grids=False)
    trained.use(tmp_path / "runs")
    assert [study.name for study in trained.studies()] == ["a", "b", "ours"]
    assert trained.of_dataset("fashion-mnist").name == "a"  # type: ignore[union-attr]
    trained.use(tmp_path / "runs" / "b")
    assert [study.name for study in trained.studies()] == ["b", "ours"]
    trained.use(root / "results")
    assert [study.name for study in trained.studies()] == ["ours"]


def test_of_several_the_longest_at_the_largest_images_is_shown(root: Path) -> None:
    for name, steps in (("a", 20), ("b", 300), ("c", 200)):
        made.write(root / "results" / name, steps=steps, grids=False)
    made.write(root / "results" / "d", "cifar10", steps=9, grids=False)
    assert trained.small().name == "b"  # type: ignore[union-attr]
    assert trained.of_dataset("cifar10").name == "d"  # type: ignore[union-attr]


@pytest.mark.parametrize("content", [None, "empty"])
def test_a_folder_without_a_study_is_refused(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "runs"
    if content:
        folder.mkdir()
    with pytest.raises(ValueError, match=r"runs is .*runs; allowed: a folder with plan.json"):
        trained.use(folder)
    assert trained.RUNS_VARIABLE not in os.environ


def test_a_variable_that_names_no_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(trained.RUNS_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"FLATNESS_RUNS is .*gone; allowed: a folder"):
        trained.studies()


def test_what_a_run_is_of_is_read_from_its_configuration(root: Path) -> None:
    study = _one(root, radii=(0.01, 0.1), seeds=(0, 3), grids=False)
    assert study.seeds == [0, 3]
    assert study.radii == [0.01, 0.1]
    assert all(study.rows_of(name) for name in NINE)
    wanted: list[tuple[str, Average, float | None, int]] = [
        ("adm", "raw", None, 3),
        ("sam", "swa", 0.01, 0),
        ("sam", "ema", None, 3),
    ]
    for method, average, rho, seed in wanted:
        row = study.row(method, average, rho, seed)
        assert row is not None
        assert row.measure("loss", "mse", "value") == level(method, average, rho or 0.1, seed)
    assert study.row("sam", "raw", 0.5) is None
    assert study.row("adm", seed=1) is None


@pytest.mark.parametrize(("radii", "shown"), [((0.001, 0.1, 0.3), 0.1), ((0.01, 0.03), 0.03)])
def test_the_paper_s_radius_is_shown_else_the_largest(root: Path, radii: tuple[float, ...], shown: float) -> None:
    study = _one(root, radii=radii, grids=False)
    assert study.main_rho == shown
    assert study.value("sam", "loss", "mse")["mean"] == pytest.approx(level("sam", "raw", shown, 0))


def test_one_run_has_its_own_standard_error(root: Path) -> None:
    study = _one(root, grids=False)
    at = level("ip", "ema", 0, 0)
    value = study.value("ip+ema", "lpf-absolute", "rise")
    assert value["mean"] == pytest.approx(0.5 * at)
    assert value["standard_error"] == pytest.approx(math.sqrt(made.DRAW**2 + made.DATA**2))
    assert (value["low"], value["high"]) == pytest.approx((0.5 * at - made.ERROR, 0.5 * at + made.ERROR))
    assert value["seeds"] == 1
    assert "standard error" in value["interval"]
    exact = study.value("ip", "readout", "weights", "norm")
    assert (exact["low"], exact["high"], exact["standard_error"], exact["interval"]) == (60.0, 60.0, None, "none")


def test_seeds_have_student_s_interval(root: Path) -> None:
    study = _one(root, seeds=(0, 1, 2), grids=False)
    value = study.value("adm", "loss", "mse")
    assert value["mean"] == pytest.approx(1.01)
    half = 4.302653 * 0.01 / math.sqrt(3)  # t's .975 quantile at 2 degrees of freedom; values 1, 1.01, 1.02
    assert (value["low"], value["high"]) == pytest.approx((1.01 - half, 1.01 + half), rel=1e-6)
    assert value["seeds"] == 3
    assert value["interval"] == "95% interval over seeds"
    curve = study.series("adm", "curve-random", "losses")
    assert curve["mean"] == pytest.approx([1.01 * (1 + rms) for rms in made.RMS])
    assert curve["high"][1] - curve["mean"][1] == pytest.approx((1 + made.RMS[1]) * half, rel=1e-6)
    assert curve["seeds"] == 3


def test_a_distance_without_bias_has_the_distance_s_error(root: Path) -> None:
    study = _one(root, grids=False)
    biased, extrapolated = (study.value("adm", "frechet-20-8", *keys) for keys in ((), ("extrapolated",)))
    assert biased["mean"] - extrapolated["mean"] == pytest.approx(1.0)
    assert biased["standard_error"] == extrapolated["standard_error"] == 1.0


def test_what_is_missing_says_why(root: Path) -> None:
    study = _one(root, radii=(0.1,), seeds=(0, 1), grids=False)
    made.change_row(study.folder, "run-4", "raw", surface={"failed": "not finite"})
    made.change_row(study.folder, "run-0", "raw", readout=None)
    (study.folder / "rows" / "run-2-swa.json").unlink()
    (study.folder / "rows" / "run-5-ema.json").unlink()
    (study.folder / "rows" / "run-2-ema.json").unlink()
    assert study.value("ip", "surface", "norms", 0) == {"missing": "failed (run-4): not finite"}
    assert study.series("ip", "surface", "norms") == {"missing": "failed (run-4): not finite"}
    assert study.value("adm", "readout", "feature_energy") == {"missing": "not measured"}
    assert study.value("sam+ema", "loss", "mse") == {"missing": "no row yet"}
    assert study.value("sam+swa", "loss", "mse")["seeds"] == 1  # the other seed's row is not there yet
    assert not study.rows_of("sam+ema")


def test_a_number_that_a_measure_lacks_is_named(root: Path) -> None:
    study = _one(root, grids=False)
    with pytest.raises(ValueError, match=r"run-0-raw.json lacks measures.loss.hue"):
        study.value("adm", "loss", "hue")
    with pytest.raises(ValueError, match=r"run-0-raw.json: curve-random.losses is no number"):
        study.value("adm", "curve-random", "losses")


def test_a_row_of_a_later_version_than_the_plans_is_of_the_same_run(root: Path) -> None:
    """As where a study was gone on with by later code: what both say has to agree."""
    study = _one(root, grids=False)
    row = study.folder / "rows" / "run-1-ema.json"
    whole = json.loads(row.read_bytes())
    c = whole["settings"]["configuration"]
    there = c.get("version")

    def rows_of(configuration: dict[str, Any]) -> list[Any]:
        row.write_text(json.dumps(whole | {"settings": whole["settings"] | {"configuration": configuration}}))
        return trained.studies()[0].rows

    later = c | {"version": 99, "option": 1, "sam": c["sam"] | {"option": 1}}
    assert len(rows_of(later)) == len(study.rows)
    for other in (later | {"version": there}, later | {"seed": c["seed"] + 1}, later | {"sam": {"rho": 7.0}}):
        with pytest.raises(ValueError, match=r"settings\.configuration is not that of run-1"):
            rows_of(other)


def _edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **changes}))


def test_broken_files_are_named(root: Path) -> None:
    study = _one(root, grids=False)
    row, plan = study.folder / "rows" / "run-1-ema.json", study.folder / "plan.json"
    whole = row.read_text()
    for content, words in (
        (whole[:100], "cannot be read"),
        ("[1]", "it is no JSON object but list"),
        (whole.replace('"version": 2', '"version": 3'), "its version is 3; allowed: 2"),
        (whole.replace('"method": "ip"', '"method": "sam"'), "settings.configuration is not that of run-1"),
        (whole.replace('"measures"', '"measured"'), "lacks measures"),
    ):
        row.write_text(content)
        with pytest.raises(ValueError, match=f"run-1-ema.json.* ?{words}"):
            _ = trained.studies()[0].rows
    row.write_text(whole)
    _edit(plan, version=1)
    with pytest.raises(ValueError, match=r"plan.json.*its version is 1; allowed: 2"):
        trained.studies()


def test_a_plan_that_lacks_something_is_refused(root: Path) -> None:
    plan = _one(root, grids=False).folder / "plan.json"
    settings = json.loads(plan.read_bytes())["settings"]
    runs = settings["runs"]
    other = {**runs["run-0"], "dataset": "ffhq"}
    without = {key: value for key, value in runs["run-0"].items() if key != "sam"}
    for wanted, words in (
        ({}, "settings.runs names no run"),
        ({"a": other, "b": runs["run-1"]}, "of data sets .*fashion-mnist.*ffhq.*allowed: one|of data sets .*ffhq"),
        ({"a": without}, "lacks settings.runs.a.sam"),
    ):
        _edit(plan, settings={**settings, "runs": wanted})
        with pytest.raises(ValueError, match=f"plan.json.*{words}"):
            trained.studies()


def test_the_face_says_data_scale_and_runs(root: Path) -> None:
    study = _one(root, grids=False)
    assert study.face() == "Fashion-MNIST 16 × 16, 1.4 M parameters, 2,000 steps, 1 run a method"
    made.write(root / "results" / "many", "cifar10", seeds=(0, 1), steps=200_000, grids=False)
    assert "200,000 steps, 2 seeds a method" in trained.of_dataset("cifar10").face()  # type: ignore[union-attr]
    for path in (study.folder / "rows").iterdir():
        path.unlink()
    assert trained.small().face() == "Fashion-MNIST 16 × 16, 2,000 steps, 1 run a method"  # type: ignore[union-attr]


def test_grids_of_samples(root: Path) -> None:
    study = _one(root)
    assert study.samples("adm", 20, 8) == study.folder / "samples" / "run-0-T20-8bit.png"
    assert study.samples("sam", 20) == study.folder / "samples" / "run-3-T20-32bit.png"
    assert study.samples("sam", 20, rho=0.01) == study.folder / "samples" / "run-2-T20-32bit.png"
    assert study.samples("adm", 100) is None
    assert study.samples("sam", 20, rho=0.5) is None


def test_the_sampling_steps_asked_for_else_the_least(root: Path) -> None:
    assert _one(root, grids=False).shortest(100) == 100
    made.write(root / "results" / "ours2", sampling_steps=(50, 8), grids=False)
    assert trained.studies()[1].shortest(20) == 8


def test_the_bridge_is_read_where_it_is(root: Path) -> None:
    study = _one(root, grids=False)
    assert study.bridge() is None
    (study.folder / "bridge.json").write_text('{"predictions": [1]}')
    assert study.bridge() == {"predictions": [1]}


def test_a_study_outside_changes_what_a_figure_is_drawn_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the folder that is named is the study itself, and not for figures that read no study."""
    folder = made.write(tmp_path / "runs" / "mine", grids=False)
    patterns, without = ("results/*/rows/*.json",), ("results/toy.json",)

    def state(inputs: tuple[str, ...] = patterns) -> str:
        return catalogue.fingerprint((), inputs, catalogue.ROOT)

    seen = [state()]
    for named in (folder.parent, folder):
        monkeypatch.setenv(trained.RUNS_VARIABLE, str(named))
        seen.append(state())
        made.change_row(folder, "run-1", "ema", surface={"failed": f"of {named.name}"})
        seen.append(state())
    assert len(set(seen)) == 5
    other = state(without)
    monkeypatch.delenv(trained.RUNS_VARIABLE)
    assert state(without) == other
    assert state() == seen[0]


def test_looking_for_studies_loads_nothing_heavy(tmp_path: Path) -> None:
    """The command line asks for the folder before it knows whether there is anything to draw."""
    folder = made.write(tmp_path / "runs", grids=False)
    program = (
        "import sys; from findings import trained; trained.use(sys.argv[1]); assert trained.studies()[0].rows; "
        "print(sorted({'matplotlib', 'numpy', 'scipy', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, str(folder)]
    assert subprocess.run(command, cwd=catalogue.ROOT, capture_output=True, check=True).stdout == b"[]\n"
