"""Tensors that several processes share, as `torch.distributed.fsdp.fully_shard` makes parameters and gradients.

What is done entry by entry is done on each process's own shard, which is memory of the tensor itself; a sum over
entries is one over shards and then over processes.

In an average of sharded weights each process averages its own shards, and no process has the whole of a weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.modules import plain_name


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


MultiAverage = Callable[[list[Tensor], list[Tensor], Tensor], None]


class ShardedAverage:
    """What `torch.optim.swa_utils.AveragedModel` is for whole weights; a sharded module cannot be copied.

    Args:
        model: whose parameters are sharded, as by `fully_shard`.

    Attributes:
        n_averaged: how many weights were taken in, on the CPU.
        multi_avg_fn: how shards are averaged; set by the rule.
    """

    multi_avg_fn: MultiAverage

    def __init__(self, model: nn.Module) -> None:
        """Copy the shards and the buffers."""
        self.weights = {plain_name(name): p.detach().clone() for name, p in model.named_parameters()}
        self.buffers = {plain_name(name): b.detach().clone() for name, b in model.named_buffers()}
        self.n_averaged = torch.tensor(0)

    @property
    def module(self) -> nn.Module:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "an average of sharded weights is no module of its own; allowed: applied(name, model), which puts its "
            "shards in the model's place, and copy_to"
        )

    @torch.no_grad()
    def take_in(self, weights: Sequence[Tensor], modules: Sequence[nn.Module]) -> None:
        """Average the weights; take over the buffers."""
        own = locals_of(self.weights.values())
        if int(self.n_averaged) == 0:
            torch._foreach_copy_(own, locals_of(weights))
        else:
            self.multi_avg_fn(own, locals_of(weights), self.n_averaged)
        there = [b for module in modules for b in module._buffers.values() if b is not None]
        for buffer, new in zip(self.buffers.values(), there, strict=False):
            buffer.copy_(new)
        self.n_averaged += 1

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Put the average into a model that is sharded alike.

        Raises:
            ValueError: it is not.
        """
        there = {plain_name(name): p for name, p in model.named_parameters()}
        for name, own in self.weights.items():
            if name not in there or local(there[name]).shape != local(own).shape:
                raise arguments.refuse(f"model's {name}", there.get(name), f"a shard of {tuple(local(own).shape)}")
            local(there[name]).copy_(local(own))
        for name, buffer in model.named_buffers():
            if plain_name(name) in self.buffers:
                buffer.copy_(self.buffers[plain_name(name)])

    def named_parameters(self) -> list[tuple[str, Tensor]]:
        """The averages by their names in the state."""
        return [(f"module.{name}", w) for name, w in self.weights.items()]

    def state_dict(self) -> dict[str, Any]:
        """Shards, as torch.distributed.checkpoint saves them, and the count."""
        return {
            "n_averaged": self.n_averaged,
            **{f"module.{name}": w for name, w in self.weights.items()},
            **{f"module.{name}": b for name, b in self.buffers.items()},
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a state, whose entries have been checked."""
        for name, own in self.state_dict().items():
            local(own).copy_(local(state_dict[name]))
