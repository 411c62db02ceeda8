"""Data-parallel ranks: one process a device, as torchrun starts them, or a single one."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import torch
from torch import Tensor
from torch import distributed as dist

from flatness import arguments

PATIENCE = timedelta(hours=2)
"""How long a rank waits for the others: rank 0 alone makes sample grids and verifies checkpoints."""
ABANDONED = 30.0
"""Seconds that leaving the process group after an error may take."""
SETTLING = 0.1
"""Seconds that gloo gets before the end: it frees the last collective on a thread of its own, which needs Python's lock
and aborts the process if the interpreter is gone by then."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that carry out the run together.

    Attributes:
        rank: of this process, from 0; rank 0 writes files and calls watchers.
        world: how many there are.
        device: where this process computes.
    """

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        """Check all fields."""
        arguments.count("world", self.world, at_least=1)
        if arguments.count("rank", self.rank) >= self.world:
            raise arguments.refuse("rank", self.rank, f"a whole number below world, {self.world}")
        arguments.instance("device", self.device, torch.device)

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def gathered(self, tensor: Tensor) -> Tensor:
        """The tensors (n, ...) of all ranks, of equal shape, one behind the other: (world n, ...), the same on each."""
        if self.world == 1:
            return tensor
        # gloo gathers the CPU's tensors alone: it serves where several processes share a card, which NCCL refuses
        own = tensor.contiguous().cpu() if dist.get_backend() == dist.Backend.GLOO else tensor.contiguous()
        parts = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(parts, own)
        return torch.cat(parts).to(tensor.device)

    def of_rank_0(self, value: int) -> int:
        """Rank 0's number, on every rank."""
        if self.world == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(tensor, src=0)
        return int(tensor.item())


def chosen_device(choice: Literal["auto", "cpu", "cuda"], local_rank: int = 0) -> torch.device:
    """The device of a process.

    Raises:
        ValueError: CUDA is asked for and there is none, or fewer devices than processes.
    """
    arguments.choice("device", choice, ("auto", "cpu", "cuda"))
    if choice == "cpu" or (choice == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise arguments.refuse("device", choice, "'cpu' or 'auto': torch finds no CUDA device")
    if local_rank >= torch.cuda.device_count():
        allowed = f"below {torch.cuda.device_count()}, the number of CUDA devices (one process a device)"
        raise arguments.refuse("LOCAL_RANK", local_rank, allowed)
    return torch.device("cuda", local_rank)


def side_stream(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Within, on this thread, copies from the device are queued beside training's kernels, not among them."""
    return torch.cuda.stream(torch.cuda.Stream(device)) if device.type == "cuda" else contextlib.nullcontext()


def synchronize(device: torch.device) -> None:
    """Wait for what was queued on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def fastest_convolutions(device: torch.device) -> Iterator[None]:
    """Within, cuDNN tries its algorithms: shapes never change."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextlib.contextmanager
def joined(choice: Literal["auto", "cpu", "cuda"] = "auto") -> Iterator[Ranks]:
    """This process's ranks, from torchrun's environment (RANK, WORLD_SIZE, LOCAL_RANK); a single one without it.

    Joins the process group, by NCCL on CUDA and gloo on the CPU, and leaves it at the end; after an error without the
    other ranks, which may be waiting elsewhere and would keep the error from being told. A group that the caller has
    joined already is used and kept.

    Raises:
        ValueError: as `chosen_device`.
    """
    device = chosen_device(choice, int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if dist.is_available() and dist.is_initialized():
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
        return
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(device=device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), device)
    except BaseException:
        _abandon()
        raise
    if device.type != "cuda":
        time.sleep(SETTLING)
    dist.destroy_process_group()


def _abandon() -> None:
    """Leave the process group without waiting for the other ranks; else the process's end does it.

    Older versions of torch have no such thing, and on a broken device it may fail or hang: the error under way is to be
    told all the same.
    """

    def abort() -> None:
        with contextlib.suppress(Exception):
            dist.distributed_c10d._abort_process_group()

    if dist.is_initialized():
        thread = threading.Thread(target=abort, name="abort", daemon=True)
        thread.start()
        thread.join(ABANDONED)
