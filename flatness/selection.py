"""Which weights of a model are moved or measured: each place in memory once, under one name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from flatness import arguments
from flatness.compilation import plain_name
from flatness.saved_buffers import writable

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
