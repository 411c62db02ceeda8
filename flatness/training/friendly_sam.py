"""Friendly SAM: ascent along what is the batch's own in its gradient (Li et al., "Friendly SAM", 2024).

    direction   d = g - share m                          g the batch's gradient at w, m the running mean of those before
    mean        m <- decay m + (1 - decay) g
    ascent      w_hat = w + rho d / |d|
    descent     w <- w - alpha grad L(w_hat)

Its authors find that the full gradient's part in SAM's direction does harm, and take an estimate of it off; what is
left is the batch's noise. With share = 0 it is SAM. At share = 1 it makes no difference whether the mean is that of the
steps before, as in their code and here, or holds g already, as in their Eq. (7): both differences are along g - m. The
first step, which has no mean, is SAM's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flatness import arguments
from flatness.passes import gradients_of, whole_norm
from flatness.training.perturbed_optimizer import Closure
from flatness.training.sam import SAM

__all__ = ["FriendlySAM"]


class FriendlySAM(SAM):
    """SAM that climbs the batch's gradient less the running mean of gradients, with all that SAM promises.

    The mean (one copy of the weights' memory) is in the state_dict. It takes in the gradients of steps that perturb,
    and none that is not finite.

    Data-parallel ranks with gradients="local" keep means of their own, while state dictionaries are usually written by
    one rank: save each rank's, or use "averaged".

    Mixed precision: a GradScaler's scale changes from step to step, which the mean must not see: give `scaler`.

    Args:
        optimizer, rho, adaptive, schedule, on_nonfinite, gradients, model, eta, same_randomness: as in `SAM`.
        share: how much of the mean is taken off; 1 in the paper's experiments.
        decay: of the mean, at least 0 and below 1.
        scaler: the GradScaler by which losses are scaled, where one is used.

    Raises:
        ValueError: an argument outside of what is allowed.
    """

    _takes_shards = False  # whose noise or mean would have to be known to all
    _entry = "friendly_sam"
    _recorded: ClassVar[tuple[str, ...]] = ("rho", "adaptive", "eta", "share", "decay")

    def __init__(
        self,
        optimizer: Optimizer,
        rho: float = 0.05,
        share: float = 1.0,
        decay: float = 0.9,
        adaptive: bool = False,
        schedule: Callable[[int], bool] | None = None,
        *,
        on_nonfinite: str = "raise",
        gradients: str = "local",
        model: nn.Module | None = None,
        eta: float = 0.01,
        same_randomness: bool = True,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """Take over the optimizer's steps."""
        super().__init__(
            optimizer,
            rho,
            adaptive,
            schedule,
            on_nonfinite=on_nonfinite,
            gradients=gradients,
            model=model,
            eta=eta,
            same_randomness=same_randomness,
        )
        self.share = arguments.number("share", share, at_least=0)
        self.decay = arguments.number("decay", decay, at_least=0)
        if self.decay >= 1:
            raise arguments.refuse("decay", decay, "a number of at least 0 and below 1")
        self.scaler = None if scaler is None else arguments.instance("scaler", scaler, torch.amp.GradScaler)
        self._means: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def _ascend(self, parameters: list[Tensor]) -> bool:
        g = gradients_of(parameters)
        if not math.isfinite(whole_norm(g)):
            return False
        w_hat = [p for p in parameters if p.grad is not None]
        scale = 1.0 if self.scaler is None else self.scaler.get_scale()
        directions = []
        for p, gradient in zip(w_hat, g, strict=True):
            if p not in self._means:
                directions.append(gradient.clone())
                self._means[p] = gradient / scale
                continue
            mean = self._means[p] = self._means[p].to(gradient)
            directions.append(torch.sub(gradient, mean, alpha=self.share * scale))
            mean.lerp_(gradient / scale, 1.0 - self.decay)
        return self._climb(w_hat, directions)

    def _check_scaler(self, scaler: dict[str, Any], passes: Closure | None) -> None:
        super()._check_scaler(scaler, passes)
        if self.scaler is None:
            raise RuntimeError(
                "a GradScaler scales the losses, and FriendlySAM has none: give it scaler=, at the start"
            )

    def state_dict(self) -> dict[str, Any]:
        """SAM's, the entry "friendly_sam" with the running means in the order of the parameters, None where none is."""
        state = super().state_dict()
        state[self._entry]["means"] = [self._means.get(p) for p in self._parameters()]
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a `state_dict`, whose settings replace this object's, as lr does in torch.

        Raises:
            ValueError: no entry "friendly_sam", or its means are not those of this optimizer's parameters.
        """
        parameters = self._parameters()
        own = arguments.instance("state_dict", state_dict, dict).get(self._entry)
        if isinstance(own, dict):
            stored = own.get("means")
            if not isinstance(stored, list) or not all(mean is None or isinstance(mean, Tensor) for mean in stored):
                raise arguments.refuse("state_dict's means", stored, "a list of tensors and None, one a parameter")
            shapes = [None if mean is None else tuple(mean.shape) for mean in stored]
            if len(shapes) != len(parameters) or any(
                shape not in (None, tuple(p.shape)) for shape, p in zip(shapes, parameters, strict=True)
            ):
                allowed = f"one mean or None for each parameter, of its shape: {[tuple(p.shape) for p in parameters]}"
                raise arguments.refuse("the shapes of state_dict's means", shapes, allowed)
            for mean in stored:
                if mean is None:
                    continue
                arguments.floating_tensor("state_dict's means", mean)
                if mean.is_meta or mean.layout is not torch.strided or not bool(torch.isfinite(mean).all()):
                    raise arguments.refuse("state_dict's means", mean, "dense tensors with finite values")
        super().load_state_dict(state_dict)
        means = zip(parameters, state_dict[self._entry]["means"], strict=True)
        self._means = {p: mean.to(device=p.device, dtype=p.dtype, copy=True) for p, mean in means if mean is not None}
