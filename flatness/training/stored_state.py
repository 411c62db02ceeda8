"""Stored states of optimizers: held against the optimizer that is to go on from them, and loaded whole or not at all.

torch's own loading takes what it is given: a moment of another shape, a rate that is no number and a missing setting
show themselves steps later, or never. Here types and ranges are checked first, against the optimizer and, for torch's
own classes, against what one of the class does with such settings; whatever is refused leaves the optimizer as it was.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flatness import arguments
from flatness.sharding import local
from flatness.training.wrapped_optimizer import check_optimizer

MOMENTS = frozenset(
    ("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "acc_delta", "exp_inf",
     "sum", "ax", "prev", "step_size")
)  # fmt: skip
"""What torch's optimizers keep in their parameters' shape."""
SQUARES = frozenset(("exp_avg_sq", "max_exp_avg_sq", "square_avg", "acc_delta", "exp_inf", "sum", "step_size"))
"""Of these, what is never below 0."""
IMPLEMENTATIONS = frozenset(("foreach", "fused", "capturable", "differentiable"))
"""Settings by which an optimizer computes the same in another way, where its device can."""


def load_whole(name: str, state_dict: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Load a stored state into an optimizer, which is as it was where that fails.

    Args:
        name: of the argument, in messages.
        state_dict: of an optimizer of the same class.
        optimizer: a plain one.

    Raises:
        ValueError: it is no optimizer's, of other groups or parameters, a setting or a state is of another type or out
            of its range, or one is missing.
    """
    check_state(name, state_dict, optimizer)
    before = dict(optimizer.__dict__)
    keys = [set(group) for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(dict(state_dict))
        for place, (own, group) in enumerate(zip(keys, optimizer.param_groups, strict=True)):
            if missing := sorted(own - set(group)):
                raise ValueError(f"group {place} lacks {', '.join(missing)}")
        check_optimizer(optimizer, shards=True)
    except Exception as error:
        optimizer.__dict__.clear()
        optimizer.__dict__.update(before)
        reason = error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        kind = type(optimizer).__name__
        raise ValueError(f"{name} is not one of this {kind}'s: {reason}; allowed: what state_dict() gives") from error


def check_state(name: str, state_dict: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Hold a stored state against an optimizer, without loading any of it.

    Raises:
        ValueError: as `load_whole`.
    """
    groups, states = state_dict.get("param_groups"), state_dict.get("state")
    if not isinstance(groups, list) or not isinstance(states, dict):
        raise ValueError(f"{name} has no param_groups and state; allowed: an optimizer's state_dict")
    own = optimizer.state_dict()["param_groups"]
    if len(groups) != len(own):
        raise ValueError(f"{name} has {len(groups)} groups of parameters; allowed: {len(own)}, the optimizer's")
    by_index: dict[Any, tuple[Tensor, dict[str, Any]]] = {}
    for place, (stored, group, live) in enumerate(zip(groups, own, optimizer.param_groups, strict=True)):
        indices = stored.get("params") if isinstance(stored, dict) else None
        if not isinstance(indices, list) or not all(isinstance(index, int | str) for index in indices):
            raise ValueError(f"{name}'s group {place} names no parameters; allowed: a list of their numbers")
        if len(indices) != len(group["params"]) or len(set(indices)) != len(indices):
            raise ValueError(f"{name}'s group {place} is of other parameters; allowed: {len(group['params'])} of them")
        _check_settings(name, stored, group)
        by_index |= {index: (p, stored) for index, p in zip(indices, live["params"], strict=True)}
    examples: dict[tuple[int, int], dict[str, Any] | None] = {}
    for index, state in states.items():
        if index not in by_index or not isinstance(state, dict):
            raise ValueError(f"{name} has a state of the parameter {index!r}; allowed: those of its groups")
        parameter, group = by_index[index]
        kind = (id(group), parameter.dim())
        if kind not in examples:
            examples[kind] = _example(name, optimizer, group, parameter)
        for key, value in state.items():
            _check_entry(f"{name}'s {key} of parameter {index}", key, value, parameter)
        example = examples[kind]
        needed = [key for key, value in (example or {}).items() if value is not None]
        if state and (missing := sorted(key for key in needed if state.get(key) is None)):
            raise ValueError(f"{name}'s state of parameter {index} lacks {', '.join(missing)}; allowed: all of it")


def _check_settings(name: str, stored: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """The settings of a group, against the optimizer's own; those that an older version has not are torch's affair."""
    for key, there in stored.items():
        if key == "params" or key.startswith("param_"):
            continue
        value = own.get(key)
        if key in own and not _alike(there, value):
            raise arguments.refuse(f"{name}'s {key}", there, f"what the optimizer has there, as {value!r}")
        for number in there if isinstance(there, list | tuple) else [there]:
            infinite = isinstance(value, float) and math.isinf(value)
            plain = number.item() if isinstance(number, Tensor) and number.numel() == 1 else number
            if isinstance(plain, int | float) and not infinite and not _finite(plain):
                raise arguments.refuse(f"{name}'s {key}", there, "finite numbers")


def _finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _alike(stored: object, own: object) -> bool:
    """Whether a setting can stand for another: of one kind, and None for or in place of a flag."""
    if own is None:
        return stored is None or isinstance(stored, bool | Real)
    if isinstance(own, bool):
        return stored is None or isinstance(stored, bool)
    if isinstance(own, Tensor | Real):
        if isinstance(stored, Tensor):
            return stored.numel() == 1 and not stored.is_complex() and not stored.is_meta
        return isinstance(stored, Real) and not isinstance(stored, bool)
    if isinstance(own, list | tuple):
        same = isinstance(stored, list | tuple) and len(stored) == len(own)
        return same and all(_alike(a, b) for a, b in zip(stored, own, strict=True))  # type: ignore[call-overload]
    return isinstance(stored, type(own))


def _check_entry(name: str, key: str, value: object, parameter: Tensor) -> None:
    """One entry of a parameter's state, by what torch's optimizers call it."""
    if key in MOMENTS and value is not None:
        if not isinstance(value, Tensor) or value.shape != parameter.shape:
            raise arguments.refuse(name, value, f"a tensor of shape {tuple(parameter.shape)}")
        if value.layout is not torch.strided or not value.is_floating_point() or value.is_meta:
            raise arguments.refuse(name, value, "a dense tensor of a real floating-point type, with values")
        own = local(value)
        if not bool(torch.isfinite(own).all()) or (key in SQUARES and bool((own < 0).any())):
            raise ValueError(f"{name} has entries out of range; allowed: finite{', at least 0' * (key in SQUARES)}")
    elif key == "step":
        number: object = value
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta:
            number = value.item()
        arguments.number(name, number, at_least=0)
    elif isinstance(value, Tensor) and value.is_meta:
        raise arguments.refuse(name, value, "a tensor with values")


def _example(name: str, optimizer: Optimizer, group: Mapping[str, Any], parameter: Tensor) -> dict[str, Any] | None:
    """The state that one of torch's optimizers with the stored settings has after a step; None of others' classes.

    Raises:
        ValueError: the class does not allow the settings.
    """
    kind = type(optimizer)
    live = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    if not kind.__module__.startswith("torch.optim") or _stepped(kind, live, parameter.dim()) is None:
        return None
    try:
        return _made(kind, group, parameter.dim())
    except Exception as error:
        raise ValueError(f"{name}'s settings are not for {kind.__name__}: {error}; allowed: its own") from error


def _stepped(kind: type[Optimizer], group: Mapping[str, Any], dimensions: int) -> dict[str, Any] | None:
    try:
        return _made(kind, group, dimensions)
    except Exception:  # a class that cannot be made or stepped so: nothing is known of it
        return None


def _made(kind: type[Optimizer], group: Mapping[str, Any], dimensions: int) -> dict[str, Any]:
    known = inspect.signature(kind).parameters.keys() - IMPLEMENTATIONS
    settings = {key: value for key, value in group.items() if key in known and key != "params"}
    parameter = nn.Parameter(torch.zeros([1] * dimensions))
    made = kind([parameter], **settings)
    parameter.grad = torch.zeros_like(parameter)
    made.step()
    return dict(made.state[parameter])
