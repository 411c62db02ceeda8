"""Sample grids: where each image stands, that the noise is always the same, and that the run is left alone."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from experiments.diffusion import Process
from experiments.training.validation import FOLDER, GAP, SampleGrids, grid, samples
from flatness.passes import tf32
from tests.experiments.training.watched_state import check_leaves_alone, report, state_of

SHAPE = (3, 1, 4, 4)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_row_by_row_with_gaps(channels: int) -> None:
    levels = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])
    images = levels.view(5, 1, 1, 1).repeat(1, channels, 4, 4)
    images[3, 0, 0, 1] = -2.0  # beyond the range, and told apart from its neighbours
    sheet = np.asarray(grid(images, columns=3)).reshape(8 + GAP, 12 + 2 * GAP, channels)
    expected = [0, 64, 128, 191, 255]
    for index, level in enumerate(expected):
        top, left = index // 3 * (4 + GAP), index % 3 * (4 + GAP)
        block = sheet[top : top + 4, left : left + 4].copy()
        if index == 3:
            assert block[0, 1, 0] == 0
            block[0, 1, 0] = level
        assert (block == level).all()
    assert (sheet[4 : 4 + GAP] == 255).all()
    assert (sheet[4 + GAP :, 8 + 2 * GAP :] == 255).all()  # the place of a sixth


def test_samples_are_a_function_of_model_and_seed(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    torch.manual_seed(1)
    first = samples(state.model, state.process, SHAPE, steps=2, seed=0)
    torch.manual_seed(2)
    assert torch.equal(samples(state.model, state.process, SHAPE, steps=2, seed=0), first)
    assert not torch.equal(samples(state.model, state.process, SHAPE, steps=2, seed=1), first)
    assert not torch.equal(samples(state.shadows["ema"], state.process, SHAPE, steps=2, seed=0), first)
    # A process of 3 steps, respaced to 20 at most
    assert samples(state.model, state.process, SHAPE, steps=20).shape == SHAPE


def forgets_the_modes(model: nn.Module, process: Process) -> None:
    model.eval()
    samples(model, process, SHAPE)


def seeds_torch(model: nn.Module, process: Process) -> None:
    torch.manual_seed(0)
    samples(model, process, SHAPE)


def test_sampling_leaves_the_run_alone(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    check_leaves_alone(state, lambda: samples(state.model, state.process, SHAPE))


@pytest.mark.parametrize("mutant", [forgets_the_modes, seeds_torch])
def test_the_check_finds_out_mutants(tmp_path: Path, mutant: Callable[[nn.Module, Process], None]) -> None:
    state = state_of(tmp_path)
    with pytest.raises(AssertionError):
        check_leaves_alone(state, lambda: mutant(state.model, state.process))


def test_the_watcher_draws_the_ema_when_it_is_time(tmp_path: Path) -> None:
    state, watcher = state_of(tmp_path, sample_every=2), SampleGrids(side=2)

    def run() -> None:
        watcher.started(state, 0)
        for step in (1, 2, 3):
            watcher.stepped(state, report(step))
        watcher.saved(state, 3, 0.0)
        watcher.finished(state, 3)

    check_leaves_alone(state, run)
    files = sorted(tmp_path.rglob("*"))
    names = ["step-00000002.png", "step-00000003.png"]
    assert files == [tmp_path / FOLDER, *(tmp_path / FOLDER / name for name in names)]  # and nothing half written
    expected = grid(samples(state.shadows["ema"], state.process, (4, 1, 4, 4)), columns=2)
    for path in files[1:]:
        with Image.open(path) as picture:
            assert (np.asarray(picture) == np.asarray(expected)).all()


def test_a_signal_leaves_no_time_and_the_resumed_run_makes_up_for_it(tmp_path: Path) -> None:
    state, watcher = state_of(tmp_path, sample_every=2), SampleGrids(side=1)
    interrupted = dataclasses.replace(state, interrupted=True)
    watcher.stepped(interrupted, report(2))
    watcher.finished(interrupted, 2)
    assert not list(tmp_path.iterdir())
    SampleGrids(side=1).started(state, 3)  # a step without a grid
    assert not list(tmp_path.iterdir())
    SampleGrids(side=1).started(state, 2)
    path = tmp_path / FOLDER / "step-00000002.png"
    written = path.stat().st_mtime_ns
    SampleGrids(side=1).started(state, 2)
    assert path.stat().st_mtime_ns == written


def test_they_are_sampled_in_whole_float32(tmp_path: Path) -> None:
    state, seen = state_of(tmp_path), []
    state.model.register_forward_pre_hook(lambda *_: seen.append(tf32()))
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        samples(state.model, state.process, SHAPE, steps=1)
    assert seen == [{"matmul": False, "cudnn": False}]


def test_none_are_drawn_where_none_are_asked_for(tmp_path: Path) -> None:
    state, watcher = state_of(tmp_path, sample_every=0), SampleGrids(side=2)
    watcher.started(state, 0)
    watcher.stepped(state, report(1))
    watcher.finished(state, 1)
    assert not list(tmp_path.iterdir())
