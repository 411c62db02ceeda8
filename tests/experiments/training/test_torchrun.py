"""`torchrun ... -m experiments train` as a person starts it: two processes on real images, weights those of one."""

import sys
from pathlib import Path

import pytest

from experiments.data import fashion_mnist
from experiments.data.roots import DataError
from experiments.gpu.processes import ROUNDING, gradient_difference
from experiments.training.checkpoints import checkpoint_folder, read_configuration
from tests.ranks import TORCHRUN, run_command, skip_without_gloo

TIMEOUT = 400
STEPS = 2
TRAIN = [
    "-m", "experiments", "train", "--config", "fashion-mnist-mini", "--method", "sam", "--rho", "0.1", "--steps",
    str(STEPS), "--global-batch", "8", "--dropout", "0", "--sample-every", "0", "--device", "cpu",
]  # fmt: skip


def test_two_processes_of_torchrun_are_one_run(tmp_path: Path) -> None:
    skip_without_gloo()
    try:
        fashion_mnist.inspect(None)
    except DataError as error:
        pytest.skip(str(error))
    alone, both = tmp_path / "alone", tmp_path / "both"
    run_command([sys.executable, *TRAIN, "--out", str(alone)], TIMEOUT)
    printed = run_command([*TORCHRUN, "--nproc-per-node", "2", *TRAIN, "--out", str(both)], TIMEOUT)
    assert printed.count(f"step {STEPS}: checkpoint") == 1  # of two ranks, one speaks and writes
    configuration = read_configuration(alone)
    # Each process had half of the batch; but for the order of sums the weights are those of one
    assert 0 < gradient_difference(alone, both, configuration) <= ROUNDING
    # and a third command, of one process, goes on with what two have begun
    weights = checkpoint_folder(both, STEPS) / "weights.safetensors"
    before = weights.read_bytes()
    run_command([sys.executable, *TRAIN, "--out", str(both)], TIMEOUT)
    assert weights.read_bytes() == before
