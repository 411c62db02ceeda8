"""The held-out loss against the same loss by hand, its timesteps, and that it leaves the run alone."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from experiments.data import to_float
from experiments.diffusion import Process
from experiments.training.metrics import FILE, Metrics
from experiments.training.validation import KIND, Batch, HeldOut, HeldOutLoss, fixed_batch, measured
from flatness.passes import tf32
from tests.experiments.training.small_runs import configured, images
from tests.experiments.training.watched_state import check_leaves_alone, report, state_of

Measure = Callable[[nn.Module, Process, Batch], HeldOut]


@torch.no_grad()
def by_hand(model: nn.Module, process: Process, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses and squared errors, image by image."""
    model.eval()
    rows = []
    for x_0, t, noise in zip(batch.x_0, batch.t, batch.noise, strict=True):
        bar = process.alphas_cumprod[t]
        x_t = (bar.sqrt() * x_0 + (1 - bar).sqrt() * noise).float()
        arguments = (x_0[None], x_t[None], t[None], noise[None])
        losses = process.losses(model(x_t[None], torch.tensor([process.timesteps[t]])), *arguments)
        rows.append(torch.stack([losses.loss[0], losses.mse[0]]))
    loss, mse = torch.stack(rows, dim=1).double()
    return loss, mse


def test_it_is_the_mean_loss_without_dropout_and_its_standard_error(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    batch = fixed_batch(images(), state.process, 10, seed=3)
    held_out = measured(state.model, state.process, batch, at_once=4)
    loss, mse = by_hand(state.model, state.process, batch)
    # float32 sums of 16 pixels and some 1e3 terms within the network, in another order
    tolerance = 1e-4
    assert held_out.loss == pytest.approx(float(loss.mean()), rel=tolerance)
    assert held_out.mse == pytest.approx(float(mse.mean()), rel=tolerance)
    assert held_out.loss_standard_error == pytest.approx(float(loss.std()) / math.sqrt(10), rel=tolerance)
    assert held_out.mse_standard_error == pytest.approx(float(mse.std()) / math.sqrt(10), rel=tolerance)


def test_images_timesteps_and_noise_are_fixed_and_stratified() -> None:
    process = Process(dataclasses.replace(configured().process, steps=1000))
    torch.manual_seed(1)
    first = fixed_batch(images(), process, 40, seed=0)
    torch.manual_seed(2)
    again, other = fixed_batch(images(), process, 40, seed=0), fixed_batch(images(), process, 40, seed=1)
    assert all(torch.equal(getattr(first, n), getattr(again, n)) for n in ("x_0", "t", "noise"))
    assert not torch.equal(first.noise, other.noise)
    assert not torch.equal(first.t, other.t)
    assert (first.t // 25).tolist() == list(range(40))  # one in each fortieth of 1000
    every = to_float(images().pixels)
    assert torch.equal(first.x_0.flatten(1).sum(1).sort().values, every.flatten(1).sum(1).sort().values)


@pytest.mark.parametrize("count", [0, 41, True])
def test_counts_that_do_not_fit_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="count is"):
        fixed_batch(images(), Process(configured().process), count, seed=0)


def test_it_leaves_the_run_alone(tmp_path: Path) -> None:
    state = state_of(tmp_path)
    batch = fixed_batch(images(), state.process, 10, seed=0)
    check_leaves_alone(state, lambda: measured(state.model, state.process, batch))


def forgets_the_modes(model: nn.Module, process: Process, batch: Batch) -> None:
    by_hand(model, process, batch)


def puts_all_into_training(model: nn.Module, process: Process, batch: Batch) -> None:
    by_hand(model, process, batch)
    model.train()


def draws_from_the_default_generator(model: nn.Module, process: Process, batch: Batch) -> None:
    measured(model, process, dataclasses.replace(batch, noise=torch.randn(batch.noise.shape)))


@pytest.mark.parametrize("mutant", [forgets_the_modes, puts_all_into_training, draws_from_the_default_generator])
def test_the_check_finds_out_mutants(tmp_path: Path, mutant: Callable[[nn.Module, Process, Batch], None]) -> None:
    state = state_of(tmp_path)
    batch = fixed_batch(images(), state.process, 10, seed=0)
    with pytest.raises(AssertionError):
        check_leaves_alone(state, lambda: mutant(state.model, state.process, batch))


def test_the_watcher_writes_raw_and_ema_when_it_is_time_and_once(tmp_path: Path) -> None:
    state, metrics = state_of(tmp_path, sample_every=2), Metrics()
    watcher = HeldOutLoss(images(), metrics)

    def run() -> None:
        metrics.started(state, 0)
        watcher.started(state, 0)
        for step in (1, 2, 3, 4):
            watcher.stepped(state, report(step))
        watcher.saved(state, 4, 0.0)
        watcher.finished(state, 4)
        metrics.close()

    check_leaves_alone(state, run)
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [(line["kind"], line["step"], line["images"]) for line in lines] == [
        ("held_out", 0, 40),
        ("held_out", 2, 40),
        ("held_out", 4, 40),
    ]
    batch = fixed_batch(images(), state.process, 40, seed=0)
    for name, model in (("raw", state.model), ("ema", state.shadows["ema"])):
        assert lines[0][name] == dataclasses.asdict(measured(model, state.process, batch))
    assert lines[0]["raw"]["loss"] != lines[0]["ema"]["loss"]


def lines_of(out: Path) -> list[tuple[str, int]]:
    return [(line["kind"], line["step"]) for line in map(json.loads, (out / FILE).read_text().splitlines())]


def test_a_signal_leaves_no_time_and_the_resumed_run_makes_up_for_it(tmp_path: Path) -> None:
    state = state_of(tmp_path, sample_every=4)
    for stopped in (True, False):
        metrics = Metrics()
        watcher = HeldOutLoss(images(), metrics, count=5)
        begins = dataclasses.replace(state, interrupted=False)
        metrics.started(begins, 0 if stopped else 4)
        watcher.started(begins, 0 if stopped else 4)
        if stopped:
            interrupted = dataclasses.replace(state, interrupted=True)
            watcher.stepped(interrupted, report(4))
            watcher.finished(interrupted, 4)
            assert lines_of(tmp_path) == [(KIND, 0)]
        metrics.close()
    assert lines_of(tmp_path) == [(KIND, 0), (KIND, 4)]


def test_it_is_measured_in_whole_float32(tmp_path: Path) -> None:
    state, seen = state_of(tmp_path), []
    state.model.register_forward_pre_hook(lambda *_: seen.append(tf32()))
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        measured(state.model, state.process, fixed_batch(images(), state.process, 2, seed=0))
    assert seen == [{"matmul": False, "cudnn": False}]


def test_without_sample_grids_it_measures_at_the_end_alone(tmp_path: Path) -> None:
    state, metrics = state_of(tmp_path, sample_every=0), Metrics()
    watcher = HeldOutLoss(images(), metrics, count=5)
    metrics.started(state, 0)
    watcher.started(state, 0)
    watcher.stepped(state, report(1))
    watcher.finished(state, 1)
    metrics.close()
    assert [json.loads(line)["step"] for line in (tmp_path / FILE).read_text().splitlines()] == [1]
