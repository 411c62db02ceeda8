"""Tensors that several processes share, as `torch.distributed.fsdp.fully_shard` makes parameters and gradients.

What is done entry by entry is done on each process's own shard, which is memory of the tensor itself; a sum over
entries is one over shards and then over processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, of which a process holds a part."""
    return hasattr(tensor, "device_mesh") and hasattr(tensor, "to_local")


@torch.no_grad()
def local(tensor: Tensor) -> Tensor:
    """This process's part, in the tensor's own memory; the tensor itself where it is whole."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def locals_of(tensors: Iterable[Tensor]) -> list[Tensor]:
    """`local` of each."""
    return [local(tensor) for tensor in tensors]


@torch.no_grad()
def gathered(tensor: Tensor) -> Tensor:
    """The whole tensor; where it is sharded every process has to ask for it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


@torch.no_grad()
def sum_over_shards(tensors: Sequence[Tensor], total: Callable[[list[Tensor]], Tensor]) -> Tensor:
    """A sum over the entries of all tensors, which every process gets alike; where any is sharded, all have to ask.

    Args:
        tensors: whole ones and sharded ones.
        total: the sum over the entries of some whole tensors, a tensor of one float64 number.

    Raises:
        RuntimeError: a tensor's parts are summands of it, which no process has whole.
    """
    groups: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        key = (tensor.device_mesh, tuple(tensor.placements)) if is_sharded(tensor) else None  # type: ignore[attr-defined]
        groups.setdefault(key, []).append(local(tensor))
    sums = []
    for key, parts in groups.items():
        value = total(parts)
        for dimension, placement in enumerate(key[1] if key else ()):
            if placement.is_partial():
                raise RuntimeError("a sharded tensor's parts are yet to be summed: call redistribute() on it before")
            if placement.is_shard():
                torch.distributed.all_reduce(value, group=key[0].get_group(dimension))
        sums.append(value)
    return torch.stack([value.to(sums[0].device) for value in sums]).sum()
