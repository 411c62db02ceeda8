"""Two gloo processes on the CPU against one process on the same global batch.

The processes run this file as a script and meet through a file (no port).
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.configuration import Configuration, SAMOptions
from experiments.training.checkpoints import CheckpointError
from experiments.training.step import StepLosses, TrainingStep
from experiments.training.trainer import train
from tests.experiments.training.small_runs import (
    GRADIENT_ROUNDING,
    STEPS,
    configured,
    gradient_difference,
    images,
    run_options,
    stored,
)

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


def run_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), RANKS)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    for name, (configuration, micro_batch) in (ALIKE | OTHERS).items():
        assert train(configuration, run_options(folder / name, micro_batch=micro_batch), images()) == STEPS
    c, micro_batch = ALIKE["everything"]
    for until in (5, None):
        train(c, run_options(folder / "resumed", micro_batch=micro_batch, until=until), images())
    try:
        train(configured(seed=9), run_options(folder / "plain"), images())
    except CheckpointError as error:
        (folder / f"refused {rank}").write_text(str(error))
    # One rank alone is told to stop, then has a gradient that is not finite; both act
    if rank == 1:
        spoiling(5, lambda _: os.kill(os.getpid(), signal.SIGTERM))
        spoiling(8, not_finite)
    assert train(configured(), run_options(folder / "stopped"), images()) == 6
    try:
        train(configured(), run_options(folder / "stopped"), images())
    except FloatingPointError as error:
        (folder / f"not finite {rank}").write_text(str(error))
    torch.distributed.destroy_process_group()


# What the tests compare it with.


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes have made."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this build of torch has no gloo")
    folder = tmp_path_factory.mktemp("ranks")
    paths = [str(Path(__file__).resolve().parents[3]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if sys.platform == "linux":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host name that resolves to nothing does no harm then
    processes = []
    try:
        for rank in range(RANKS):
            with (folder / f"{rank}.log").open("w") as log:
                command = [sys.executable, "-W", "error", __file__, str(folder), str(rank)]
                processes.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        codes = [process.wait(timeout=TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0] * RANKS, "\n".join((folder / f"{rank}.log").read_text() for rank in range(RANKS))
    return folder


@pytest.mark.parametrize("name", ALIKE)
def test_two_ranks_make_the_weights_of_one_process(ranks: Path, tmp_path: Path, name: str) -> None:
    train(ALIKE[name][0], run_options(tmp_path), images())
    assert gradient_difference(tmp_path, ranks / name) <= GRADIENT_ROUNDING
    for other in {"plain", "sam", "everything", "local", "dropout"} - {name}:
        assert gradient_difference(tmp_path, ranks / other) > 10 * GRADIENT_ROUNDING


def test_two_ranks_resume_bit_for_bit(ranks: Path) -> None:
    assert stored(ranks / "resumed") == stored(ranks / "everything")


def test_all_ranks_are_refused_together(ranks: Path) -> None:
    assert "seed: 0, 9" in (ranks / "refused 0").read_text()
    assert (ranks / "refused 1").read_text() == "rank 0 cannot begin; its error says why"


def test_a_signal_or_a_broken_gradient_on_one_rank_ends_all(ranks: Path) -> None:
    assert stored(ranks / "stopped", 6)
    for rank in range(RANKS):
        assert (ranks / f"not finite {rank}").read_text().startswith("step 9 has a loss or a gradient that is not")


if __name__ == "__main__":
    run_rank(int(sys.argv[2]), Path(sys.argv[1]))
