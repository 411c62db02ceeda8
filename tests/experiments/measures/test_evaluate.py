"""A row from a checkpoint: the right weights, resumed after an interruption anywhere, refused where it does not fit."""

import copy
import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.data import Batches, Images, to_float
from experiments.diffusion.timesteps import UniformTimesteps
from experiments.measures import rows as module
from experiments.measures import sample_distance
from experiments.measures.rows import Checkpoint, evaluate, loaded, row_settings
from experiments.measures.runner import Progress
from experiments.measures.subject import Subject
from experiments.measures.tasks import Task, tasks_of
from experiments.measures.weight_noise import BATCHES, held_out_loss
from experiments.training.checkpoints import CheckpointError, load_run
from experiments.training.randomness import drawn
from experiments.training.trainer import train
from findings import names
from findings.documents import FAILED, ResultError
from findings.names import AVERAGES, RowName
from tests.experiments.measures.small_rows import CONFIGURATION, OPTIONS, PixelFeatures, contents, images, material
from tests.experiments.training.small_runs import run_options

MATERIAL = material(PixelFeatures())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(CONFIGURATION, run_options(out), images("train"))
    return out


def without_seconds(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "seconds"}


def test_each_row_is_of_its_own_weights_and_has_every_measure_and_its_provenance(run: Path, tmp_path: Path) -> None:
    losses = {}
    for average in AVERAGES:
        row = evaluate(run, average, OPTIONS, MATERIAL, tmp_path / f"{average}.json")
        subject = Subject(loaded(Checkpoint.of(run), average), _process(), OPTIONS, MATERIAL, run=CONFIGURATION)
        state = load_run(run, average)[1]
        assert all(torch.equal(value, state[name]) for name, value in subject.network.state_dict().items())
        assert row["measures"]["loss"] == held_out_loss(subject)
        assert list(row["measures"]) == list(tasks_of(subject)) == list(row["seconds"])
        assert not any(FAILED in measure for measure in row["measures"].values())
        assert row["row"] == str(RowName("adm", average))
        start = CONFIGURATION.averages.ema_decay**CONFIGURATION.steps  # of the weights that the EMA began from
        assert row.get("share_of_start") == (pytest.approx(start) if average == "ema" else None)
        assert row["settings"]["configuration"] == CONFIGURATION.to_dict() | _lists(CONFIGURATION.to_dict())
        assert row["settings"]["checkpoint"]["step"] == CONFIGURATION.steps
        assert row["settings"]["features"]["sha256"] == MATERIAL.features.identity  # type: ignore[union-attr]
        assert row["provenance"][0]["versions"]["torch"] == torch.__version__
        assert row["provenance"][0]["measures"] == list(row["measures"])
        losses[average] = row["measures"]["loss"]["mse"]["value"]
    assert len(set(losses.values())) == len(AVERAGES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ema.json", "raw.json", "swa.json"]


def test_the_gradient_is_that_of_the_runs_own_batches(run: Path, tmp_path: Path) -> None:
    """By hand, batch by batch in one pass; in micro-batches of 3 the same but for rounding; no gradient is left."""
    subject = Subject(loaded(Checkpoint.of(run), "raw"), _process(), OPTIONS, MATERIAL, run=CONFIGURATION)
    network, seed = subject.network, OPTIONS.seed
    norms, losses = [], []
    for number in range(BATCHES):
        x_0 = to_float(Batches(MATERIAL.reference, CONFIGURATION.global_batch, seed, CONFIGURATION.flip).batch(number))
        draws = drawn(UniformTimesteps(len(subject.process)), tuple(x_0.shape), 0.0, torch.device("cpu"), seed, number)
        x_t = subject.process.q_sample(x_0, draws.t, draws.noise)
        trained = copy.deepcopy(network).requires_grad_(True)
        output = trained(x_t, subject.process.network_timesteps(draws.t))
        loss = subject.process.losses(output, x_0, x_t, draws.t, draws.noise).loss.mean()
        loss.backward()
        gradients = [p.grad for p in trained.parameters() if p.grad is not None]
        norms.append(math.sqrt(math.fsum(float(gradient.double().square().sum()) for gradient in gradients)))
        losses.append(loss.item())
    for most in (3, 1000):
        measured = tasks_of(dataclasses.replace(subject, gradient_batch=most))[names.GRADIENT].run(
            dataclasses.replace(subject, gradient_batch=most)
        )
        # 1e-4: float32 sums of some thousands of numbers, in another order
        assert measured["norm"]["value"] == pytest.approx(sum(norms) / len(norms), rel=1e-4)
        assert measured["loss"]["value"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)
        assert (measured["batch"], measured["batches"]) == (CONFIGURATION.global_batch, BATCHES)
    assert all(p.grad is None for p in network.parameters())


def _lists(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _process() -> Any:
    from experiments.diffusion import Process

    return Process(CONFIGURATION.process)


def test_a_row_of_the_wrong_weights_would_be_seen(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = module.loaded
    monkeypatch.setattr(module, "loaded", lambda checkpoint, average, device="cpu": original(checkpoint, "raw", device))
    row = evaluate(run, "ema", OPTIONS, MATERIAL, tmp_path / "row.json")
    assert row["measures"]["loss"] != held_out_loss(
        Subject(original(Checkpoint.of(run), "ema"), _process(), OPTIONS, MATERIAL)
    )


class Stop(Exception):  # noqa: N818
    """An interruption."""


def test_stopped_before_every_measure_it_gives_the_same_file(run: Path, tmp_path: Path) -> None:
    whole = evaluate(run, "raw", OPTIONS, MATERIAL, tmp_path / "whole.json")
    measured: list[str] = []

    def watch(progress: Progress) -> None:
        if progress.measure and progress.measure not in measured:
            measured.append(progress.measure)
            raise Stop

    for _ in range(len(whole["measures"])):
        with pytest.raises(Stop):
            evaluate(run, "raw", OPTIONS, MATERIAL, tmp_path / "parts.json", watch=watch)
    parts = evaluate(run, "raw", OPTIONS, MATERIAL, tmp_path / "parts.json", watch=watch)
    assert measured == list(whole["measures"])
    assert without_seconds(parts) == without_seconds(whole)
    assert list(parts["seconds"]) == list(whole["seconds"])


def test_a_finished_row_is_read_and_not_measured_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "row.json"
    first = evaluate(run, "raw", OPTIONS, MATERIAL, path)
    before = path.read_bytes()

    def never(*args: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr(module, "loaded", never)
    reports: list[Progress] = []
    assert evaluate(run, "raw", OPTIONS, MATERIAL, path, watch=reports.append) == first
    assert path.read_bytes() == before
    assert [(p.measure, p.done, p.share) for p in reports] == [("", len(first["measures"]), 1.0)]


def test_other_settings_other_weights_and_other_images_are_refused(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    evaluate(run, "raw", OPTIONS, MATERIAL, path)
    before = contents(tmp_path)
    with pytest.raises(ResultError, match=r"evaluation.sigma: 0.01, 0.02"):
        evaluate(run, "raw", dataclasses.replace(OPTIONS, sigma=0.02), MATERIAL, path)
    with pytest.raises(ResultError, match=r"checkpoint.sha256"):
        evaluate(run, "ema", OPTIONS, MATERIAL, path)
    with pytest.raises(ResultError, match=r"features: \{\.\.\.\}, None"):
        evaluate(run, "raw", OPTIONS, MATERIAL._replace(features=None), path)
    other = Images(images("test", size=8).pixels, "fashion-mnist", "test", "sha256:" + "0" * 64)
    with pytest.raises(ValueError, match=r"images are \('fashion-mnist', 1, 8\)"):
        evaluate(run, "raw", OPTIONS, MATERIAL._replace(held_out=other), path)
    assert contents(tmp_path) == before


def test_runs_that_are_missing_or_broken_are_told(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        evaluate(tmp_path, "raw", OPTIONS, MATERIAL, tmp_path / "row.json")
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    for weights in copy.rglob("weights.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        evaluate(copy, "raw", OPTIONS, MATERIAL, tmp_path / "row.json")
    early = tmp_path / "early"
    train(CONFIGURATION, run_options(early, until=1), images("train"))
    with pytest.raises(ValueError, match="average is 'swa'"):
        evaluate(early, "swa", OPTIONS, MATERIAL, tmp_path / "row.json")
    assert not list(tmp_path.glob("*.json"))


def test_the_options_refuse_what_is_not_allowed() -> None:
    for name, value in (
        ("images", 1), ("sigma", 0.0), ("lpf_draws", 1), ("curve_rms", ()), ("surface_points", 4), ("bits", (1,)),
        ("sampling_steps", (20, 20)), ("samples", (50,)), ("samples", (23, 24)), ("quantized_steps", (7,)),
        ("objective", "l1"), ("seed", -1), ("sampling_precision", "float16"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            dataclasses.replace(OPTIONS, **{name: value})  # type: ignore[arg-type]


def test_nothing_is_measured_in_tf32(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def run_one(subject: Subject) -> dict[str, Any]:
        seen.extend((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return {}

    monkeypatch.setattr(module, "tasks_of", lambda subject: {"one": Task(run_one, 1)})
    before = torch.backends.cudnn.allow_tf32
    evaluate(run, "raw", OPTIONS, MATERIAL, tmp_path / "row.json")
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32 == before


def test_the_kind_of_device_is_a_setting_as_noise_depends_on_it(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "row.json"
    assert evaluate(run, "raw", OPTIONS, MATERIAL, path)["settings"]["device"] == "cpu"
    before = contents(tmp_path)
    with pytest.raises(ResultError, match="device: 'cpu', 'cuda'"):
        evaluate(run, "raw", OPTIONS, MATERIAL, path, device="cuda:0")
    assert contents(tmp_path) == before


def test_how_many_images_were_used_is_a_setting(run: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, images=4096, exposure_images=39, samples=(24, 50))
    checkpoint = Checkpoint.of(run)
    assert row_settings(checkpoint, "raw", options, MATERIAL)["data"]["used"] == {
        "losses": 40, "exposure": 39, "floors": [24, 40],
    }  # fmt: skip
    inside = MATERIAL._replace(reference=dataclasses.replace(images("train"), split="all"))
    assert row_settings(checkpoint, "raw", options, inside)["data"]["used"]["floors"] == []


def test_other_data_than_the_run_was_trained_on_is_refused(run: Path, tmp_path: Path) -> None:
    for name in ("held_out", "reference"):
        other = dataclasses.replace(getattr(MATERIAL, name), fingerprint="sha256:" + "1" * 64)
        with pytest.raises(ValueError, match=r"fingerprint sha256:1+; allowed: sha256:0+, that of the data which"):
            evaluate(run, "raw", OPTIONS, MATERIAL._replace(**{name: other}), tmp_path / "row.json")
    assert not list(tmp_path.iterdir())


def test_more_sampling_steps_than_the_process_has_are_refused(run: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, sampling_steps=(2, 4))
    with pytest.raises(ValueError, match=r"sampling_steps is \(2, 4\); allowed: at most the process's 3 steps"):
        evaluate(run, "raw", options, MATERIAL, tmp_path / "row.json")
    assert not list(tmp_path.iterdir())


def test_a_network_that_diverged_gives_a_row_of_failures_and_what_is_left(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.loaded

    def broken(checkpoint: Checkpoint, average: Any, device: Any) -> Any:
        network = original(checkpoint, average, device)
        with torch.no_grad():
            next(network.parameters()).fill_(float("nan"))
        return network

    monkeypatch.setattr(module, "loaded", broken)
    path = tmp_path / "row.json"
    measures = evaluate(run, "raw", OPTIONS, MATERIAL, path)["measures"]
    # Real images have their distance whatever the network is
    assert {name for name in measures if FAILED not in measures[name]} == {"frechet-floor-24", "frechet-floor-30"}
    assert "not finite" in measures["loss"][FAILED]
    assert measures["frechet-2-32"] == {FAILED: "24 images of 24 are not finite, the first of them number 0"}
    before = path.read_bytes()
    assert evaluate(run, "raw", OPTIONS, MATERIAL, path)["measures"] == measures
    assert path.read_bytes() == before


def test_a_fault_that_is_not_the_numbers_is_no_failed_measure(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_one(subject: Subject) -> dict[str, Any]:
        raise OSError("no space left")

    monkeypatch.setattr(module, "tasks_of", lambda subject: {"one": Task(run_one, 1)})
    with pytest.raises(OSError, match="no space left"):
        evaluate(run, "raw", OPTIONS, MATERIAL, tmp_path / "row.json")
    assert not (tmp_path / "row.json").exists()


def test_samples_that_were_kept_bring_their_time_and_provenance(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_distance, "CHUNK", 10)
    monkeypatch.setattr(sample_distance, "provenance", lambda device: {"device": "elsewhere"})
    original, made = sample_distance.generate, []

    def stopping(*args: Any, **kwargs: Any) -> Any:
        made.append(args[2])
        if len(made) == 3:
            raise Stop
        return original(*args, **kwargs)

    monkeypatch.setattr(sample_distance, "generate", stopping)
    path = tmp_path / "row.json"
    with pytest.raises(Stop):
        evaluate(run, "raw", OPTIONS, MATERIAL, path)
    chunks = sorted(tmp_path.rglob("*.safetensors"))
    assert [chunk.name for chunk in chunks] == [f"frechet-2-32-{begin:06d}.safetensors" for begin in (0, 10)]
    for chunk in chunks:
        tensors = load_file(chunk)
        save_file(tensors, chunk, {"made": json.dumps({"seconds": 1000.0, "provenance": {"device": "elsewhere"}})})
    row = evaluate(run, "raw", OPTIONS, MATERIAL, path)
    assert made[3] == range(20, 24)
    elsewhere = [entry["measures"] for entry in row["provenance"] if entry["device"] == "elsewhere"]
    assert elsewhere == [["frechet-2-32"]]
    here = [entry["measures"] for entry in row["provenance"] if entry["device"] != "elsewhere"]
    assert here == [list(row["measures"])]
    assert 2000 < row["seconds"]["frechet-2-32"] < 3000
    assert row["seconds"]["frechet-2-3"] < 1000
