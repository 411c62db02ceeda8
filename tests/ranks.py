"""Several processes of torch.distributed for tests: a file as a script once a rank, or a command under torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]


def skip_without_gloo() -> None:
    """Leave the test out where torch cannot sum over processes on the CPU."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this build of torch has no gloo")


def join(rank: int, ranks: int, folder: Path) -> None:
    """Make this process one of a group, on one thread; they meet through a file, so that no port is needed."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(str(folder / "store"), ranks)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=ranks)


def environment(**own: str) -> dict[str, str]:
    """Of a process that imports the checkout and sums over this machine alone."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    whole = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **own}
    if sys.platform == "linux":
        whole.setdefault("GLOO_SOCKET_IFNAME", "lo")  # a host name that resolves to nothing does no harm then
    return whole


def run_script(script: str, folder: Path, ranks: int, timeout: float, *, options: tuple[str, ...] = ()) -> None:
    """Run `script folder rank` for all ranks at once, to status 0.

    Args:
        script: a test's own file.
        folder: where they meet; what each says is written to RANK.log in it.
        ranks: how many.
        timeout: seconds.
        options: of Python's.
    """
    skip_without_gloo()
    processes = []
    try:
        for rank in range(ranks):
            with (folder / f"{rank}.log").open("w") as log:
                command = [sys.executable, *options, script, str(folder), str(rank)]
                processes.append(subprocess.Popen(command, env=environment(), stdout=log, stderr=log))
        codes = [process.wait(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert codes == [0] * ranks, "\n".join((folder / f"{rank}.log").read_text() for rank in range(ranks))


def run_command(command: list[str], timeout: float) -> str:
    """What a command, torchrun's or one process's, prints on its way to status 0."""
    own = environment(OMP_NUM_THREADS="1")
    with subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            printed, _ = process.communicate(timeout=timeout)
        except BaseException:
            process.terminate()  # torchrun then ends its processes, which killing it would leave behind
            raise
    assert process.returncode == 0, printed
    return printed
