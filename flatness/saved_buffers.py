"""A copy of a module's buffers (running statistics and the like), to which they are put back.

Tensors that a module computes of its parameters and keeps as attributes, as `torch.nn.utils.weight_norm` does, are put
back too, and do not keep a module from being copied.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

ModelType = TypeVar("ModelType", bound=nn.Module)


class SavedBuffers:
    """All buffers of a module as they were, those that a pass writes to as those that it replaces by others."""

    def __init__(self, model: nn.Module) -> None:
        """Copy all of them."""
        self.saved = [
            (module, dict(module._buffers), {name: _copied(buffer) for name, buffer in module._buffers.items()})
            for module in model.modules()
        ]
        self.computed = [(module, attributes) for module in model.modules() if (attributes := _computed(module))]

    @torch.no_grad()
    def put_back(self, compare: bool = True) -> None:
        """Give every module the buffers it had, with their values.

        Args:
            compare: whether one that has not changed is left unwritten. On an accelerator this waits for it.
        """
        for module, attributes in self.computed:
            module.__dict__.update(attributes)
        for module, buffers, values in self.saved:
            if isinstance(module._buffers, dict):  # a scripted module's cannot be replaced
                module._buffers.clear()
                module._buffers.update(buffers)
            for name, buffer in buffers.items():
                value = values[name]
                if buffer is None or value is None or not writable(buffer):
                    continue
                if not compare or not _same_bits(buffer, value):
                    buffer.copy_(value)


def _computed(module: nn.Module) -> dict[str, Tensor]:
    """Tensors that are neither parameters nor buffers, by attribute."""
    return {name: value for name, value in module.__dict__.items() if isinstance(value, Tensor)}


def copied_module(model: ModelType) -> ModelType:
    """A deep copy, of a module too that keeps computed weights as attributes, which copy.deepcopy refuses."""
    every = [value for module in model.modules() for value in _computed(module).values()]
    memo = {id(value): value.detach().clone() for value in every if value.grad_fn is not None}
    return copy.deepcopy(model, memo)


def writable(buffer: Tensor) -> bool:
    """Whether torch can write to it; not where one place in memory holds several entries, as `expand` makes them."""
    return not any(size > 1 and stride == 0 for size, stride in zip(buffer.shape, buffer.stride(), strict=True))


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether entries are equal, signs of zeros too; NaN is never."""
    return torch.equal(a, b) and (not a.is_floating_point() or torch.equal(a.signbit(), b.signbit()))


def _copied(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None else buffer.detach().clone()
