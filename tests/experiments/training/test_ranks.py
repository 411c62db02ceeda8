"""Two gloo processes on the CPU against one process on the same global batch.

The processes run this file as a script and meet through a file (no port).
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from experiments.configuration import Configuration, SAMOptions
from experiments.training.checkpoints import Contents, checkpoint_folder, checkpoints, step_of, verify, write_checkpoint
from experiments.training.events import RunState, StepReport, Watcher
from experiments.training.step import StepLosses, TrainingStep
from experiments.training.trainer import train
from tests.experiments.training.by_hand import ROUNDING, apart, by_hand
from tests.experiments.training.small_runs import (
    GRADIENT_ROUNDING,
    STEPS,
    Recorder,
    configured,
    gradient_difference,
    images,
    run_options,
    stored,
)
from tests.ranks import join, run_script

RANKS = 2
TIMEOUT = 200
LOCAL = SAMOptions(rho=0.05, ascent_gradients="local")
# Those that one process makes alike: without dropout, whose numbers are each rank's own
ALIKE: dict[str, tuple[Configuration, int | None]] = {
    "plain": (configured(), None),
    "sam": (configured(method="sam"), None),
    "everything": (configured(method="ip+sam", timestep_weights="second-moment"), 3),
}
OTHERS: dict[str, tuple[Configuration, int | None]] = {
    "local": (configured(method="sam", sam=LOCAL), 3),
    "dropout": (configured(dropout=0.5, method="sam"), None),
}


# What each process runs.


def spoiling(step_to_spoil: int, spoil: Callable[[TrainingStep], None]) -> None:
    """Have something happen before a step."""
    make = TrainingStep.__call__

    def spoilt(self: TrainingStep, step: int, *rest: Any) -> StepLosses:
        if step == step_to_spoil:
            spoil(self)
        return make(self, step, *rest)

    pytest.MonkeyPatch().setattr(TrainingStep, "__call__", spoilt)


def not_finite(step: TrainingStep) -> None:
    step.network.get_parameter("out.2.bias").register_hook(lambda g: g * torch.inf)


def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch.compile trace as ever but build nothing, for which CI may lack a compiler."""
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: whole(network, backend="eager"))


def note_error(folder: Path, name: str, configuration: Configuration, watchers: Sequence[Watcher] = ()) -> None:
    """A run that fails; what each rank says of it."""
    rank = torch.distributed.get_rank()
    try:
        train(configuration, run_options(folder / name), images(), watchers)
    except Exception as error:
        (folder / f"{name} {rank}").write_text(f"{type(error).__name__}: {error}")


class Failing(Recorder):
    """Fails at a step, or at 0 when training begins, or at -1 when it has ended."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def started(self, state: RunState, step: int) -> None:
        self.fail_at(0)

    def stepped(self, state: RunState, report: StepReport) -> None:
        self.fail_at(report.step)

    def finished(self, state: RunState, step: int) -> None:
        self.fail_at(-1)

    def fail_at(self, step: int) -> None:
        if step == self.step:
            raise OSError(f"no grid at {step}")


def slow_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a checkpoint take long enough for whoever does not wait for it to be gone."""

    def slow(out: Path, contents: Contents) -> Path:
        time.sleep(0.5)
        return write_checkpoint(out, contents)

    monkeypatch.setattr("experiments.training.checkpoints.write_checkpoint", slow)


def fails_to_write(out: Path, contents: Contents) -> Path:
    raise OSError("the disk is full")


def run_rank(rank: int, folder: Path) -> None:
    join(rank, RANKS, folder)
    for name, (configuration, micro_batch) in (ALIKE | OTHERS).items():
        assert train(configuration, run_options(folder / name, micro_batch=micro_batch), images()) == STEPS
    c, micro_batch = ALIKE["everything"]
    for until in (5, None):
        train(c, run_options(folder / "resumed", micro_batch=micro_batch, until=until), images())
    train(OTHERS["local"][0], run_options(folder / "four", micro_batch=3, until=4), images())
    with pytest.MonkeyPatch.context() as patched:
        eager(patched)
        train(ALIKE["sam"][0], run_options(folder / "compiled", compile=True), images())
    if rank == 0:
        shutil.copytree(folder / "plain", folder / "refused")
    note_error(folder, "refused", configured(seed=9))
    for step in (-1, 0, 6, STEPS):
        note_error(folder, f"watcher at {step}", configured(), [Failing(step)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("experiments.training.checkpoints.write_checkpoint", fails_to_write)
        note_error(folder, "unwritten", configured())
    # One rank alone is told to stop, then has a gradient that is not finite; both act
    if rank == 1:
        spoiling(5, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        spoiling(8, not_finite)
    with pytest.MonkeyPatch.context() as patched:
        slow_writing(patched)
        assert train(configured(), run_options(folder / "stopped"), images()) == 6
        # No rank leaves, which would have the launcher end all, before the checkpoint is there
        assert verify(checkpoint_folder(folder / "stopped", 6))["step"] == 6
        note_error(folder, "stopped", configured())
        assert verify(checkpoint_folder(folder / "stopped", 8))["step"] == 8
    torch.distributed.destroy_process_group()


# What the tests compare it with.


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes have made."""
    folder = tmp_path_factory.mktemp("ranks")
    run_script(__file__, folder, RANKS, TIMEOUT, options=("-W", "error"))
    return folder


@pytest.mark.parametrize("name", ALIKE)
def test_two_ranks_make_the_weights_of_one_process(ranks: Path, tmp_path: Path, name: str) -> None:
    train(ALIKE[name][0], run_options(tmp_path), images())
    assert gradient_difference(tmp_path, ranks / name) <= GRADIENT_ROUNDING
    for other in {"plain", "sam", "everything", "local", "dropout"} - {name}:
        assert gradient_difference(tmp_path, ranks / other) > 10 * GRADIENT_ROUNDING


def test_two_ranks_resume_bit_for_bit(ranks: Path) -> None:
    assert stored(ranks / "resumed") == stored(ranks / "everything")


def test_each_rank_climbs_its_own_gradient_accumulated(ranks: Path) -> None:
    """Three images and one, on each of two ranks."""
    stored_moments = load_file(checkpoint_folder(ranks / "four", 4) / "optimizer.safetensors")
    expected = by_hand(4, ranks=2, method="sam", sam=LOCAL)
    moments = {name: stored_moments[f"{name}.exp_avg"] for name in expected}
    assert apart(expected, moments) <= ROUNDING
    assert apart(by_hand(4, method="sam", sam=LOCAL), moments) > 100 * ROUNDING  # the averaged gradient's ascent


def test_ranks_of_a_compiled_network_make_the_same_weights(ranks: Path) -> None:
    assert gradient_difference(ranks / "sam", ranks / "compiled") <= GRADIENT_ROUNDING


def test_all_ranks_are_refused_together(ranks: Path) -> None:
    assert "seed: 0, 9" in (ranks / "refused 0").read_text()
    assert (ranks / "refused 1").read_text() == "CheckpointError: rank 0 cannot begin; its error says why"


@pytest.mark.parametrize(("step", "saved"), [(-1, STEPS), (0, None), (6, 6), (STEPS, STEPS)])
def test_a_watchers_error_ends_all_ranks_and_loses_no_step(ranks: Path, step: int, saved: int | None) -> None:
    name = f"watcher at {step}"
    assert (ranks / f"{name} 0").read_text() == f"OSError: no grid at {step}"
    assert (ranks / f"{name} 1").read_text() == "CheckpointError: rank 0 cannot go on; its error says why"
    assert [step_of(path) for path in checkpoints(ranks / name)][:1] == [saved] * (saved is not None)


def test_a_checkpoint_that_cannot_be_written_ends_all_ranks(ranks: Path) -> None:
    assert "the disk is full; there is no checkpoint yet" in (ranks / "unwritten 0").read_text()
    assert (ranks / "unwritten 1").read_text() == "CheckpointError: rank 0 cannot go on; its error says why"


def test_a_signal_or_a_broken_gradient_on_one_rank_ends_all(ranks: Path) -> None:
    assert stored(ranks / "stopped", 6)
    for rank in range(RANKS):
        assert "Error: step 9 has a loss or a gradient that is not" in (ranks / f"stopped {rank}").read_text()


if __name__ == "__main__":
    run_rank(int(sys.argv[2]), Path(sys.argv[1]))
