"""A model as a module: without torch.compile around it, its buffers saved and put back, its weights selected.

A model that torch.compile has wrapped or compiled in place has the names of the module inside, and is run as written.

Buffers (running statistics and the like) are put back as they were, and so are tensors that a module computes of its
parameters and keeps as attributes, as `torch.nn.utils.weight_norm` does; these do not keep a module from being copied.

Weights that are moved or measured are each place in memory once, under one name.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from flatness import arguments

WRAPPED = "_orig_mod"
"""How torch.compile's wrapper calls the module inside."""


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that torch.compile has wrapped; any other as it is."""
    inner = getattr(model, WRAPPED, None)
    return inner if isinstance(inner, nn.Module) else model


def plain_name(name: str) -> str:
    """The name of a parameter or module as if nothing had been wrapped."""
    return ".".join(part for part in name.split(".") if part != WRAPPED)


def plain_modules(model: nn.Module) -> list[nn.Module]:
    """All modules but torch.compile's wrappers."""
    return [module for module in model.modules() if uncompiled(module) is module]


@contextmanager
def as_written() -> Iterator[None]:
    """Compiled code runs as it was written inside the block: hooks are called, and it has second derivatives."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled, and loading it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


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


Selection = Callable[[str, Tensor], bool] | Iterable[str] | str | None
Target = nn.Module | Mapping[str, Tensor] | Iterable[Tensor]


def selected_parameters(target: Target, parameters: Selection = None) -> dict[str, Tensor]:
    """The weights to move, by name; weights that modules share are listed once, under their first name.

    Weights that are views of the same memory are shared too. A compiled module's names are those of the module inside.

    Args:
        target: a module, or tensors, or tensors by name.
        parameters: None for all of them, frozen ones too; "trainable" for those that require gradients; their names; or
            a function of (name, tensor) that says which.

    Raises:
        ValueError: no tensor, an unknown name, or one that is not of a real floating-point type, or cannot be written
            to.
    """
    if isinstance(target, nn.Module):
        every: dict[str, Tensor] = {plain_name(n): p for n, p in target.named_parameters(remove_duplicate=False)}
    elif isinstance(target, Mapping):
        every = {**target}
    elif isinstance(target, Iterable) and not isinstance(target, Tensor | str):
        every = {str(i): tensor for i, tensor in enumerate(target)}
    else:
        raise arguments.refuse("target", target, "a module, or tensors, or tensors by name")
    chosen: dict[str, Tensor] = {}
    seen: set[Any] = set()
    for name in _chosen_names(every, parameters):
        tensor = every[name]
        if isinstance(tensor, nn.UninitializedParameter):  # has no shape to show
            raise ValueError(f"parameter {name!r} is not initialised; allowed: initialised parameters")
        if not isinstance(tensor, Tensor) or tensor.is_meta or not tensor.is_floating_point():
            raise arguments.refuse(f"parameter {name!r}", tensor, "a tensor with data, of a real floating-point type")
        if not writable(tensor):
            raise arguments.refuse(f"parameter {name!r}", tensor, "one that is not expanded: memory for every entry")
        if memory_of(tensor) not in seen:
            seen.add(memory_of(tensor))
            chosen[name] = tensor
    if not sum(tensor.numel() for tensor in chosen.values()):
        raise ValueError("no parameter is selected; allowed: a module (and a choice among its parameters) with some")
    return chosen


def memory_of(tensor: Tensor) -> Any:
    """What all views of the same entries in memory have in common, transposed and reshaped ones too."""
    if isinstance(tensor, nn.UninitializedParameter) or not tensor.data_ptr():
        return id(tensor)
    spans: list[list[int]] = []  # [stride, size], neighbours joined where they lie without a gap
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if spans and stride == spans[-1][0] * spans[-1][1]:
            spans[-1][1] *= size
        elif size > 1:
            spans.append([stride, size])
    return tensor.device, tensor.data_ptr(), tensor.dtype, str(spans)


def _chosen_names(every: Mapping[str, Tensor], parameters: Selection) -> list[str]:
    if parameters is None:
        return list(every)
    if isinstance(parameters, str) and parameters == "trainable":
        return [name for name, tensor in every.items() if tensor.requires_grad]
    if isinstance(parameters, type | nn.Module):
        raise arguments.refuse("parameters", parameters, "None, 'trainable', names, or a function of (name, tensor)")
    if callable(parameters):
        return [name for name, tensor in every.items() if parameters(name, tensor)]
    if isinstance(parameters, Iterable) and not isinstance(parameters, str | bytes | Tensor):
        names = [plain_name(name) if isinstance(name, str) and name not in every else name for name in parameters]
        unknown = [name for name in names if not isinstance(name, str) or name not in every]
        if unknown:
            raise arguments.refuse("parameters", unknown, "names among " + ", ".join(every))
        return names
    raise arguments.refuse("parameters", parameters, "None, 'trainable', names, or a function of (name, tensor)")
