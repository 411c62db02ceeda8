"""A run killed with SIGKILL at any moment, also while it writes, goes on as if it had not been.

The killed processes run this file as a script. Their disk is slow (every piece that is written waits), so that writing
takes about as long as the steps between two checkpoints, and a kill at a random moment is often within a write.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest
import torch

from experiments.training.events import RunState, StepReport
from experiments.training.trainer import train
from findings import files
from tests.experiments.training.small_runs import STEPS, Recorder, configured, images, run_options, stored

CONFIGURATION = configured(dropout=0.3, method="ip+sam", timestep_weights="second-moment")
SLOWNESS = 0.002
"""Seconds that a piece waits for the disk; a checkpoint has some three hundred, one a tensor."""
TIMEOUT = 120


class Speaker(Recorder):
    """Says each step."""

    def stepped(self, state: RunState, report: StepReport) -> None:
        print(report.step, flush=True)


def killed(out: Path, log: Path, moment: str, chance: random.Random) -> bool:
    """Start the run and kill it; whether that left a write half done. The moment: "writing" or "random"."""
    root = str(Path(__file__).resolve().parents[3])
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, __file__, str(out)],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    assert process.stdout is not None
    try:
        for _ in range(1 + chance.randrange(4)):
            assert process.stdout.readline(), log.read_text()
        deadline = time.monotonic() + TIMEOUT
        while moment == "writing" and not half_written(out):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
        if moment == "random":
            time.sleep(chance.random() * 0.5)
        assert process.poll() is None, "the run ended before it was killed"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    return half_written(out)


def half_written(out: Path) -> bool:
    """Whether there is a temporary folder with a tensors' file in it."""
    return any((out / "checkpoints").glob(".writing-*/*.safetensors"))


def test_killed_at_random_moments_and_while_writing_a_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    chance = random.Random(3)
    out = tmp_path / "killed"
    moments = ["writing", "random", "writing"]
    torn = [killed(out, tmp_path / "log", moment, chance) for moment in moments]
    assert torn[0], "no kill fell within a write"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        recorder = Recorder()
        assert train(CONFIGURATION, run_options(out, checkpoint_every=2), images(), [recorder]) == STEPS
        train(CONFIGURATION, run_options(tmp_path / "whole", checkpoint_every=2), images())
    finally:
        torch.set_num_threads(threads)
    assert not half_written(out)
    assert not list((out / "checkpoints").glob(".*"))
    assert 0 < recorder.events[0][1] < STEPS, "nothing was resumed"
    assert stored(out) == stored(tmp_path / "whole")
    snapshots = {path.name: path.read_bytes() for path in (out / "snapshots").iterdir()}
    assert snapshots == {path.name: path.read_bytes() for path in (tmp_path / "whole/snapshots").iterdir()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    put = files._put

    def slow(file: IO[bytes], chunk: bytes | memoryview) -> None:
        time.sleep(SLOWNESS)
        put(file, chunk)

    pytest.MonkeyPatch().setattr(files, "_put", slow)
    train(CONFIGURATION, run_options(Path(sys.argv[1]), checkpoint_every=2), images(), [Speaker()])
