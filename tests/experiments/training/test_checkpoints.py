"""Checkpoints on the disk: whole or not there, verified, passed over when broken, and read for evaluation."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from experiments.training.checkpoints import (
    SNAPSHOTS,
    CheckpointError,
    Contents,
    checkpoints,
    load_run,
    load_snapshots,
    safetensors_chunks,
    snapshot_steps,
    verify,
    write_checkpoint,
)
from experiments.training.trainer import train
from findings import files
from findings.checksums import with_checksum
from findings.files import write_file
from flatness import PowerEMA
from flatness.training.weight_averaging import reconstruct
from tests.experiments.training.small_runs import STEPS, Recorder, configured, images, run_options, stored

CONFIGURATION = configured(method="ip+sam", timestep_weights="second-moment")


def contents(step: int, weights: Tensor) -> Contents:
    return Contents(step, {"weights.safetensors": {"w": weights}}, {"state.json": {"step": step}})


def names(out: Path) -> list[str]:
    return [path.name for path in checkpoints(out)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run; not to be changed."""
    out = tmp_path_factory.mktemp("finished")
    train(CONFIGURATION, run_options(out), images())
    return out


# How it is written


def test_the_newest_is_kept_and_the_one_before(tmp_path: Path) -> None:
    for step in (3, 10, 7, 12):
        write_checkpoint(tmp_path, contents(step, torch.ones(2)))
    assert names(tmp_path) == ["step-00000012", "step-00000010"]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == set(names(tmp_path))
    assert verify(checkpoints(tmp_path)[0]) == {"step": 12}


def test_one_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        folder = write_checkpoint(tmp_path, contents(3, torch.full((2,), value)))
    assert load_file(folder / "weights.safetensors")["w"].tolist() == [2, 2]


def test_broken_weights_are_not_written(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, contents(1, torch.ones(2)))
    with pytest.raises(FloatingPointError, match="w has entries that are not finite"):
        write_checkpoint(tmp_path, contents(2, torch.tensor([1.0, torch.nan])))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]


def test_what_is_written_is_what_the_library_writes(tmp_path: Path) -> None:
    laid_out = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors = {
        "odd": torch.arange(3, dtype=torch.float32),
        "scalar": torch.tensor(2.5),
        "wide": torch.arange(4, dtype=torch.float64).reshape(2, 2).T,
        "whole": torch.tensor([1, -2]),
        "channels": laid_out,
        "empty": torch.zeros(0, 3),
    }
    written = write_file(tmp_path / "ours.safetensors", safetensors_chunks(tensors, {"gamma": "1.5"}))
    save_file({name: t.contiguous() for name, t in tensors.items()}, tmp_path / "theirs.safetensors")
    ours, theirs = (load_file(tmp_path / f"{who}.safetensors") for who in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
    assert all(ours[n].dtype == theirs[n].dtype and torch.equal(ours[n], theirs[n]) for n in theirs)
    assert written == files.hash_file(tmp_path / "ours.safetensors")
    write_file(tmp_path / "none.safetensors", safetensors_chunks({}))
    assert load_file(tmp_path / "none.safetensors") == {}


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = files._put
    room = [0]

    def full(file: IO[bytes], chunk: bytes | memoryview) -> None:
        if "step-00000008" in str(file.name) and len(chunk) > 10_000:
            put(file, chunk[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        room[0] += len(chunk)
        put(file, chunk)

    monkeypatch.setattr(files, "_put", full)
    with pytest.raises(CheckpointError, match=r"step 8 .*No space left.*the last good checkpoint is .*step-00000004"):
        train(CONFIGURATION, run_options(tmp_path), images())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]
    verify(checkpoints(tmp_path)[0])
    monkeypatch.undo()
    assert train(CONFIGURATION, run_options(tmp_path), images()) == STEPS


# How it is read


def truncate(folder: Path) -> None:
    path = folder / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def lose_a_file(folder: Path) -> None:
    (folder / "shadow-ema.safetensors").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def garble_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1]")


DAMAGES: list[Callable[[Path], None]] = [truncate, flip_a_bit, lose_a_file, lose_the_manifest, garble_the_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_broken_newest_checkpoint_is_passed_over(
    tmp_path: Path, finished: Path, damage: Callable[[Path], None]
) -> None:
    train(CONFIGURATION, run_options(tmp_path, until=8), images())
    damage(tmp_path / "checkpoints/step-00000008")
    with pytest.warns(UserWarning, match="step-00000004 is used instead"):
        assert load_run(tmp_path)[2] == 4
    recorder = Recorder()
    with pytest.warns(UserWarning, match="step-00000004 is used instead"):
        train(CONFIGURATION, run_options(tmp_path), images(), [recorder])
    assert recorder.events[0] == ("started", 4)
    assert stored(tmp_path) == stored(finished)
    assert (tmp_path / "checkpoints/corrupt-step-00000008").is_dir()


def test_where_none_is_whole_nothing_is_changed(tmp_path: Path) -> None:
    train(CONFIGURATION, run_options(tmp_path, until=8), images())
    for folder in checkpoints(tmp_path):
        truncate(folder)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is whole; nothing was changed"):
        train(CONFIGURATION, run_options(tmp_path), images())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"} == before


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, contents(1, torch.ones(1)))
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(with_checksum({**manifest, "format": 2})))
    with pytest.raises(CheckpointError, match="has the format 2; allowed: 1"):
        verify(folder)


@pytest.mark.parametrize("within", [".", "checkpoints/step-00000012"])
def test_a_run_is_loaded_from_either_folder(finished: Path, within: str) -> None:
    folder = finished / "checkpoints/step-00000012"
    for shadow, file in (
        (None, "weights"),
        ("raw", "weights"),
        ("swa", "shadow-swa"),
        ("power-0.05", "shadow-power-0.05"),
    ):
        configuration, weights, step = load_run(finished / within, shadow)
        expected = load_file(folder / f"{file}.safetensors")
        assert (configuration, step) == (CONFIGURATION, STEPS)
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
    with pytest.raises(ValueError, match=r"shadow is 'ma'; allowed: one of 'raw', 'ema', 'power-0\.05'"):
        load_run(finished / within, "ma")


def test_an_average_that_has_not_begun_is_not_there(tmp_path: Path) -> None:
    train(CONFIGURATION, run_options(tmp_path, until=4), images())
    with pytest.raises(ValueError, match="shadow is 'swa'; allowed: one of 'raw', 'ema'"):
        load_run(tmp_path, "swa")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_run(tmp_path / "checkpoints")


def test_snapshots_are_evenly_spaced_to_the_end() -> None:
    steps = sorted(snapshot_steps(200_000))
    assert steps == list(range(12_500, 200_001, 12_500))
    assert len(steps) == SNAPSHOTS
    assert snapshot_steps(3) == {1, 2, 3}
    assert snapshot_steps(0) == frozenset()


def test_an_average_is_reconstructed_from_the_snapshots(finished: Path) -> None:
    snapshots = load_snapshots(finished)
    assert len(snapshots) == 2 * STEPS  # a run shorter than SNAPSHOTS has one after every step
    for width in (0.05, 0.1):
        _, tracked, _ = load_run(finished, f"power-{width}")
        average = reconstruct(snapshots, PowerEMA.of_width(width))
        # A snapshot itself is asked for: float32's rounding, times coefficients that sum to 1
        assert all(torch.allclose(average[name], tracked[name], rtol=1e-5, atol=1e-7) for name in tracked)
    with pytest.raises(ValueError, match="holds no snapshots"):
        load_snapshots(finished / "checkpoints")
