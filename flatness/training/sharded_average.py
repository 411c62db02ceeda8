"""An average of sharded weights: each process averages its own shards, and no process has the whole of a weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.compilation import plain_name
from flatness.sharding import local, locals_of

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
