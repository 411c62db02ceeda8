"""Section 3: two processes on the one card, by NCCL and by gloo, make the weights that one process makes.

NCCL of today refuses two ranks on one device; what it says is written down, and gloo, which sums gradients by way of
the CPU, shows that DDP, SAM's averaged ascent and the shares of a batch are right on CUDA tensors. The processes meet
through a file, so that no port is needed.

    python -m experiments.gpu.processes FOLDER RANK BACKEND DEVICE TINY    is what each of them runs
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from experiments.configuration import Configuration, RunOptions
from experiments.gpu.options import GPUOptions
from experiments.gpu.record import Record
from experiments.gpu.small import configured, made_images
from experiments.training.checkpoints import checkpoint_folder
from experiments.training.distributed import SETTLING, Ranks
from experiments.training.trainer import train

WORLD = 2
PATIENCE = 120.0
"""Seconds that a pair may take at most on a card; on the CPU, all of the section's."""
ROUNDING = 1e-2
"""For `gradient_difference` of runs that add in another order: float32 rounds at 6e-8, sums of some 1e3 terms and a
dozen of Adam's steps make that some 3e-5, with SAM, whose ascent divides by the gradient's norm, 4e-4. Runs that differ
in anything else are apart by .3 and more."""
SAID = 600
"""Characters of a failed process's last words that are kept."""


def run(options: GPUOptions, device: torch.device, record: Record) -> None:
    """One process, then pairs by each backend."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        record.part("one process", lambda: alone(folder, options.tiny, device))
        for backend in ("nccl", "gloo") if device.type == "cuda" else ("gloo",):
            record.part(
                f"two processes, {backend}", functools.partial(pair, folder, backend, options.tiny, device, record)
            )


def configuration(tiny: bool) -> Configuration:
    """What is trained: every part that ranks share."""
    return configured(tiny, method="ip+sam", timestep_weights="second-moment")


def alone(folder: Path, tiny: bool, device: torch.device) -> dict[str, Any]:
    """The run by this process."""
    begin = time.perf_counter()
    _trained(folder / "alone", tiny, Ranks(device=device))
    return {"run_seconds": time.perf_counter() - begin, "global_batch": configuration(tiny).global_batch}


def pair(folder: Path, backend: str, tiny: bool, device: torch.device, record: Record) -> dict[str, Any]:
    """The run by two processes, and how far its weights are from those of one.

    Raises:
        RuntimeError: a process failed, or took too long; says what it said.
    """
    own = folder / backend
    own.mkdir()
    command = [sys.executable, "-m", "experiments.gpu.processes", str(own)]
    ending = [backend, device.type, str(int(tiny))]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", "lo")}
    left = max(record.left, 1.0)
    limit = time.monotonic() + (min(PATIENCE, left) if device.type == "cuda" else left)
    started: list[subprocess.Popen[bytes]] = []
    begin = time.perf_counter()
    try:
        for rank in range(WORLD):
            with (own / f"{rank}.log").open("wb") as log:
                arguments = [*command, str(rank), *ending]
                started.append(subprocess.Popen(arguments, env=environment, stdout=log, stderr=log))
        codes = _codes(started, limit)
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait()
    if any(code is None or code for code in codes):
        raise RuntimeError(_last_words(own, codes))
    apart = gradient_difference(folder / "alone", own / "run", configuration(tiny))
    return {
        "run_seconds": time.perf_counter() - begin, "apart": apart, "allowed": ROUNDING, "passed": apart <= ROUNDING,
    }  # fmt: skip


def _codes(started: list[subprocess.Popen[bytes]], limit: float) -> list[int | None]:
    """How the processes ended; as soon as one has failed, or the time is over, the others are not waited for."""
    while time.monotonic() < limit:
        codes = [process.poll() for process in started]
        if all(code is not None for code in codes) or any(codes):
            return codes
        time.sleep(0.1)
    return [process.poll() for process in started]


def _last_words(folder: Path, codes: list[int | None]) -> str:
    failed = [rank for rank, code in enumerate(codes) if code]
    if not failed:
        return f"{codes.count(None)} of {len(codes)} processes were still running when the time was over"
    rank = failed[0]
    text = (folder / f"{rank}.log").read_text(errors="replace").strip()
    return f"rank {rank} ended with {codes[rank]}: {text[-SAID:]}"


def gradient_difference(a: Path, b: Path, c: Configuration) -> float:
    """How far two runs' weights are apart, as the error of the gradients that explains it, over the largest gradient.

    Adam divides by the gradient's size, so where a gradient is rounding alone, weights move by the learning rate in a
    direction of chance, and change nothing. Times the root of the second moment, over the rate, a difference is a
    gradient's again.
    """
    folders = [checkpoint_folder(out, c.steps) for out in (a, b)]
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in folders)
    moments = load_file(folders[0] / "optimizer.safetensors")
    sizes = {name: moments[f"{name}.exp_avg_sq"].sqrt() for name in ours}
    errors = [float(((ours[name] - theirs[name]).abs() * sizes[name]).max()) for name in ours]
    return max(errors) / c.learning_rate / max(float(size.max()) for size in sizes.values())


def _trained(out: Path, tiny: bool, ranks: Ranks) -> None:
    c = configuration(tiny)
    train(c, RunOptions(out=out, checkpoint_every=c.steps), made_images(c, 40 if tiny else 512), ranks=ranks)


def main(folder: Path, rank: int, backend: str, device: str, tiny: bool) -> None:
    """One of the two processes."""
    place = torch.device(device, 0) if device == "cuda" else torch.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    store = torch.distributed.FileStore(str(folder / "store"), WORLD)
    torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=WORLD)
    _trained(folder / "run", tiny, Ranks(rank, WORLD, place))
    time.sleep(SETTLING)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], bool(int(sys.argv[5])))
