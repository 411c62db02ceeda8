"""An optimizer whose gradient is taken at moved weights: what SAM, its kin and random weight perturbation share.

A step moves the weights, runs forward and backward there, puts the weights back from a saved copy, bit for bit, and
makes the wrapped optimizer's step with the gradient that was found. Where to the weights move is a subclass's affair.
At which steps it does so is a function of the step, counted from 0: `Always`, `Late`, `EveryK`.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from flatness import arguments
from flatness.passes import gradients_of, whole_norm
from flatness.sharding import local, locals_of
from flatness.training.accumulation import Gradients, Outside, gradients_now
from flatness.training.stored_state import load_whole
from flatness.training.wrapped_optimizer import WrappedOptimizer
from flatness.weights import NOISE_SCALES

Closure = Callable[[], Tensor | float]


SETTINGS: dict[str, Callable[[str, object], Any]] = {
    **{name: functools.partial(arguments.number, at_least=0) for name in ("rho", "eta", "sigma", "share", "decay")},
    **dict.fromkeys(("seed", "steps", "skipped"), arguments.count),
    "adaptive": arguments.flag,
    "scale": functools.partial(arguments.choice, allowed=NOISE_SCALES),
}
"""How each entry of a stored state is checked."""


class Phase(enum.Enum):
    """Where a step stands."""

    START = enum.auto()
    PASSED = enum.auto()  # first_pass() has been left: the gradients are those of the first pass
    INSIDE = enum.auto()  # within perturbed()
    READY = enum.auto()  # perturbed() has been left: w is back, the gradients are those at the moved weights
    VOID = enum.auto()  # as READY, but the first gradient was not finite, so the gradients are of no use


class PerturbedOptimizer(WrappedOptimizer):
    """The step of a wrapped optimizer with the gradient at moved weights, and what such optimizers promise.

    Args:
        optimizer: see `WrappedOptimizer`.
        schedule: from the step, counted from 0, to whether it perturbs; None for `Always()`.
        on_nonfinite: what `step` does about a gradient with NaN or infinities: "raise" or "skip".

    Attributes:
        passes: gradient passes that a perturbed step takes.
        steps: that were made, skipped ones included.
        skipped: steps passed over since a gradient was not finite.

    Raises:
        ValueError: an argument outside of what is allowed.
    """

    passes: ClassVar[int]
    _entry: ClassVar[str]
    """The name of what state_dict adds to the wrapped optimizer's."""
    _size: ClassVar[str]
    """The attribute that says how far weights move; 0 is the plain optimizer."""
    _recorded: ClassVar[tuple[str, ...]]
    """Attributes in the state_dict, before steps and skipped."""
    _moved_to: ClassVar[str]
    """The name of the moved weights in messages."""
    _transient: ClassVar[Mapping[str, Callable[[], Any]]] = {"_saved": dict, "_left": dict, "_outside": Outside}
    _step_supports_amp_scaling = True  # GradScaler.step then hands over its scale and leaves unscaling to `step`

    def __init__(self, optimizer: Optimizer, schedule: Callable[[int], bool] | None, on_nonfinite: str) -> None:
        """Nothing is moved or copied yet."""
        super().__init__(optimizer)
        self.schedule = arguments.function("schedule", Always() if schedule is None else schedule)
        self.on_nonfinite = arguments.choice("on_nonfinite", on_nonfinite, ("raise", "skip"))
        self.steps = self.skipped = 0
        self._phase = Phase.START
        self._saved: dict[Tensor, Tensor] = {}
        self._left: Gradients = gradients_now(self._parameters())
        self._outside = Outside()

    def _within_a_step(self) -> bool:
        return self._phase is not Phase.START

    @property
    def due(self) -> bool:
        """Whether the step that comes next perturbs: weights move at all, and the schedule says so."""
        return getattr(self, self._size) > 0 and bool(self.schedule(self.steps))

    def perturbed(self) -> contextlib.AbstractContextManager[None]:
        """Within, weights are moved; on leaving, also by an exception, they are back."""
        raise NotImplementedError

    def step(self, closure: Closure | None = None) -> Tensor | float | None:  # type: ignore[override]
        """One step: the gradient at moved weights, and the optimizer's update with it.

        Args:
            closure: clears the gradients, runs forward and backward, returns the loss. None finishes a step whose
                passes were made within `perturbed()`.
                Takes no arguments: `functools.partial(closure, batch)` hands a batch over, in any wrapper of step too.

        Returns:
            The loss of the first pass, detached; None without closure.

        Raises:
            RuntimeError: neither closure nor perturbed pass where one is due; no gradient; GradScaler misused;
                gradients accumulated outside of the closure.
            FloatingPointError: a gradient is not finite and on_nonfinite is "raise"; the weights are as before.
            ValueError: what cannot be called in place of a closure, or one that returned None.
        """
        check_callable("closure", closure)
        return self._make_step(None if closure is None else lambda: self._run(closure))

    def _run(self, closure: Closure) -> Tensor | float:
        """The passes of a step through a closure; the loss of the first."""
        raise NotImplementedError

    def _make_step(self, passes: Closure | None) -> Tensor | float | None:
        # GradScaler.step sets both around its call and deletes them after; taken off so that no error leaves them here
        scaler: dict[str, Any] = {k: self.__dict__.pop(k) for k in ("grad_scale", "found_inf") if k in self.__dict__}
        if scaler:
            self._check_scaler(scaler, passes)
        try:
            return self._passed_and_made(scaler, passes)
        finally:
            self._left = gradients_now(self._parameters())

    def _passed_and_made(self, scaler: dict[str, Any], passes: Closure | None) -> Tensor | float | None:
        loss = None
        if passes is not None:
            loss = passes()
        elif self.due and self._phase not in (Phase.READY, Phase.VOID):
            raise RuntimeError(
                f"step {self.steps} perturbs, but no perturbed pass was made: call step(closure), or run forward and "
                f"backward within `with {self._entry}.perturbed():` before step()"
            )
        self._descend(scaler)
        self.__dict__.update(scaler)
        return loss

    def _check_scaler(self, scaler: dict[str, Any], passes: Closure | None) -> None:
        if passes is not None:
            raise RuntimeError(
                f"scaler.step({self._entry}, closure) would leave the gradients scaled: use the two-phase form"
            )

    def _check_unfinished(self) -> None:
        if self._phase in (Phase.INSIDE, Phase.READY, Phase.VOID):
            raise RuntimeError("a perturbed pass of this step was begun before: call step(), or zero_grad() to drop it")

    @torch.no_grad()
    def _save(self, parameters: list[Tensor]) -> None:
        for p in parameters:
            copy = self._saved.get(p)
            own = local(p)
            if copy is None or (copy.shape, copy.dtype, copy.device) != (own.shape, own.dtype, own.device):
                self._saved[p] = torch.empty_like(own)
        torch._foreach_copy_([self._saved[p] for p in parameters], locals_of(parameters))

    @torch.no_grad()
    def _put_back(self, parameters: list[Tensor]) -> None:
        torch._foreach_copy_(locals_of(parameters), [self._saved[p] for p in parameters])
        torch.clear_autocast_cache()

    @contextlib.contextmanager
    def _saved_weights(self, parameters: list[Tensor]) -> Iterator[None]:
        """Weights are copied, and put back at the end of the block, however it ends."""
        self._save(parameters)
        try:
            yield
        finally:
            self._put_back(parameters)

    def _descend(self, scaler: dict[str, Any]) -> None:
        """The optimizer's step with the gradients at hand, unless they or those of the first pass are not finite."""
        phase, self._phase = self._phase, Phase.START
        gradients = gradients_of(self._parameters())
        place = self._moved_to if phase is Phase.READY and self.due else "w"
        finite = not scaler["found_inf"] if scaler else math.isfinite(whole_norm(gradients))
        void = phase is Phase.VOID or not finite
        if void and not scaler and self.on_nonfinite == "raise":
            raise FloatingPointError(
                f"the gradient at {place} is not finite at step {self.steps}; the weights are as before it "
                "(on_nonfinite='skip' passes over such steps)"
            )
        if void:
            self.skipped += 1
        else:
            if scaler and scaler.get("grad_scale") is not None:
                torch._foreach_mul_(locals_of(gradients), 1 / float(scaler["grad_scale"]))
            self.optimizer.step()
        self.steps += 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients; outside of `perturbed()` this also drops a step that was begun."""
        self.optimizer.zero_grad(set_to_none=set_to_none)
        if self._phase is not Phase.INSIDE:
            self._phase = Phase.START

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's state_dict with an entry of this class's name: its settings, steps, skipped."""
        own = {name: getattr(self, name) for name in (*self._recorded, "steps", "skipped")}
        return {**self.optimizer.state_dict(), self._entry: own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`, whose settings replace this object's, as lr does in torch.

        All of it is checked before anything is loaded.

        Raises:
            ValueError: no entry of this class's (a plain optimizer's state goes to `.optimizer.load_state_dict`), one
                that lacks a setting or has one out of its range, or groups and states that are not this optimizer's.
        """
        stored = arguments.instance("state_dict", state_dict, dict).get(self._entry)
        if not isinstance(stored, dict):
            raise ValueError(
                f"state_dict has the entries {sorted(map(str, state_dict))}; allowed: one written by "
                f"{type(self).__name__}.state_dict"
            )
        settings = {}
        for name in (*self._recorded, "steps", "skipped"):
            if name not in stored:
                raise ValueError(f"state_dict's {self._entry} lacks {name!r}; allowed: what state_dict() gives")
            settings[name] = SETTINGS[name](f"state_dict's {self._entry}.{name}", stored[name])
        wrapped = {key: value for key, value in state_dict.items() if key != self._entry}
        load_whole("state_dict", wrapped, self.optimizer)
        for name, value in settings.items():
            setattr(self, name, value)
        self._phase = Phase.START


def check_callable(name: str, given: object) -> None:
    """Refuse what is neither None nor can be called; ValueError says what can be."""
    if given is not None and not callable(given):
        raise arguments.refuse(name, given, "something to call; functools.partial(closure, batch) takes a batch")


def loss_of(name: str, closure: Closure) -> Tensor | float:
    """Call a closure with gradients on; its loss, detached.

    Raises:
        ValueError: it returned None.
    """
    with torch.enable_grad():
        loss = closure()
    if loss is None:
        raise ValueError(f"{name} returned None; allowed: the loss")
    return loss.detach() if isinstance(loss, Tensor) else loss


@dataclass(frozen=True)
class Always:
    """Perturb at every step."""

    def __call__(self, step: int) -> bool:
        """Whether to perturb at this step, counted from 0."""
        return True


@dataclass(frozen=True)
class Late:
    """Perturb from `start_step` on (late SAM)."""

    start_step: int

    def __post_init__(self) -> None:
        """Check the start."""
        arguments.count("start_step", self.start_step)

    @classmethod
    def after_share(cls, share: float, total_steps: int) -> Late:
        """Perturb once this share (0 to 1) of the steps has been made: 0.9 perturbs in the last tenth."""
        share = arguments.number("share", share, at_least=0, at_most=1)
        return cls(round(share * arguments.count("total_steps", total_steps, at_least=1)))

    def __call__(self, step: int) -> bool:
        """Whether to perturb at this step, counted from 0."""
        return step >= self.start_step


@dataclass(frozen=True)
class EveryK:
    """Perturb at steps 0, k, 2k, ..."""

    k: int

    def __post_init__(self) -> None:
        """Check the period."""
        arguments.count("k", self.k, at_least=1)

    def __call__(self, step: int) -> bool:
        """Whether to perturb at this step, counted from 0."""
        return step % self.k == 0
