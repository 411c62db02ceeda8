"""Checks of arguments, made where they enter: one ValueError that names the argument, its value and what is allowed."""

from __future__ import annotations

import math
import numbers
import reprlib
from collections.abc import Callable, Collection
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
LARGEST_REPR = 80
NARROWEST = 2
"""Bytes of a floating-point number: with those of one, torch stores and does not compute."""
LARGEST = float(torch.finfo(torch.float32).max)
"""Of numbers: beyond, they cannot be multiplied with weights."""
LARGEST_COUNT = 2**63 - 1
"""Of whole numbers: beyond, torch cannot count."""


def refuse(name: str, value: object, allowed: str) -> ValueError:
    """The error to raise for an argument that is not allowed. A tensor is shown by its type and shape."""
    if isinstance(value, Tensor):
        # a nested one may have no shape to ask for
        shape = "nested" if value.is_nested else f"of shape {tuple(value.shape)}"
        dense = "" if value.layout is torch.strided else f", layout {value.layout}"
        shown = f"a tensor {shape}, dtype {value.dtype}, device {value.device}{dense}"
    else:
        try:
            shown = reprlib.repr(value)
        except Exception:  # a broken __repr__ must not hide the message
            shown = f"<{type(value).__name__}>"
    return ValueError(f"{name} is {shown[:LARGEST_REPR]}; allowed: {allowed}")


def number(
    name: str, value: object, *, above: float | None = None, at_least: float | None = None, at_most: float | None = None
) -> float:
    """A float within float32's range and the given bounds; booleans, strings and tensors are refused.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    bounds = (("greater than", above), ("of at least", at_least), ("of at most", at_most))
    stated = [f"{words} {bound:g}" for words, bound in bounds if bound is not None]
    allowed = " ".join(["a finite number", " and ".join(stated)]).strip()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise refuse(name, value, allowed)
    try:
        result = float(value)
    except OverflowError:
        raise refuse(name, value, allowed) from None
    fits = math.isfinite(result) and abs(result) <= LARGEST
    fits = fits and (above is None or result > above)
    fits = fits and (at_least is None or result >= at_least)
    fits = fits and (at_most is None or result <= at_most)
    if not fits:
        raise refuse(name, value, allowed)
    return result


def count(name: str, value: object, at_least: int = 0) -> int:
    """A whole number of at least the given size, and of 64 bits with its sign; booleans are refused.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, numbers.Integral)
        or not at_least <= int(value) <= LARGEST_COUNT
    ):
        large = isinstance(value, numbers.Integral) and int(value) > LARGEST_COUNT
        raise refuse(name, value, f"a whole number of at least {at_least}{' and less than 2^63' * large}")
    return int(value)


def with_values(name: str, value: nn.Module) -> nn.Module:
    """A module whose weights have values, as none has on meta, and can be written to, as none made in inference mode.

    Raises:
        ValueError: one of them has not, or cannot.
    """
    for key, p in value.named_parameters():
        if p.is_meta:
            raise ValueError(f"{name}'s {key} is on meta and has no values; allowed: weights that are loaded")
        if p.is_inference() and not torch.is_inference_mode_enabled():
            raise ValueError(f"{name}'s {key} was made within torch.inference_mode; allowed: weights made outside it")
    return value


def flag(name: str, value: object) -> bool:
    """True or False, nothing that merely counts as one of them (the string "False" counts as true).

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    if not isinstance(value, bool):
        raise refuse(name, value, "True or False")
    return value


def choice(name: str, value: object, allowed: Collection[str]) -> str:
    """One of the allowed names.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    if not isinstance(value, str) or value not in allowed:
        raise refuse(name, value, "one of " + ", ".join(repr(a) for a in allowed))
    return value


def instance(name: str, value: object, of: type[T]) -> T:
    """An instance of the given class.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    if not isinstance(value, of):
        raise refuse(name, value, f"an instance of {of.__module__}.{of.__qualname__}")
    return value


def function(name: str, value: T) -> T:
    """Something that can be called.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    if not isinstance(value, Callable):  # type: ignore[arg-type]
        raise refuse(name, value, "something that can be called")
    return value


def module(name: str, value: object) -> nn.Module:
    """A torch module with at least one parameter, all of which have values.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    checked = instance(name, value, nn.Module)
    if next(checked.parameters(), None) is None:
        raise ValueError(f"{name} is a {type(checked).__name__} without parameters; allowed: a module with parameters")
    return with_values(name, checked)


def finite_tensor(name: str, value: object) -> Tensor:
    """A floating-point tensor, not empty, all entries finite. Reads the values: on an accelerator this waits for them.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    tensor = floating_tensor(name, value)
    if tensor.is_meta:
        raise refuse(name, value, "a tensor with values")
    if tensor.numel() == 0 or not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} is empty or has entries that are not finite; allowed: finite entries, at least one")
    return tensor


def floating_tensor(name: str, value: object) -> Tensor:
    """A dense tensor of a real floating-point type of 16 bits or more; its values are not read.

    Raises:
        ValueError: anything else, naming the argument, its value and what is allowed.
    """
    if not is_dense(value) or not value.is_floating_point():
        raise refuse(name, value, "a dense tensor of a real floating-point type of 16 bits or more")
    return value


def is_dense(value: object) -> TypeGuard[Tensor]:
    """Whether it is a tensor that torch computes with: not nested, not sparse, and no float of eight bits or less."""
    if not isinstance(value, Tensor) or value.is_nested or value.layout is not torch.strided:
        return False
    return not value.is_floating_point() or value.element_size() >= NARROWEST


def has_reals(value: object) -> TypeGuard[Tensor]:
    """Whether it is a dense tensor of floating-point numbers that are there, not on meta."""
    return is_dense(value) and value.is_floating_point() and not value.is_meta
