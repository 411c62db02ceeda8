"""The first stage of the bridge on microscopic runs: files, resuming, refusals."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.measures import layer_rows
from experiments.measures.layer_rows import LAYERS, Place, Plan, chosen, row, snapshots
from experiments.measures.options import LayerOptions
from experiments.measures.rows import loaded
from findings import documents
from findings.checksums import with_checksum
from findings.documents import FAILED, ResultError
from tests.experiments.measures.small_rows import contents, images
from tests.experiments.test_reproduce import small

OPTIONS = LayerOptions(
    layer_images=4,
    whole_draws=2,
    readout_draws=2,
    tolerance_steps=(0, 2),
    tolerance_images=4,
    tolerance_levels=(0.1, 1.0),
    points=1,
    snapshots=2,
)


def train_runs(out: Path) -> None:
    """Runs and their plan in a folder; rows are not there yet."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = small(out)
    whole._planned()
    for run in whole.runs:
        whole._train(run)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    train_runs(out)
    return out


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "out")
    return tmp_path / "out"


def place(lines: list[str] | None = None, **changes: Any) -> Place:
    held_out = changes.pop("held_out", images("test"))
    say = (lambda line: None) if lines is None else lines.append
    return Place(held_out, torch.device("cpu"), 16, say)


def without_seconds(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "seconds"}


def test_a_row_holds_all_measures_and_is_read_when_it_is_there(folder: Path) -> None:
    plan, lines = Plan.of(folder), list[str]()
    document = row(plan, "sam", "ema", OPTIONS, place(lines))
    assert (document["run"], document["row"], document["average"], document["method"]) == (
        "sam",
        "sam+ema",
        "ema",
        "sam",
    )
    assert list(document["measures"]) == ["whole", "readout", "tolerance", "layers", "linearisation"]
    assert not any(FAILED in measure for measure in document["measures"].values())
    assert list(document["measures"]["tolerance"]) == ["t=0", "t=2"] == list(document["measures"]["linearisation"])
    network = loaded(plan.checkpoint("sam"), "ema")
    names = [name for name, m in network.named_modules() if list(m.parameters(recurse=False))]
    assert [layer["name"] for layer in document["measures"]["layers"]] == names
    assert document["settings"]["checkpoint"]["average"] == "ema"
    assert len(lines) == 5
    before = contents(folder)
    assert row(plan, "sam", "ema", OPTIONS, place(lines)) == document
    assert len(lines) == 5
    assert contents(folder) == before


def test_rows_share_images_and_noise_and_differ_in_weights(folder: Path) -> None:
    plan = Plan.of(folder)
    adm, sam = (row(plan, run, "raw", OPTIONS, place())["measures"] for run in ("adm", "sam"))
    assert adm["whole"]["absolute"]["by_image"] != sam["whole"]["absolute"]["by_image"]
    ours, theirs = (of["tolerance"]["t=2"]["moments"] for of in (adm, sam))
    assert ours["ee"] == theirs["ee"]
    assert ours["rr"] != theirs["rr"]


def test_stopped_between_measures_it_goes_on_and_gives_the_same_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, lines = Plan.of(folder), list[str]()
    whole = without_seconds(row(plan, "adm", "swa", OPTIONS, place()))
    path = folder / LAYERS / "adm-swa.json"
    path.unlink()

    class Stop(BaseException):
        pass

    right = layer_rows.measured_layers

    def stops(*args: Any) -> Any:
        raise Stop

    monkeypatch.setattr(layer_rows, "measured_layers", stops)
    with pytest.raises(Stop):
        row(plan, "adm", "swa", OPTIONS, place(lines))
    assert not path.exists()
    monkeypatch.setattr(layer_rows, "measured_layers", right)
    again = row(plan, "adm", "swa", OPTIONS, place(lines))
    assert [line.split(": ")[1] for line in lines] == [
        "whole",
        "readout",
        "tolerance",
        "layers",
        "layers",
        "linearisation",
    ]
    assert without_seconds(again) == whole
    assert not list(path.parent.glob(".*"))


def test_a_file_of_other_settings_is_refused_and_nothing_changes(folder: Path) -> None:
    plan = Plan.of(folder)
    row(plan, "adm", "raw", OPTIONS, place())
    before = contents(folder)
    with pytest.raises(ResultError, match=r"options\.whole_draws: 2, 3"):
        row(plan, "adm", "raw", dataclasses.replace(OPTIONS, whole_draws=3), place())
    assert contents(folder) == before
    path = folder / LAYERS / "adm-raw.json"
    path.write_text(path.read_text().replace('"loss"', '"boss"', 1).replace('"value": ', '"value": 1', 1))
    with pytest.raises(ResultError, match=r"adm-raw\.json is not what was written"):
        row(plan, "adm", "raw", OPTIONS, place())


def test_what_is_missing_or_wrong_is_said_before_anything_is_measured(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"has no plan\.json"):
        Plan.of(tmp_path / "nowhere")
    plan = Plan.of(folder)
    with pytest.raises(ValueError, match=r"tolerance_steps is .*below the process's 3 steps"):
        row(plan, "adm", "raw", dataclasses.replace(OPTIONS, tolerance_steps=(3,)), place())
    others = dataclasses.replace(images("test"), fingerprint="sha256:" + "1" * 64)
    with pytest.raises(ValueError, match="fingerprint"):
        row(plan, "adm", "raw", OPTIONS, place(held_out=others))
    (folder / "runs/ip/trained").unlink()
    with pytest.raises(ResultError, match="ip is not trained to its end"):
        row(plan, "ip", "raw", OPTIONS, place())
    assert not (folder / LAYERS).exists()
    whole = (folder / "plan.json").read_text()
    document = json.loads(whole)
    del document["settings"]["runs"]
    (folder / "plan.json").write_text(json.dumps(document))
    with pytest.raises(ResultError, match="is not what was written"):
        Plan.of(folder)
    (folder / "plan.json").write_text(json.dumps(with_checksum(document)))
    with pytest.raises(ResultError, match="is no plan"):
        Plan.of(folder)
    (folder / "plan.json").write_text(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_images": 1}, "layer_images is 1"),
        ({"readout_draws": 1}, "readout_draws is 1"),
        ({"whole_draws": 1}, "whole_draws is 1"),
        ({"tolerance_steps": (1, 1)}, "each step once"),
        ({"tolerance_levels": (1.0, 0.5)}, "rising numbers"),
        ({"tolerance_levels": (0.0,)}, "tolerance_levels is 0.0"),
        ({"tolerance_levels": ()}, "at least one"),
        ({"points": 5}, "at most tolerance_images, 4"),
        ({"snapshots": -1}, "snapshots is -1"),
    ],
)
def test_options_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(OPTIONS, **changes)


def test_numbers_that_are_not_finite_are_kept_as_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any) -> Any:
        raise FloatingPointError("a loss is not finite")

    monkeypatch.setattr(layer_rows, "measured_layers", fails)
    document = row(Plan.of(folder), "adm", "raw", OPTIONS, place())
    assert document["measures"]["layers"] == {FAILED: "a loss is not finite"}
    assert FAILED not in document["measures"]["whole"]


def test_snapshots_are_the_shortest_emas_evenly_spaced_to_the_end(folder: Path) -> None:
    plan = Plan.of(folder)
    files = chosen(folder / "runs/adm", 100)
    assert [one.steps for one in files] == [1, 2, 3]
    assert [one.steps for one in chosen(folder / "runs/adm", 1)] == [3]
    assert {one.gamma for one in files} == {max(one.gamma for one in files)}
    documents = snapshots(plan, "adm", OPTIONS, place())
    assert documents is not None
    assert list(documents["measures"]) == [one.name for one in chosen(folder / "runs/adm", 2)]
    last = documents["measures"]["step-3"]
    assert set(last) == {"steps", "whole", "quantization", "norms"}
    assert (
        last["whole"]["absolute"]["by_image"]
        != documents["measures"][next(iter(documents["measures"]))]["whole"]["absolute"]["by_image"]
    )
    assert snapshots(plan, "adm", OPTIONS, place()) == documents
    shutil.rmtree(folder / "runs/adm/snapshots")
    assert snapshots(plan, "adm", OPTIONS, place()) is None


def test_averages_are_those_that_the_checkpoint_holds(folder: Path) -> None:
    checkpoint = Plan.of(folder).checkpoint("adm")
    assert checkpoint.averages() == ("raw", "ema", "swa")
    manifest = checkpoint.folder / "manifest.json"
    document = json.loads(manifest.read_text())
    del document["files"]["shadow-swa.safetensors"]
    manifest.write_text(json.dumps(with_checksum(document)))
    assert checkpoint.averages() == ("raw", "ema")
    assert documents.VERSION == 2
