"""The whole matrix at a microscopic size: stopped anywhere it goes on, gives the same files and overwrites nothing."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from experiments.configuration import Configuration
from experiments.evaluation import comparisons, distances, reproduce, results, tables
from experiments.evaluation.cells import Cell
from experiments.evaluation.reproduce import Matrix, matrix, shortened
from experiments.evaluation.results import ResultError
from experiments.presets import PRESETS
from experiments.training import writer
from experiments.training.checkpoints import CheckpointError
from tests.experiments.evaluation.small_rows import CONFIGURATION, OPTIONS, PixelFeatures, contents, images, material
from tests.experiments.training.small_runs import run_options

SMALL = dataclasses.replace(
    OPTIONS, curve_draws=2, gradient_distances=(), surface_points=0, sampling_steps=(2,), samples=(24,)
)
BASE = dataclasses.replace(CONFIGURATION, steps=3)
ROWS = [f"{method}{average}" for method in ("adm", "ip", "sam") for average in ("", "+ema", "+swa")]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(out: Path, **changes: Any) -> Matrix:
    given: dict[str, Any] = {"runs": matrix(BASE), "options": SMALL, "material": material(PixelFeatures())} | changes
    return Matrix(
        out,
        given["runs"],
        given["options"],
        images("train"),
        given["material"],
        run_options=lambda folder: run_options(folder, checkpoint_every=2),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    small(out).carried_out()
    torch.set_num_threads(threads)
    return out


def results_of(out: Path) -> dict[str, Any]:
    """All that is written, but the seconds, and but the runs' own files."""
    found: dict[str, Any] = {}
    for name, content in contents(out).items():
        if name.startswith("rows"):
            row = json.loads(content)
            found[name] = {key: value for key, value in row.items() if key != "seconds"}
        elif not name.startswith("runs"):
            found[name] = content
    return found


def weights_of(out: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(out / "runs").items() if name.endswith(".safetensors")}


def test_there_are_three_runs_nine_rows_three_grids_and_the_tables(whole: Path) -> None:
    files = [name for name in contents(whole) if not name.startswith("runs")]
    rows = [f"rows/{m}-{a}.json" for m in ("adm", "ip", "sam") for a in ("ema", "raw", "swa")]
    grids = [f"samples/{m}.png" for m in ("adm", "ip", "sam")]
    assert files == ["plan.json", *rows, *grids, "tables.json", "tables.md"]
    found = json.loads((whole / "tables.json").read_text())
    assert found["tables"][0]["name"] == "summary"
    assert list(found["tables"][0]["rows"]) == ROWS
    for method in ("adm", "ip", "sam"):
        raw = json.loads((whole / f"rows/{method}-raw.json").read_text())
        entry = found["tables"][0]["rows"][method]["lpf"]
        assert entry["value"] == raw["measures"]["lpf-absolute"]["value"]["value"]
        assert raw["settings"]["configuration"]["method"] == method
    with Image.open(whole / "samples/adm.png") as image:
        assert image.size == (8 * 4 + 7 * 2, 8 * 4 + 7 * 2)
        assert json.loads(image.info["settings"])["average"] == "ema"
    page = (whole / "tables.md").read_text()
    assert all(f"| {row} |" in page for row in [*ROWS, tables.FLOOR])
    assert "FID" not in page.replace("(not FID)", "")


class Stop(BaseException):
    """An interruption, as Ctrl-C is one: not an Exception, so that nothing can take it for a failure of its own."""


class Fuse:
    """Lets so many files be written, and then stops."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the place of every writer of the matrix."""
        self.left = 0
        for module in (reproduce, results, distances):
            monkeypatch.setattr(module, "write_whole", self._counted(module.write_whole))
        monkeypatch.setattr(writer, "write_checkpoint", self._counted(writer.write_checkpoint))

    def _counted(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            if self.left == 0:
                raise Stop
            self.left -= 1
            return write(*args, **kwargs)

        return run


def test_stopped_at_any_stage_it_goes_on_and_gives_the_same_files(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse = Fuse(monkeypatch)
    stages, stops = set(), 0
    for attempt in range(200):  # some thirty are needed
        rows = len(list((tmp_path / "rows").glob("*.json")))
        fuse.left = 1 + attempt % 2 if rows >= len(ROWS) - 1 else 5 + attempt % 7  # other places at each attempt
        try:
            small(tmp_path).carried_out()
            break
        except (Stop, CheckpointError):  # a checkpoint's writer says in its words what stopped it
            stops += 1
            stages.add(next((s for s in ("samples", "rows", "runs") if (tmp_path / s).exists()), ""))
    else:
        raise AssertionError("never done")
    assert stops > 10
    assert stages == {"runs", "rows", "samples"}
    assert results_of(tmp_path) == results_of(whole)
    assert weights_of(tmp_path) == weights_of(whole)


def test_given_again_it_trains_and_measures_nothing(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(whole)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("done again")

    for name in ("train", "loaded"):
        monkeypatch.setattr(reproduce, name, never)
    monkeypatch.setattr("experiments.evaluation.evaluate.loaded", never)
    found = small(whole).carried_out()
    assert [row["row"] for row in found.results] == ROWS
    assert contents(whole) == before


def test_another_plan_is_refused_with_the_differences_and_nothing_changes(whole: Path) -> None:
    before = contents(whole)
    for changes, what in (
        ({"options": dataclasses.replace(SMALL, sigma=0.02)}, r"evaluation.sigma: 0.01, 0.02"),
        ({"runs": matrix(dataclasses.replace(BASE, steps=4))}, r"runs.adm.steps: 3, 4"),
        ({"runs": matrix(BASE, radii=(0.1, 0.2))}, r"runs.sam: \{...\}, None\nruns.sam-rho-0.1: None, \{...\}"),
        ({"material": material(None)}, r"features"),
    ):
        with pytest.raises(ResultError, match=what):
            small(whole, **changes).carried_out()
    assert contents(whole) == before


def test_a_grid_of_other_settings_is_not_written_over(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "adm.png"
    path.write_bytes((whole / "samples/adm.png").read_bytes())
    settings = reproduce.read_text(path)
    results.refuse_other(path, settings, settings)
    with pytest.raises(ResultError, match="steps: 2, 7"):
        results.refuse_other(path, settings, settings | {"steps": 7})
    path.write_bytes(b"no image")
    with pytest.raises(ResultError, match="no grid of samples"):
        reproduce.read_text(path)


def test_a_run_that_a_signal_stops_ends_the_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduce, "train", lambda configuration, *args: configuration.steps - 1)
    with pytest.raises(KeyboardInterrupt):
        small(tmp_path).carried_out()
    assert not (tmp_path / "rows").exists()


def test_a_run_whose_end_was_not_told_or_that_is_another_one_goes_back_to_the_trainer(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    trained: list[str] = []

    def recorded(configuration: Configuration, *args: Any) -> int:
        trained.append(configuration.method)
        return train(configuration, *args)

    train = reproduce.train
    monkeypatch.setattr(reproduce, "train", recorded)
    (out / "runs/ip/trained").unlink()  # as a kill after the last checkpoint leaves it
    small(out).carried_out()
    assert trained == ["ip"]
    assert contents(out / "rows") == contents(whole / "rows")
    shutil.rmtree(out / "runs/sam")
    shutil.copytree(out / "runs/adm", out / "runs/sam")
    with pytest.raises(CheckpointError, match="method: 'adm', 'sam'"):
        small(out).carried_out()
    assert contents(out / "rows") == contents(whole / "rows")


def test_the_matrix_has_a_run_for_each_method_radius_and_seed() -> None:
    assert [run.name for run in matrix(BASE)] == ["adm", "ip", "sam"]
    found = matrix(BASE, radii=(0.1, 0.01), seeds=(0, 3))
    assert [run.name for run in found] == [
        f"{name}-seed-{seed}" for seed in (0, 3) for name in ("adm", "ip", "sam-rho-0.1", "sam-rho-0.01")
    ]
    assert [run.configuration.seed for run in found] == [0] * 4 + [3] * 4
    assert [run.configuration.sam.rho for run in found if run.configuration.perturbs_weights] == [0.1, 0.01] * 2
    for name, given in (("radii", {"radii": (0.1, 0.1)}), ("seeds", {"seeds": (1, 1)})):
        with pytest.raises(ValueError, match=name):
            matrix(BASE, **given)


def test_a_shorter_run_keeps_its_averages_shares() -> None:
    preset = PRESETS["fashion-mnist-tiny"]
    assert shortened(preset, preset.steps) == preset
    short = shortened(preset, preset.steps // 10)
    assert (1 - short.averages.ema_decay) * short.steps == pytest.approx((1 - preset.averages.ema_decay) * preset.steps)
    assert short.averages.swa_cycle == preset.averages.swa_cycle // 10
    least = shortened(preset, 1)
    assert (least.averages.ema_decay, least.averages.swa_cycle) == (0.0, 1)


def test_several_seeds_are_shown_by_their_mean_and_error(whole: Path) -> None:
    first = json.loads((whole / "rows/adm-raw.json").read_text())
    second = json.loads(json.dumps(first))
    second["settings"]["configuration"]["seed"] = 1
    second["measures"]["lpf-absolute"]["value"]["value"] += 0.5
    table = tables.tables([first, second])[0]
    cell = table.rows["adm"][[column.name for column in table.columns].index("lpf")]
    value = first["measures"]["lpf-absolute"]["value"]["value"]
    # Mean of a and a + 1/2, and the standard error of two numbers: half their distance
    assert cell == pytest.approx((value + 0.25, 0.25))


def test_comparisons_have_the_sign_the_size_and_the_error_of_the_difference(whole: Path) -> None:
    rows = {name: json.loads((whole / f"rows/{name}-raw.json").read_text()) for name in ("adm", "sam")}
    rise = rows["sam"]["measures"]["lpf-absolute"]["rise"]
    theirs = rows["adm"]["measures"]["lpf-absolute"]["rise"]
    rise |= {"value": theirs["value"] - 1.0, "draw_standard_error": 0.03, "data_standard_error": 0.0}
    theirs |= {"draw_standard_error": 0.0, "data_standard_error": 0.04}
    found = {one.measure: one for one in comparisons.compared(list(rows.values())) if one.row == "sam"}
    one = found["lpf-absolute-rise"]
    assert (one.against, one.verdict) == ("adm", "lower")
    assert one.difference == pytest.approx((-1.0, 0.05))
    assert one.said() == "sam's is lower than adm's by 1.000 ± 0.050"
    rise["value"] = theirs["value"] + 0.1
    again = {one.measure: one for one in comparisons.compared(list(rows.values())) if one.row == "sam"}
    assert again["lpf-absolute-rise"].verdict == "undecided"
    losses = [rows[name]["measures"]["loss"]["by_image"] for name in ("sam", "adm")]
    paired = torch.tensor(losses[0], dtype=torch.float64) - torch.tensor(losses[1], dtype=torch.float64)
    error = float(paired.std() / len(paired) ** 0.5)
    assert found["loss"].difference.error == pytest.approx(error, rel=1e-6)  # seven digits are kept
    assert "not over training seeds" in comparisons.statement(list(rows.values()), list(found.values()))[0]


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
