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

from experiments import reproduce, tensor_files
from experiments.configuration import PRESETS, Configuration
from experiments.measures import sample_grids
from experiments.reproduce import Matrix, matrix, shortened
from experiments.sampling.chains import Samples
from experiments.training import checkpoints
from experiments.training.checkpoints import CheckpointError
from findings import documents, tables
from findings.checksums import checked
from findings.documents import ResultError
from tests.experiments.measures.small_rows import CONFIGURATION, OPTIONS, PixelFeatures, contents, images, material
from tests.experiments.training.small_runs import run_options

SMALL = dataclasses.replace(
    OPTIONS, curve_draws=2, gradient_distances=(), surface_points=0, sampling_steps=(2,), samples=(24,)
)
BASE = dataclasses.replace(CONFIGURATION, steps=3)
BITS = (32, *SMALL.bits)
ROWS = [f"{method}{average}" for method in ("adm", "ip", "sam") for average in ("", "+ema", "+swa")]


def small(out: Path, **changes: Any) -> Matrix:
    given: dict[str, Any] = {"runs": matrix(BASE), "options": SMALL, "material": material(PixelFeatures())} | changes
    return Matrix(
        out,
        given["runs"],
        given["options"],
        images("train"),
        given["material"],
        run_options=lambda folder: run_options(folder, checkpoint_every=2),
        part=given.get("part", 0),
        parts=given.get("parts", 1),
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
    by_file: dict[str, Any] = {}
    for name, content in contents(out).items():
        if name.startswith("rows"):
            row = json.loads(content)
            by_file[name] = {key: value for key, value in checked(row).items() if key != "seconds"}
        elif not name.startswith("runs"):
            by_file[name] = content
    return by_file


def weights_of(out: Path) -> dict[str, bytes]:
    return {name: content for name, content in contents(out / "runs").items() if name.endswith(".safetensors")}


def test_there_are_three_runs_nine_rows_the_grids_and_the_tables(whole: Path) -> None:
    files = [name for name in contents(whole) if not name.startswith("runs")]
    rows = [f"rows/{m}-{a}.json" for m in ("adm", "ip", "sam") for a in ("ema", "raw", "swa")]
    grids = sorted(f"samples/{m}-T2-{bits}bit.png" for m in ("adm", "ip", "sam") for bits in BITS)
    assert files == ["plan.json", *rows, *grids, "tables.json", "tables.md"]
    document = json.loads((whole / "tables.json").read_text())
    assert document["tables"][0]["name"] == "summary"
    assert list(document["tables"][0]["rows"]) == ROWS
    for method in ("adm", "ip", "sam"):
        raw = json.loads((whole / f"rows/{method}-raw.json").read_text())
        entry = document["tables"][0]["rows"][method]["lpf"]
        assert entry["value"] == raw["measures"]["lpf-absolute"]["value"]["value"]
        assert raw["settings"]["configuration"]["method"] == method
    with Image.open(whole / "samples/adm-T2-32bit.png") as image:
        assert image.size == (8 * 4 + 7 * 2, 8 * 4 + 7 * 2)
        assert json.loads(image.info["settings"])["average"] == "ema"
        full = image.tobytes()
    with Image.open(whole / "samples/adm-T2-3bit.png") as image:
        assert json.loads(image.info["settings"])["bits"] == 3
        assert image.tobytes() != full
    page = (whole / "tables.md").read_text()
    assert all(f"| {row} |" in page for row in [*ROWS, f"{tables.FLOOR}, n=24"])
    assert "FID" not in page.replace("(not FID)", "")


def test_two_parts_measure_a_half_each_and_the_first_writes_the_tables(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second measures while the first waits for it."""
    shutil.copytree(whole / "runs", tmp_path / "runs")
    other, waited = small(tmp_path, part=1, parts=2), []

    def second_half(seconds: float) -> None:
        waited.append(len(list((tmp_path / "rows").iterdir())))
        other.trained_and_measured(other.runs)
        other.measured_rows()

    monkeypatch.setattr(reproduce.time, "sleep", second_half)
    small(tmp_path, part=0, parts=2).carried_out()
    assert waited == [5]
    assert results_of(tmp_path) == results_of(whole)


class Stop(BaseException):
    """An interruption, as Ctrl-C is one: not an Exception, so that nothing can take it for a failure of its own."""


class Fuse:
    """Lets so many files be written, and then stops."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """In the place of every writer of the matrix."""
        self.left = 0
        for module in (reproduce, documents, tensor_files, sample_grids):
            monkeypatch.setattr(module, "write_whole", self._counted(module.write_whole))
        monkeypatch.setattr(checkpoints, "write_checkpoint", self._counted(checkpoints.write_checkpoint))

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

    monkeypatch.setattr(reproduce, "train", never)
    monkeypatch.setattr(sample_grids, "loaded", never)
    monkeypatch.setattr("experiments.measures.rows.loaded", never)
    outcome = small(whole).carried_out()
    assert [row["row"] for row in outcome.results] == ROWS
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


@pytest.mark.parametrize("content", [None, b"no image"])
def test_a_grid_of_other_settings_is_not_written_over(whole: Path, tmp_path: Path, content: bytes | None) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    path = out / "samples/ip-T2-32bit.png"
    settings = sample_grids.read_text(path)
    if content is None:
        sample_grids.write_grid(path, torch.zeros(64, 1, 4, 4), settings | {"steps": 7})
    else:
        path.write_bytes(content)
    before = contents(out)
    with pytest.raises(ResultError, match="steps: 7, 2" if content is None else "no grid of samples"):
        small(out).carried_out()
    assert contents(out) == before


def test_a_grid_with_an_image_that_is_not_finite_is_told_and_the_tables_are_written(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "samples/sam-T2-32bit.png").unlink()
    (out / "tables.md").unlink()
    original = sample_grids.generate

    def broken(*args: Any, **kwargs: Any) -> Iterator[Samples]:
        for batch in original(*args, **kwargs):
            batch.images[0, 0, 0, 0] = float("nan")
            yield batch

    monkeypatch.setattr(sample_grids, "generate", broken)
    outcome = small(out).carried_out()
    assert outcome.statement[-1].startswith("sam: no grid of samples at T' = 2 and 32 bits: ")
    assert not (out / "samples/sam-T2-32bit.png").exists()
    assert "images of 64 are not finite" in (out / "tables.md").read_text()


def test_more_sampling_steps_than_the_process_has_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    options = dataclasses.replace(SMALL, sampling_steps=(4,), quantized_steps=(4,))
    with pytest.raises(ValueError, match=r"sampling_steps is \(4,\); allowed: at most the process's 3 steps"):
        small(tmp_path, options=options).carried_out()
    assert not list(tmp_path.iterdir())


def test_runs_too_short_for_an_swa_row_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    averages = dataclasses.replace(BASE.averages, swa_start=0.9, swa_cycle=5)
    runs = matrix(dataclasses.replace(BASE, averages=averages))
    with pytest.raises(ValueError, match=r"steps is 3; allowed: so many that a multiple of averages.swa_cycle, 5"):
        small(tmp_path, runs=runs).carried_out()
    assert not list(tmp_path.iterdir())


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
    runs = matrix(BASE, radii=(0.1, 0.01), seeds=(0, 3))
    assert [run.name for run in runs] == [
        f"{name}-seed-{seed}" for seed in (0, 3) for name in ("adm", "ip", "sam-rho-0.1", "sam-rho-0.01")
    ]
    assert [run.configuration.seed for run in runs] == [0] * 4 + [3] * 4
    assert [run.configuration.sam.rho for run in runs if run.configuration.perturbs_weights] == [0.1, 0.01] * 2
    noised = matrix(BASE, noises=(0.01, 0.002), methods=("adm", "rwp"))
    assert [run.name for run in noised] == ["adm", "rwp-sigma-0.01", "rwp-sigma-0.002"]
    assert [run.configuration.noise_sigma for run in noised] == [0.0, 0.01, 0.002]
    assert [run.name for run in matrix(BASE, noises=(0.01,))] == ["adm", "ip", "sam", "rwp"]
    refused: list[tuple[str, dict[str, Any]]] = [
        ("radii", {"radii": (0.1, 0.1)}),
        ("seeds", {"seeds": (1, 1)}),
        ("noises", {"noises": (0.1, 0.1)}),
        ("methods", {"methods": ("adm", "adm")}),
        ("radii", {"radii": (0.1,), "methods": ("adm",)}),
        ("noises", {"noises": (0.1,), "methods": ("adm",)}),
    ]
    for name, given in refused:
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
