"""Whole runs: what watchers are told, what a run depends on, how it ends, and that it goes on where it was."""

import contextlib
import dataclasses
import errno
import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from experiments.configuration import Configuration, SAMOptions
from experiments.training.checkpoints import CheckpointError, checkpoints, read_configuration
from experiments.training.events import RunState, StepReport
from experiments.training.metrics import FILE, Metrics
from experiments.training.run_folder import held
from experiments.training.step import TrainingStep
from experiments.training.trainer import train
from experiments.training.validation import HeldOutLoss, SampleGrids
from findings.checksums import checked
from flatness.passes import tf32
from tests.experiments.training.small_runs import BASE, STEPS, Recorder, configured, images, run_options, stored

EVERYTHING = configured(
    dropout=0.3,
    method="ip+sam",
    timestep_weights="second-moment",
    sam=SAMOptions(rho=0.05, sam_schedule="every-k", every=2),
)


def test_watchers_are_told_of_every_step_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    c = configured(method="sam", sam=SAMOptions(sam_schedule="late", late_start=0.75))
    assert train(c, run_options(tmp_path, checkpoint_every=5), images(), [recorder]) == STEPS
    assert [report.step for report in recorder.reports] == list(range(1, STEPS + 1))
    assert recorder.events == [("started", 0), ("saved", 5), ("saved", 10), ("saved", STEPS), ("finished", STEPS)]
    for report in recorder.reports:
        assert report.loss == pytest.approx(report.mse + report.vb, rel=1e-6)
        assert (report.perturbed_loss is not None) == (report.step > 9)
        assert report.images == 8
        assert 0 <= report.seconds_waited <= report.seconds
    assert recorder.reports[-1].mse < recorder.reports[0].mse


class Meddler(Recorder):
    """Draws from torch's default generator between steps."""

    def stepped(self, state: RunState, report: StepReport) -> None:
        torch.rand(report.step)


def test_a_run_depends_on_its_configuration_alone_and_leaves_torchs_generators(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        for name, seed in (("a", 1), ("b", 2)):
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            train(EVERYTHING, run_options(tmp_path / name), images(), [Recorder()])
            assert torch.equal(torch.get_rng_state(), before)
        train(EVERYTHING, run_options(tmp_path / "c"), images(), [Meddler()])
    assert stored(tmp_path / "a") == stored(tmp_path / "b")
    train(configured(dropout=0.3, seed=1), run_options(tmp_path / "other"), images())
    assert stored(tmp_path / "other")["weights.safetensors"] != stored(tmp_path / "a")["weights.safetensors"]


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    train(EVERYTHING, run_options(tmp_path / "whole"), images())
    recorder = Recorder()
    for until in (5, 6, None):
        reached = train(EVERYTHING, run_options(tmp_path / "parts", until=until), images(), [recorder])
        assert reached == (until or STEPS)
    assert [event for event in recorder.events if event[0] == "started"] == [
        ("started", 0),
        ("started", 5),
        ("started", 6),
    ]
    assert [report.step for report in recorder.reports] == list(range(1, STEPS + 1))
    whole = stored(tmp_path / "whole")
    assert whole == stored(tmp_path / "parts")
    assert {"weights.safetensors", "optimizer.safetensors", "shadow-ema.safetensors", "shadow-swa.safetensors"} <= set(
        whole
    )
    assert len(list((tmp_path / "parts" / "snapshots").iterdir())) == 2 * STEPS


def test_an_ema_that_starts_later_and_warms_up_is_the_average_by_hand_resumed_or_not(tmp_path: Path) -> None:
    averages = dataclasses.replace(BASE.averages, ema_start=0.5, ema_warmup=0.75)
    c = configured(averages=averages)
    points = tuple(range(1, STEPS + 1))
    train(c, run_options(tmp_path / "whole", points=points), images())
    for until in (3, 8, None):  # before its start and after it
        train(c, run_options(tmp_path / "parts", until=until), images())
    assert stored(tmp_path / "whole") == stored(tmp_path / "parts")
    expected: dict[str, torch.Tensor] = {}
    for step in points:
        folder = tmp_path / "whole" / "points" / f"step-{step:08d}"
        weights, average = (load_file(folder / name) for name in ("weights.safetensors", "shadow-ema.safetensors"))
        decay = 0.0 if step <= STEPS // 2 else min(0.9, 1 - (step - STEPS // 2) ** -0.75)
        expected = {name: torch.lerp(expected.get(name, w), w, 1 - decay) for name, w in weights.items()}
        for name, w in expected.items():
            torch.testing.assert_close(average[name], w, rtol=1e-6, atol=1e-7)


def test_a_run_of_an_earlier_version_goes_on_and_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(BASE, run_options(tmp_path / "whole"), images())

    def of_version_2(c: Configuration) -> dict[str, Any]:
        form: dict[str, Any] = {"version": 2, **dataclasses.asdict(c)}
        del form["averages"]["ema_start"], form["averages"]["ema_warmup"]
        return form

    with monkeypatch.context() as earlier:
        earlier.setattr(Configuration, "to_dict", of_version_2)
        train(BASE, run_options(tmp_path / "parts", until=5), images())
    assert read_configuration(tmp_path / "parts/checkpoints/step-00000005") == BASE
    assert train(BASE, run_options(tmp_path / "parts"), images()) == STEPS
    assert stored(tmp_path / "parts") == stored(tmp_path / "whole")
    later = dataclasses.replace(BASE, averages=dataclasses.replace(BASE.averages, ema_start=0.5))
    with pytest.raises(CheckpointError, match=r"averages.ema_start: 0\.0, 0\.5"):
        train(later, run_options(tmp_path / "parts"), images())


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    train(configured(), run_options(tmp_path), images())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*")}
    assert train(configured(), run_options(tmp_path), images()) == STEPS
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "checkpoints").rglob("*")} == before


class Killer(Recorder):
    """Sends this process a signal within a step's report."""

    def __init__(self, number: signal.Signals, step: int) -> None:
        super().__init__()
        self.number, self.step = number, step

    def stepped(self, state: RunState, report: StepReport) -> None:
        if report.step == self.step:
            os.kill(os.getpid(), self.number)

    def finished(self, state: RunState, step: int) -> None:
        super().finished(state, step)
        self.interrupted = state.interrupted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    assert threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(number)
    killer = Killer(number, 5)
    assert train(EVERYTHING, run_options(tmp_path / "stopped"), images(), [killer]) == 5
    assert killer.events[-2:] == [("saved", 5), ("finished", 5)]
    assert killer.interrupted
    assert signal.getsignal(number) is handler
    assert train(EVERYTHING, run_options(tmp_path / "stopped"), images()) == STEPS
    unhurried = Killer(number, -1)
    train(EVERYTHING, run_options(tmp_path / "whole"), images(), [unhurried])
    assert not unhurried.interrupted
    assert stored(tmp_path / "stopped") == stored(tmp_path / "whole")


def test_a_signal_skips_measuring_and_sampling_until_the_run_goes_on(tmp_path: Path) -> None:
    options = run_options(tmp_path, log_every=2, sample_every=5)
    for killers, held_out, grids in (([Killer(signal.SIGTERM, 5)], [0], []), ([], [0, 5, 10, 12], [5, 10, 12])):
        metrics = Metrics()
        # A watcher that was told of the signal's step before it came would have measured
        train(configured(), options, images(), [*killers, metrics, HeldOutLoss(images(), metrics, 4), SampleGrids(1)])
        metrics.close()
        lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
        assert [line["step"] for line in lines if line["kind"] == "held_out"] == held_out
        assert [path.name for path in sorted(tmp_path.glob("samples/*"))] == [f"step-{s:08d}.png" for s in grids]
    assert [line["step"] for line in lines if line["kind"] == "train"] == [2, 4, 6, 8, 10, 12]


class Failing(Recorder):
    """Fails once, at a step or when it begins."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step: int | None = step

    def started(self, state: RunState, step: int) -> None:
        self.fail_at(step)

    def stepped(self, state: RunState, report: StepReport) -> None:
        self.fail_at(report.step)

    def fail_at(self, step: int) -> None:
        if step == self.step:
            self.step = None
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", [0, 6, STEPS])
def test_a_watchers_error_loses_no_step_and_no_line(tmp_path: Path, step: int) -> None:
    failing = Failing(step)
    written = []
    for name, attempts in (("whole", [False]), ("failed", [True, False])):
        for fails in attempts:
            metrics = Metrics()
            held_out, grids = HeldOutLoss(images(), metrics, 4), SampleGrids(1)
            options = run_options(tmp_path / name, checkpoint_every=100, log_every=3, sample_every=6)
            # Metrics are told of the step before the error, the others are not
            expected = pytest.raises(OSError, match="No space") if fails else contextlib.nullcontext()
            with expected:
                train(EVERYTHING, options, images(), [metrics, *([failing] if fails else []), held_out, grids])
            metrics.close()
            if fails:
                assert [path.name for path in checkpoints(tmp_path / name)] == ([f"step-{step:08d}"] if step else [])
        lines = [json.loads(line) for line in (tmp_path / name / FILE).read_text().splitlines()]
        for line in lines:
            checked(line), line.pop("checksum")
            line.pop("images_per_second", None), line.pop("share_waiting_for_data", None)
        written.append(sorted(lines, key=lambda line: (line["step"], line["kind"])))
    assert written[0] == written[1]
    assert stored(tmp_path / "whole") == stored(tmp_path / "failed")
    grids_of = [sorted(p.name for p in (tmp_path / name / "samples").iterdir()) for name in ("whole", "failed")]
    assert grids_of[0] == grids_of[1]


def test_a_watchers_error_comes_before_those_it_brings_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space for the checkpoint")

    monkeypatch.setattr("experiments.training.checkpoints.write_checkpoint", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        train(configured(), run_options(tmp_path), images(), [Failing(2)])
    assert "No space for the checkpoint" in "".join(caught.value.__notes__)


def test_training_is_in_whole_float32_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, make = [], TrainingStep.__call__

    def watched(self: TrainingStep, *arguments: object) -> object:
        seen.append(tf32())
        return make(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingStep, "__call__", watched)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        train(configured(), run_options(tmp_path, until=1), images())
        assert torch.backends.cudnn.allow_tf32
    assert seen == [{"matmul": False, "cudnn": False}]
    assert json.loads((tmp_path / "checkpoints/step-00000001/state.json").read_bytes())["tf32"] == seen[0]


def test_a_second_interrupt_is_immediate(tmp_path: Path) -> None:
    class Impatient(Killer):
        def stepped(self, state: RunState, report: StepReport) -> None:
            for _ in range(2):
                os.kill(os.getpid(), self.number)
            pytest.fail("the second interrupt was swallowed")

    with pytest.raises(KeyboardInterrupt):
        train(configured(), run_options(tmp_path), images(), [Impatient(signal.SIGINT, 1)])


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("method", ["adm", "sam"])
def test_what_is_not_finite_ends_the_run_and_is_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, method: str
) -> None:
    make = TrainingStep.__call__

    def spoilt(self: TrainingStep, step: int, *rest: object) -> object:
        if step == 5:
            output = self.network.out[2].weight  # type: ignore[index, union-attr]
            if where == "gradient":
                output.register_hook(lambda g: g * torch.inf)
            else:
                output.data[0, 0, 0, 0] = torch.nan
        return make(self, step, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainingStep, "__call__", spoilt)
    with pytest.raises(FloatingPointError, match=r"step 6 .*the last good checkpoint is .*step-00000004"):
        train(configured(method=method), run_options(tmp_path), images())
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000004"]


def test_another_configuration_or_other_data_is_refused(tmp_path: Path) -> None:
    train(configured(), run_options(tmp_path, until=4), images())
    with pytest.raises(CheckpointError, match=r"another configuration(.|\n)*learning_rate: 0.001, 0.002"):
        train(configured(learning_rate=0.002), run_options(tmp_path), images())
    with pytest.raises(CheckpointError, match=r"trained on other data: sha256:0+, not sha256:1"):
        train(configured(), run_options(tmp_path), images("sha256:" + "1" * 64))
    assert [path.name for path in checkpoints(tmp_path)] == ["step-00000004"]


def test_a_folder_is_trained_in_by_one_process_at_a_time(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(CheckpointError, match=f"by another process: process {os.getpid()} on"):
        train(configured(), run_options(tmp_path), images())
    assert train(configured(), run_options(tmp_path, until=1), images()) == 1


def test_what_cannot_be_trained_is_refused_before_the_folder_is_touched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images are .*'fashion-mnist', 1, 4.*'cifar10', 1, 4"):
        train(configured(dataset="cifar10"), run_options(tmp_path / "run"), images())
    for own, message in (({"until": 10**6}, "until is 1000000"), ({"points": (1, 10**6)}, r"points is \(1, 1000000\)")):
        with pytest.raises(ValueError, match=message):
            train(configured(), run_options(tmp_path / "run", **own), images())
    assert not (tmp_path / "run").exists()
