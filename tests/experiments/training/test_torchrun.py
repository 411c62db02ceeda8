"""`torchrun ... -m experiments train` as a person starts it: two processes on real images, weights those of one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.data import fashion_mnist
from experiments.data.roots import DataError
from experiments.gpu.processes import ROUNDING, gradient_difference
from experiments.training.checkpoints import checkpoint_folder, read_configuration

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT = 400
STEPS = 2
TRAIN = [
    "-m", "experiments", "train", "--config", "fashion-mnist-mini", "--method", "sam", "--rho", "0.1", "--steps",
    str(STEPS), "--global-batch", "8", "--dropout", "0", "--sample-every", "0", "--device", "cpu",
]  # fmt: skip


def ended(command: list[str]) -> str:
    """What a command says on its way to status 0."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            said, _ = process.communicate(timeout=TIMEOUT)
        except BaseException:
            process.terminate()  # torchrun then ends its processes, which killing it would leave behind
            raise
    assert process.returncode == 0, said
    return said


def test_two_processes_of_torchrun_are_one_run(tmp_path: Path) -> None:
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this build of torch has no gloo")
    try:
        fashion_mnist.inspect(None)
    except DataError as error:
        pytest.skip(str(error))
    alone, both = tmp_path / "alone", tmp_path / "both"
    ended([sys.executable, *TRAIN, "--out", str(alone)])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    said = ended([*torchrun, "--nproc-per-node", "2", *TRAIN, "--out", str(both)])
    assert said.count(f"step {STEPS}: checkpoint") == 1  # of two ranks, one speaks and writes
    configuration = read_configuration(alone)
    # Each process had half of the batch; but for the order of sums the weights are those of one
    assert 0 < gradient_difference(alone, both, configuration) <= ROUNDING
    # and a third command, of one process, goes on with what two have begun
    weights = checkpoint_folder(both, STEPS) / "weights.safetensors"
    before = weights.read_bytes()
    said = ended([sys.executable, *TRAIN, "--out", str(both)])
    assert weights.read_bytes() == before
