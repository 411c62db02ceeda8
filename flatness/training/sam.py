"""Sharpness-aware minimisation (SAM) around any torch optimizer.

Algorithm 1 of "Understanding Flatness in Generative Models: Its Role and Benefits", after Foret et al. 2021:

    ascent    w_hat = w + rho grad L(w) / |grad L(w)|    the norm over all parameters together
    descent   w <- w - alpha grad L(w_hat)               in general: the wrapped optimizer's step with this gradient

`adaptive=True` is ASAM (Kwon et al. 2021): w_hat = w + rho T^2 grad L(w) / |T grad L(w)|, T = |w| + eta, elementwise.

    sam = SAM(torch.optim.Adam(model.parameters(), lr=1e-4), rho=0.05)

    def closure():
        sam.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    loss = sam.step(closure)

The two-phase form, for loops that own their passes (gradient accumulation, GradScaler):

    sam.zero_grad()
    with sam.first_pass():           # at w
        for part in batch:
            loss_of(model, part).backward()
    if sam.due:                      # the schedule's word on this step
        with sam.perturbed():        # at w_hat, gradients cleared; on leaving, w is back
            for part in batch:
                loss_of(model, part).backward()
    sam.step()
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flatness import arguments
from flatness.modules import SavedBuffers, plain_name
from flatness.passes import RandomState, random_state, set_random_state
from flatness.sharding import is_sharded
from flatness.training.accumulation import refusing_accumulation
from flatness.training.ascent import SMALLEST_NORM, Ascent
from flatness.training.perturbed_optimizer import Closure, PerturbedOptimizer, Phase, check_callable, loss_of

__all__ = ["SAM", "SMALLEST_NORM", "Closure"]


class SAM(Ascent):
    """Sharpness-aware minimisation with the step of the given optimizer (module docstring: equations, examples).

    `param_groups`, `state` and `defaults` are the optimizer's own, so learning-rate schedulers take either of the two;
    steps are made through SAM alone. Weights move in place and are put back from a saved copy, bit for bit, also after
    an exception; the copy (one set of weights) is kept for the next step. Each pass waits once for the device, for the
    gradient's norm.

    Randomness: both passes of a step draw the same numbers from torch's default generators (CPU and the parameters'
    devices), which end where a plain step would have left them. Generators of your own are yours: draw timesteps and
    noise before the passes.

    Buffers: with `model`, its buffers (BatchNorm's running statistics) are put back after the perturbed pass, so a
    step updates them once, at w; without, twice.

    Data-parallel ranks: with gradients="averaged" each rank climbs the gradient that DDP averaged. With "local" each
    climbs its own, and DDP averages the descent alone: `model.no_sync` then encloses the first pass, forward and
    backward. With "averaged" keep the first pass out of `no_sync`: gradients that were not averaged are not noticed.
    Parameters that `torch.distributed.fsdp.fully_shard` shards over ranks are taken with "averaged" gradients: the norm
    is that of all shards together, and each rank moves and keeps its own; all ranks make the same calls.

    Mixed precision: autocast's cache of cast weights is emptied whenever weights move. With GradScaler use the
    two-phase form and `scaler.step(sam)`, which skips a step that overflowed in either pass; a closure and
    `scaler.unscale_(sam)` are refused. Do not give `sam.optimizer` to the scaler: unscaled twice is not noticed. To
    clip unscaled gradients, register a step pre-hook on `sam.optimizer`.

    Args:
        optimizer: any torch optimizer whose step needs no closure, of float32 or float64 parameters (bfloat16 weights
            would mostly swallow the perturbation in rounding).
        rho: the radius |w_hat - w|, in units of the weights (adaptive: |(w_hat - w) / T|). 0 is the plain optimizer,
            bit for bit. May be set between steps. To choose one: rho E|grad L| / L, the share of a batch's loss that
            the ascent climbs, means the same on every network, rho alone does not (docs/how_to/train_with_sam.md).
        adaptive: ASAM, for all parameters alike (its authors' code takes T = 1 for biases).
        schedule: from the step, counted from 0, to whether it perturbs: `Always()` (None), `Late`, `EveryK` or any
            function of the step alone. A step that does not perturb is one plain step of the optimizer.
        on_nonfinite: what `step` does about a gradient with NaN or infinities: "raise", or "skip" (counted in
            `skipped`). The weights stay as they are. Under DDP, all ranks raise or skip together.
        gradients: "local" or "averaged" over data-parallel ranks; of no effect in a single process.
        model: the module that is trained; needed for local gradients of several ranks.
        eta: what ASAM adds to |w|, without which a weight of zero is never perturbed.
        same_randomness: False lets the second pass draw new numbers.

    Raises:
        ValueError: an argument outside of what is allowed.
    """

    passes = 2
    _takes_shards = True
    _entry = "sam"
    _recorded: ClassVar[tuple[str, ...]] = ("rho", "adaptive", "eta")
    _moved_to = "w_hat"
    _transient: ClassVar[Mapping[str, Callable[[], Any]]] = {
        **PerturbedOptimizer._transient,
        "_random": lambda: None,
        "_members": dict,
    }

    def __init__(
        self,
        optimizer: Optimizer,
        rho: float = 0.05,
        adaptive: bool = False,
        schedule: Callable[[int], bool] | None = None,
        *,
        on_nonfinite: str = "raise",
        gradients: str = "local",
        model: nn.Module | None = None,
        eta: float = 0.01,
        same_randomness: bool = True,
    ) -> None:
        """Take over the optimizer's steps."""
        super().__init__(optimizer, rho, adaptive, eta, schedule, on_nonfinite)
        self.gradients = arguments.choice("gradients", gradients, ("local", "averaged"))
        self.model = None if model is None else arguments.instance("model", model, nn.Module)
        self.same_randomness = arguments.flag("same_randomness", same_randomness)
        self._members = self._members_now()
        self._check_ranks()
        self._random: RandomState | None = None

    def _check_ranks(self) -> None:
        distributed = torch.distributed
        ranks = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
        sharded = self.gradients == "local" and any(is_sharded(p) for p in self._parameters())
        if sharded:
            raise ValueError(
                "gradients is 'local'; allowed for sharded parameters: 'averaged', as FSDP reduces them over ranks"
            )
        if ranks > 1 and self.gradients == "local" and self.model is None:
            raise ValueError(
                f"model is None; allowed with gradients='local' and {ranks} ranks: the module that is trained, whose "
                "no_sync keeps the first pass's gradients local (or gradients='averaged')"
            )

    def step(  # type: ignore[override]
        self, closure: Closure | None = None, ascent_closure: Closure | None = None
    ) -> Tensor | float | None:
        """One step: ascent, descent, and the optimizer's update.

        Args:
            closure: clears the gradients, runs forward and backward, returns the loss. Called at w and at w_hat, or
                once where the step does not perturb. None finishes a two-phase step. One that adds to gradients of
                earlier micro-batches (accumulation by Lightning or accelerate) is refused.
                Takes no arguments: `functools.partial(closure, batch)` hands a batch over, in any wrapper of step too.
            ascent_closure: called at w in place of `closure`: the same for a part of the batch, at less cost.

        Returns:
            The loss at w, detached: the ascent closure's where it was called; None without closure.

        Raises:
            RuntimeError: neither closure nor perturbed pass where one is due; no gradient; GradScaler misused;
                gradients accumulated outside of the closure.
            FloatingPointError: a gradient is not finite and on_nonfinite is "raise"; the weights are as before.
            ValueError: what cannot be called in place of a closure, one that returned None, or an ascent closure alone.
        """
        check_callable("closure", closure)
        check_callable("ascent_closure", ascent_closure)
        if closure is None and ascent_closure is not None:
            raise ValueError("closure is None; allowed beside an ascent_closure: the closure of the whole batch")
        return self._make_step(None if closure is None else lambda: self._run(closure, ascent_closure))

    @contextlib.contextmanager
    def first_pass(self) -> Iterator[None]:
        """Encloses forward and backward at w in the two-phase form; without effect where the step does not perturb.

        Notes the random state for `perturbed` to start from, and keeps DDP from averaging where gradients are local.
        Optional where neither matters.
        """
        self._check_begin()
        if not self.due:
            yield
            return
        random = random_state(self._parameters()) if self.same_randomness else None
        with self.model.no_sync() if self._holds_back() else contextlib.nullcontext():  # type: ignore[union-attr, operator]
            yield
        self._random, self._phase = random, Phase.PASSED

    @contextlib.contextmanager
    def perturbed(self, set_to_none: bool = True) -> Iterator[None]:
        """Within, weights are at w_hat and the gradients cleared; on leaving, also by an exception, w is back.

        The ascent takes the gradients that the parameters hold on entry. Where the step does not perturb, or these
        are zero, the weights stay at w.

        Args:
            set_to_none: how gradients are cleared, as in `zero_grad`; False keeps their addresses (CUDA graphs).

        Raises:
            RuntimeError: no parameter has a gradient; the last perturbed pass was not followed by `step`; local
                gradients under DDP without `first_pass`.
        """
        self._check_begin()
        if self.due and self._holds_back() and self._phase is not Phase.PASSED:
            raise RuntimeError("gradients='local' under DDP: enclose forward and backward at w in sam.first_pass()")
        parameters = self._parameters()
        buffers = None if self.model is None else SavedBuffers(self.model)
        hooks: list[torch.utils.hooks.RemovableHandle] = []
        after, self._phase = Phase.START, Phase.INSIDE
        try:
            with self._saved_weights(parameters):
                finite = not self.due or self._ascend(parameters)
                self.optimizer.zero_grad(set_to_none=set_to_none)
                if not finite:  # NaN before DDP averages: every rank, and a GradScaler, then sees that the step is void
                    hooks += [p.register_hook(lambda g: g * math.nan) for p in parameters if p.requires_grad]
                if self._random is not None:
                    set_random_state(self._random)
                yield
            after = Phase.READY if finite else Phase.VOID
        finally:
            self._phase, self._random = after, None
            if buffers is not None:
                buffers.put_back(compare=False)  # which would wait for the device
            for hook in hooks:
                hook.remove()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As of any optimizer; the model's parameters may be other ones from then on."""
        super().add_param_group(param_group)
        self._members = self._members_now()

    def _members_now(self) -> dict[str, int]:
        """Of the model's parameters that require gradients, which they are."""
        if self.model is None:
            return {}
        return {plain_name(name): id(p) for name, p in self.model.named_parameters() if p.requires_grad}

    def _check_model(self) -> None:
        """Raise where the model's parameters are other ones than those that the optimizer was given.

        Raises:
            ValueError: they are.
        """
        now, before = self._members_now(), self._members
        if not before or now == before:
            self._members = now
            return
        held = {id(p) for p in self._parameters()}
        changes = [f"{name} is another parameter" if name in before else f"{name} is new" for name, at in now.items()
                if at not in held and before.get(name) != at]  # fmt: skip
        gone = {at for at in before.values() if at in held} - {id(p) for p in self.model.parameters()}  # type: ignore[union-attr]
        changes += [f"{name} is gone" for name, at in before.items() if at in gone and name not in now]
        if changes:
            more = f"; and {len(changes) - 4} more" if len(changes) > 4 else ""
            raise ValueError(
                f"model has changed since its optimizer was wrapped: {'; '.join(changes[:4])}{more}; allowed: the "
                "parameters that the optimizer holds: wrap a new one, or add_param_group"
            )
        self._members = now

    def _check_begin(self) -> None:
        self._check_ranks()
        self._check_model()
        self._check_unfinished()

    def _holds_back(self) -> bool:
        return self.gradients == "local" and hasattr(self.model, "no_sync")

    def _check_scaler(self, scaler: dict[str, Any], passes: Closure | None) -> None:
        super()._check_scaler(scaler, passes)
        if scaler.get("grad_scale") is None:
            raise RuntimeError(
                f"scaler.unscale_({self._entry}) was called, perhaps before the perturbed pass, whose gradients would "
                f"stay scaled: leave it out; to clip unscaled gradients, register a step pre-hook on "
                f"{self._entry}.optimizer"
            )

    def _run(self, closure: Closure, ascent_closure: Closure | None = None) -> Tensor | float:
        self._check_begin()
        if not self.due:
            return loss_of("closure", closure)
        name, first = ("closure", closure) if ascent_closure is None else ("ascent_closure", ascent_closure)
        with self.first_pass(), refusing_accumulation(name, self._parameters(), self._left, self._outside):
            loss = loss_of(name, first)
        with self.perturbed(set_to_none=False):  # the closure clears them as it likes
            loss_of("closure", closure)
        return loss
