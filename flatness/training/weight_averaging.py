"""Averages of the weights along training, on torch.optim.swa_utils: EMA, SWA, and power-function EMA.

    shadows = Shadows(model, {"ema": EMA(0.9999), "swa": SWA(start=180_000, cycle=100)})
    for step in range(steps):
        ...                                    # forward, backward, optimizer.step()
        shadows.update(step)
    with shadows.applied("ema", model):        # the average in the model's place
        evaluate(model)

EMA and SWA are those of Algorithm 1 of "Understanding Flatness in Generative Models: Its Role and Benefits", lines 12
to 17. Power-function EMA, and the reconstruction of an EMA of any length after training from snapshots of two, are
Karras et al. 2024 ("Analyzing and Improving the Training Dynamics of Diffusion Models"), Section 3.

Buffers (BatchNorm's running statistics) are not averaged: a shadow has those that the model had at its last update. A
model with BatchNorm needs `torch.optim.swa_utils.update_bn` on the shadow before use; GroupNorm needs nothing.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flatness import arguments
from flatness.modules import SavedBuffers, copied_module, plain_modules, plain_name, uncompiled, writable
from flatness.sharding import ShardedAverage, gathered, is_sharded, local, locals_of
from flatness.training.averaging_rules import (
    EMA,
    LARGEST_SIGMA_REL,
    SWA,
    Fit,
    PowerEMA,
    Rule,
    Snapshot,
    fit,
    reconstruct,
)

__all__ = [
    "EMA",
    "LARGEST_SIGMA_REL",
    "SWA",
    "Fit",
    "PowerEMA",
    "Rule",
    "Shadows",
    "Snapshot",
    "fit",
    "reconstruct",
]


class _Average(AveragedModel):
    """torch's container, with an update that does not wait for the device.

    torch's own copies n_averaged to the device at every update, which waits for all that is queued there; here it stays
    on the CPU. It also walks through both models; here the trained one is walked through once for all averages.
    """

    def __init__(self, model: nn.Module) -> None:
        """Copy the model."""
        super().__init__(copied_module(model))
        self._own: list[Tensor] = list(self.module.parameters())
        self._modules_inside = plain_modules(self.module)

    def update_parameters(self, model: nn.Module) -> None:
        """Take in the model's weights and buffers as they are."""
        self.take_in(list(model.parameters()), plain_modules(model))

    @torch.no_grad()
    def take_in(self, weights: Sequence[Tensor], modules: Sequence[nn.Module]) -> None:
        """As `update_parameters`, of a model that has been walked through."""
        weights = [w.to(own.device) for own, w in zip(self._own, weights, strict=True)]
        if int(self.n_averaged) == 0:
            torch._foreach_copy_(self._own, weights)
        else:
            self.multi_avg_fn(self._own, weights, self.n_averaged)  # type: ignore[misc]
        _copy_buffers(modules, self._modules_inside)
        self.n_averaged += 1


@torch.no_grad()
def _copy_buffers(modules: Sequence[nn.Module], into: Sequence[nn.Module]) -> None:
    """Give modules the buffers of others; those that a model makes or replaces as it runs are made or replaced here."""
    for module, own in zip(modules, into, strict=True):
        for name, buffer in module._buffers.items():
            there = own._buffers.get(name)
            if name not in own._buffers:
                own.register_buffer(name, None, persistent=name not in module._non_persistent_buffers_set)
            if buffer is None or there is None or there.shape != buffer.shape or there.dtype != buffer.dtype:
                own._buffers[name] = None if buffer is None else buffer.detach().clone()
            elif writable(there):
                there.copy_(buffer)


def _ema(rule: EMA) -> Any:
    """How an EMA takes in weights."""
    if rule.warmup is None:
        return get_ema_multi_avg_fn(rule.decay)

    @torch.no_grad()
    def update(averages: Any, weights: Any, count: Tensor | int) -> None:
        # The weights at the start are the first that count
        torch._foreach_lerp_(averages, weights, 1.0 - rule.decay_at(int(count) - 1))

    return update


def _averaged(model: nn.Module, rule: Rule) -> _Average | ShardedAverage:
    """A copy of the model that averages by the rule. Its first update copies the weights, later ones average."""
    sharded = any(is_sharded(p) for p in model.parameters())
    average: _Average | ShardedAverage = ShardedAverage(model) if sharded else _Average(model)
    if isinstance(rule, EMA):
        average.multi_avg_fn = _ema(rule)
        # so that the EMA starts from the weights now, not from those of step 0
        average.take_in(list(model.parameters()), plain_modules(model))
        return average

    @torch.no_grad()
    def update(averages: Any, weights: Any, _: Tensor | int) -> None:
        # The library's own SWA rounds the share to float32, also for float64 weights
        t = int(average.n_averaged) + 1
        share = 1 / t if isinstance(rule, SWA) else -math.expm1((rule.gamma + 1) * math.log1p(-1 / t))
        torch._foreach_lerp_(averages, weights, share)

    average.multi_avg_fn = update
    return average


def _recorded(rule: Rule) -> dict[str, Any]:
    """A rule in plain types; what an EMA has at its default is left out, as in states of before there was a choice."""
    default = {"start": 0, "warmup": None} if isinstance(rule, EMA) else {}
    own = {key: value for key, value in asdict(rule).items() if key not in default or value != default[key]}
    return {"kind": type(rule).__name__, **own}


def _check_entries(name: str, stored: object, average: _Average | ShardedAverage, most: int) -> None:
    """Hold a stored average, of at most so many updates, against the one that it is to replace.

    Raises:
        ValueError: an entry is missing, too many, of another shape or kind, or out of its range.
    """
    own, weights = average.state_dict(), {key for key, _ in average.named_parameters()}
    if not isinstance(stored, Mapping) or stored.keys() != own.keys():
        differing = sorted(map(str, stored.keys() ^ own.keys())) if isinstance(stored, Mapping) else stored
        raise arguments.refuse(f"{name}, or an entry that only one side has,", differing, "the average's own entries")
    for key, value in own.items():
        there = stored[key]
        if not isinstance(value, Tensor):
            continue
        if not isinstance(there, Tensor) or there.shape != value.shape:
            raise arguments.refuse(f"{name}, {key},", there, f"a tensor of shape {tuple(value.shape)}")
        kinds = [(t.is_complex(), t.is_floating_point(), t.dtype is torch.bool, t.layout) for t in (there, value)]
        if kinds[0] != kinds[1] or there.is_meta != value.is_meta:
            raise arguments.refuse(f"{name}, {key},", there, f"a tensor like one of {value.dtype}, with values")
        if key == "n_averaged" and not 0 <= int(there) <= most:
            raise arguments.refuse(f"{name}, {key},", there.item(), f"a whole number from 0 to {most}, the updates")
        if key in weights and not there.is_meta and not bool(torch.isfinite(local(there)).all()):
            raise ValueError(f"{name}, {key}, has entries that are not finite; allowed: finite weights")


class Shadows:
    """Several averages of one model's weights, kept up by one call a step. Each costs one copy of the model.

    `shadows["ema"]` is the averaged module, ready to be called.

    Args:
        model: the module that is trained, of float32 or float64 parameters; under DDP the module inside, `ddp.module`.
            Of a compiled one, the averages are of the module inside. Of one that `fully_shard` has sharded, each rank
            averages its shards, and all ranks make the same calls; `shadows["ema"]` is refused, `applied` is not.
        rules: EMA, SWA or PowerEMA by name.
        first_step: the step of the first update.

    Raises:
        ValueError: no rules, a rule of another kind, a model without parameters, wrapped, or of low precision (where
            1 - decay is too small a share to move the average).
    """

    def __init__(self, model: nn.Module, rules: Mapping[str, Rule], first_step: int = 0) -> None:
        """Copy the model once a rule."""
        self._model = model = uncompiled(arguments.module("model", model))
        if hasattr(model, "no_sync"):
            raise arguments.refuse("model", type(model).__name__, "the module inside the data-parallel one, .module")
        for name, p in model.named_parameters():
            if p.dtype not in (torch.float32, torch.float64):
                raise ValueError(f"model's {name} is of dtype {p.dtype}; allowed: float32, float64")
        whole = isinstance(rules, Mapping) and all(isinstance(name, str) for name in rules)
        if not whole or not rules or not all(isinstance(rule, Rule) for rule in rules.values()):
            raise arguments.refuse("rules", rules, "at least one EMA, SWA or PowerEMA, by name")
        self.rules = dict(rules)
        self.next_step = arguments.count("first_step", first_step)
        self._shadows = {name: _averaged(model, rule) for name, rule in rules.items()}
        self._wrapped = Outline(model)
        self._applied = False

    def __getitem__(self, name: str) -> nn.Module:
        """The averaged module.

        Raises:
            ValueError: an unknown name, or an SWA that has not begun.
        """
        self._check_begun(name)
        return self._shadows[name].module

    def _check_begun(self, name: str) -> None:
        arguments.choice("name", name, self._shadows)
        if int(self._shadows[name].n_averaged) == 0:
            raise ValueError(f"name is {name!r}, which has averaged nothing yet; allowed: from {self.rules[name]} on")

    def update(self, step: int) -> None:
        """Take in the model's weights after this step, counted from 0, to every average whose turn it is.

        Raises:
            ValueError: a step other than the one after the last.
                The model's parameters are other ones than at the beginning, or of other shapes or types.
            RuntimeError: an average is in the model's place (`applied`).
        """
        if self._applied:
            raise RuntimeError("update was called within applied(): the average would take in an average")
        if isinstance(step, bool) or not isinstance(step, Integral) or step != self.next_step:
            raise ValueError(f"step is {step!r}; allowed: {self.next_step}, each step once and in order")
        self._wrapped.check("model", self._model, "the model as it was when its averages began: begin new ones")
        weights, modules = list(self._model.parameters()), plain_modules(self._model)
        for name, rule in self.rules.items():
            if isinstance(rule, EMA) and step < rule.start:
                self._shadows[name].n_averaged.zero_()  # the average is the weights until its start
            if not isinstance(rule, SWA) or (step >= rule.start and step % rule.cycle == 0):
                self._shadows[name].take_in(weights, modules)
        self.next_step += 1

    def copy_to(self, name: str, model: nn.Module) -> None:
        """Copy an average, buffers too, into a model of the same architecture, in place.

        Raises:
            ValueError: as `shadows[name]`; RuntimeError: the model's entries or shapes differ.
        """
        if name in self._shadows and isinstance(shadow := self._shadows[name], ShardedAverage):
            self._check_begun(name)
            shadow.copy_to(uncompiled(model))
            torch.clear_autocast_cache()
            return
        average = self[name]
        entries = {plain_name(key): key for key in model.state_dict()}
        state = {entries.get(plain_name(key), key): value for key, value in average.state_dict().items()}
        model.load_state_dict(state)
        _copy_buffers(plain_modules(average), plain_modules(model))  # those too that are in no state_dict
        torch.clear_autocast_cache()  # within autocast the model would go on with its cast weights of before

    @contextlib.contextmanager
    def applied(self, name: str, model: nn.Module) -> Iterator[None]:
        """Within, the model has the average's weights and buffers; on leaving, its own again, bit for bit.

        Raises:
            ValueError, RuntimeError: as `copy_to`.
        """
        parameters: list[Tensor] = list(model.parameters())
        buffers = SavedBuffers(model)
        own = [local(p).clone() for p in parameters]
        try:
            self.copy_to(name, model)
            self._applied = uncompiled(model) is self._model
            yield
        finally:
            self._applied = False
            with torch.no_grad():
                torch._foreach_copy_(locals_of(parameters), own)
            buffers.put_back(compare=False)
            torch.clear_autocast_cache()

    def snapshots(self) -> list[Snapshot]:
        """Copies on the CPU of all power-function EMAs as they stand, to be saved for `reconstruct`."""
        taken: list[Snapshot] = []
        for name, rule in self.rules.items():
            steps = int(self._shadows[name].n_averaged)
            if isinstance(rule, PowerEMA) and steps > 0:
                shadow = self._shadows[name]
                named = (
                    shadow.weights.items() if isinstance(shadow, ShardedAverage) else shadow.module.named_parameters()
                )
                weights = {plain_name(key): gathered(p.detach()).to("cpu", copy=True) for key, p in named}
                taken.append({"gamma": rule.gamma, "steps": steps, "weights": weights})
        return taken

    def state_dict(self) -> dict[str, Any]:
        """All averages, in plain types and tensors (not copied, as in torch's modules)."""
        rules = {name: _recorded(rule) for name, rule in self.rules.items()}
        shadows = {name: shadow.state_dict() for name, shadow in self._shadows.items()}
        return {"next_step": self.next_step, "rules": rules, "shadows": shadows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict` of the same rules; all of it is checked before anything is loaded.

        Raises:
            ValueError: rules, averages, entries, shapes or kinds are not this object's, or a number is out of range.
        """
        own = self.state_dict()
        stored = arguments.instance("state_dict", state_dict, dict)
        if stored.get("rules") != own["rules"]:
            raise ValueError(f"state_dict has the rules {stored.get('rules')}; allowed: {own['rules']}")
        next_step = arguments.count("state_dict's next_step", stored.get("next_step"))
        shadows = stored.get("shadows")
        if not isinstance(shadows, dict) or shadows.keys() != own["shadows"].keys():
            shown = sorted(map(str, shadows)) if isinstance(shadows, dict) else shadows
            raise arguments.refuse("state_dict's shadows", shown, f"averages of the names {sorted(own['shadows'])}")
        for name, average in self._shadows.items():
            _check_entries(f"state_dict's shadow {name!r}", shadows[name], average, next_step + 1)
        for name, shadow in self._shadows.items():
            shadow.load_state_dict(shadows[name])
        self.next_step = next_step


class Outline:
    """Names, shapes and types of a model's parameters.

    Args:
        model: as it is now.
    """

    def __init__(self, model: nn.Module) -> None:
        """Note them."""
        self.parameters = _parameters(model)

    def changes(self, model: nn.Module) -> str:
        """What has changed, in words; "" where nothing has."""
        now = _parameters(model)
        if list(now.items()) == list(self.parameters.items()):
            return ""
        before = self.parameters
        differences = [f"{name} is new" for name in now if name not in before]
        differences += [f"{name} is gone" for name in before if name not in now]
        for name in now:
            for was, is_, what in zip(before.get(name, ()), now[name], ("shape", "dtype"), strict=False):
                if was != is_:
                    differences.append(f"{name} has the {what} {is_}, and had {was}")
        if not differences:  # the same ones in another order
            differences = ["its parameters are in another order"]
        return "; ".join(differences[:4]) + (f"; and {len(differences) - 4} more" if len(differences) > 4 else "")

    def check(self, name: str, model: nn.Module, allowed: str) -> None:
        """Raise where it has changed.

        Args:
            name: of the argument, for the message.
            model: as it is now.
            allowed: what may be instead.

        Raises:
            ValueError: it has.
        """
        differences = self.changes(model)
        if differences:
            raise ValueError(f"{name} has changed: {differences}; allowed: {allowed}")


def _parameters(model: nn.Module) -> dict[str, tuple[Any, ...]]:
    """Shape and type by name, in order."""
    return {plain_name(name): (tuple(p.shape), p.dtype) for name, p in model.named_parameters()}
