"""Weights put aside along a run for measuring: they stay, are whole, and change nothing of the run."""

from pathlib import Path

import pytest
import torch

from experiments.training.checkpoints import CheckpointError, checkpoints, load_run, point_folder, verify
from experiments.training.trainer import train
from tests.experiments.training.small_runs import STEPS, configured, images, run_options, stored

POINTS = (2, 5, 9, 12)
SWA_BEGINS = 6


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("points")
    train(configured(method="rwp"), run_options(out, points=POINTS), images())
    return out


def test_points_stay_beside_the_two_checkpoints(finished: Path) -> None:
    assert [path.name for path in checkpoints(finished)] == ["step-00000012", "step-00000008"]
    assert sorted(path.name for path in (finished / "points").iterdir()) == [f"step-{step:08d}" for step in POINTS]


@pytest.mark.parametrize("step", POINTS)
def test_a_point_is_read_as_a_checkpoint_is(finished: Path, step: int) -> None:
    folder = point_folder(finished, step)
    assert verify(folder)["step"] == step
    averages = ["raw", "ema"] + ["swa"] * (step > SWA_BEGINS)
    assert sorted(path.name for path in folder.glob("*.safetensors")) == sorted(
        "weights.safetensors" if name == "raw" else f"shadow-{name}.safetensors" for name in averages
    )
    for name in averages:
        configuration, _, steps = load_run(folder, name)
        assert (configuration, steps) == (configured(method="rwp"), step)


def test_the_last_point_is_the_last_checkpoint(finished: Path) -> None:
    for name in ("raw", "ema", "swa"):
        point, last = load_run(point_folder(finished, STEPS), name)[1], load_run(finished, name)[1]
        assert all(torch.equal(point[key], last[key]) for key in last)
    assert not torch.equal(
        *(load_run(point_folder(finished, step))[1]["out.2.weight"] for step in (POINTS[0], POINTS[-1]))
    )


def test_points_change_nothing_of_a_run(finished: Path, tmp_path: Path) -> None:
    train(configured(method="rwp"), run_options(tmp_path), images())
    assert stored(tmp_path) == stored(finished)
    assert not (tmp_path / "points").exists()


def test_a_resumed_run_has_the_points_and_weights_of_an_uninterrupted_one(finished: Path, tmp_path: Path) -> None:
    for until in (5, None):
        train(configured(method="rwp"), run_options(tmp_path, points=POINTS, until=until), images())
    assert stored(tmp_path) == stored(finished)
    for step in POINTS:
        of = [point_folder(out, step) / "weights.safetensors" for out in (tmp_path, finished)]
        assert of[0].read_bytes() == of[1].read_bytes()


def test_points_that_a_run_has_passed_are_refused_unless_they_are_there(tmp_path: Path) -> None:
    train(configured(method="adm"), run_options(tmp_path, points=(2,), until=3), images())
    with pytest.raises(CheckpointError, match=r"points is \(1, 2\).*come to step 3 without .* weights of 1; allowed"):
        train(configured(method="adm"), run_options(tmp_path, points=(1, 2)), images())
    assert train(configured(method="adm"), run_options(tmp_path, points=(2, 4), until=4), images()) == 4
    assert point_folder(tmp_path, 4).exists()


def test_a_damaged_point_is_refused(finished: Path, tmp_path: Path) -> None:
    train(configured(method="adm"), run_options(tmp_path, points=(3,), until=3), images())
    path = point_folder(tmp_path, 3) / "shadow-ema.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="not the contents"):
        load_run(path.parent, "ema")


def test_a_subset_is_drawn_by_the_seed_and_trained_on_alone(tmp_path: Path) -> None:
    whole = images()
    first, second, larger = whole.drawn(9, 0), whole.drawn(9, 1), whole.drawn(12, 0)
    assert torch.equal(first.pixels, larger.pixels[:9])
    assert not torch.equal(first.pixels, second.pixels)
    assert first.fingerprint == whole.fingerprint
    train(configured(training_images=9, seed=1), run_options(tmp_path / "chosen"), whole)
    train(configured(seed=1), run_options(tmp_path / "given"), second)
    assert stored(tmp_path / "chosen") == stored(tmp_path / "given")


@pytest.mark.parametrize("count", [0, 41])
def test_a_subset_is_no_larger_than_the_split(count: int) -> None:
    with pytest.raises(ValueError, match="count is"):
        images().drawn(count, 0)


def test_a_run_on_more_images_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training_images is 41"):
        train(configured(training_images=41), run_options(tmp_path / "out"), images())
    assert not (tmp_path / "out").exists()
