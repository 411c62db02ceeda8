"""An optimizer around another one: what any torch optimizer is asked for, answered by the one inside."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from flatness import arguments
from flatness.modules import memory_of
from flatness.sharding import is_sharded

PRECISIONS = (torch.float32, torch.float64)
"""Bfloat16 weights would mostly swallow a perturbation in rounding."""


class WrappedOptimizer(Optimizer):
    """`param_groups`, `state` and `defaults` are the optimizer's own; how it steps is for a subclass to say.

    Args:
        optimizer: any torch optimizer that minimises and whose step needs no closure, of whole float32 or float64
            parameters.

    Raises:
        ValueError: another one.
    """

    _takes_shards: ClassVar[bool] = False
    """Whether parameters may be sharded over processes, as by `fully_shard`."""
    _transient: ClassVar[Mapping[str, Callable[[], Any]]] = {}
    """Attributes that live within a step, which copies are made without, and what they are then."""

    def __init__(self, optimizer: Optimizer) -> None:
        """Take over the optimizer's steps."""
        self.optimizer = arguments.instance("optimizer", optimizer, Optimizer)
        check_optimizer(optimizer, self._takes_shards)
        super().__setstate__({})  # sets up Optimizer's hooks; its __init__ would make groups and a state of its own
        self._shapes = [p.shape for group in self.param_groups for p in group["params"]]

    def _name_change(self, parameters: list[Tensor]) -> None:
        """Raise for parameters that have another shape; those that were added to a group are taken over.

        Raises:
            ValueError: there is one.
        """
        names = [
            (group.get("param_names") or [f"{place} of group {number}" for place in range(len(group["params"]))])
            for number, group in enumerate(self.param_groups)
        ]
        every = [name for group in names for name in group]
        if len(parameters) == len(self._shapes):
            for name, p, shape in zip(every, parameters, self._shapes, strict=True):
                if p.shape != shape:
                    raise ValueError(
                        f"optimizer's parameter {name} has the shape {tuple(p.shape)}, and had {tuple(shape)} when it "
                        "was wrapped; allowed: the parameters as they were: wrap a new optimizer"
                    )
        self._shapes = [p.shape for p in parameters]

    def _within_a_step(self) -> bool:
        """Whether a step is begun and not done, so that weights or gradients are not what they seem."""
        return False

    def __getstate__(self) -> dict[str, Any]:
        """For copy and pickle: all but hooks, as torch's optimizers have it, and what lives within a step.

        Copy or pickle it together with the model, as (model, optimizer): alone its copy moves copies of the weights
        that no model has.

        Raises:
            TypeError: a step is begun and not done.
        """
        if self._within_a_step():
            raise TypeError(f"a {type(self).__name__} cannot be copied or pickled within a step: do it after step()")
        left_out = {*self._transient, "_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "step"}
        return {k: v for k, v in self.__dict__.items() if k not in left_out and "_hooks" not in k}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over a copied state."""
        self.__dict__.update(state)
        self.__dict__.update({name: make() for name, make in self._transient.items()})
        super().__setstate__({})

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The wrapped optimizer's parameter groups."""
        return self.optimizer.param_groups

    @property
    def state(self) -> defaultdict[Tensor, Any]:  # type: ignore[override]
        """The wrapped optimizer's state."""
        return self.optimizer.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The wrapped optimizer's defaults."""
        return self.optimizer.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters to the wrapped optimizer; they join the whole-model norm.

        Raises:
            ValueError: parameters that are refused; they are not added.
        """
        self.optimizer.add_param_group(param_group)
        try:
            check_optimizer(self.optimizer, self._takes_shards)
        except ValueError:
            self.optimizer.param_groups.pop()
            raise

    def _parameters(self) -> list[Tensor]:
        parameters = [p for group in self.param_groups for p in group["params"]]
        if [p.shape for p in parameters] != self._shapes:
            self._name_change(parameters)
        if any(p.dtype not in PRECISIONS for p in parameters):
            check_optimizer(self.optimizer, self._takes_shards)  # names it
        return parameters


def check_optimizer(optimizer: Optimizer, shards: bool = False) -> None:
    """Refuse what cannot be wrapped; ValueError says why.

    Args:
        optimizer: to be wrapped.
        shards: whether its parameters may be sharded over processes.
    """
    name = type(optimizer).__name__
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if isinstance(optimizer, WrappedOptimizer) or closure is None or closure.default is inspect.Parameter.empty:
        raise ValueError(f"optimizer is {name}; allowed: an optimizer whose step can do without a closure, not SAM")
    places: set[Any] = set()
    for group in optimizer.param_groups:
        if group.get("maximize", False):
            raise ValueError(f"optimizer is {name} with maximize=True; allowed: one that minimises")
        for p in group["params"]:
            if p.dtype not in PRECISIONS:
                raise ValueError(f"optimizer holds a parameter of dtype {p.dtype}; allowed: float32, float64")
            if hasattr(p, "_is_flat_param"):
                raise ValueError(f"optimizer holds a sharded {type(p).__name__}; allowed: FSDP's fully_shard, with SAM")
            if is_sharded(p) and not shards:
                raise ValueError(f"optimizer holds a sharded {type(p).__name__}; allowed: whole parameters, or SAM")
            if memory_of(p) in places:
                raise ValueError("optimizer holds views of the same memory; allowed: one parameter for each weight")
            places.add(memory_of(p))
