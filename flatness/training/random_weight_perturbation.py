"""Random weight perturbation: the gradient at weights moved by Gaussian noise, with the step of any torch optimizer.

The training rule of LPF-SGD (Bisla et al. 2022) with one draw a step:

    w <- w - alpha grad L(w + sigma z),    z ~ N(0, I), fresh at each step

so that steps descend E_z L(w + sigma z), the low-pass filter's own value, at the price of a plain step.

    perturbed = RandomWeightPerturbation(torch.optim.Adam(model.parameters(), lr=1e-4), sigma=0.01)

    def closure():
        perturbed.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    loss = perturbed.step(closure)       # the loss at w + sigma z

The other form, for loops that own their passes (gradient accumulation, GradScaler):

    perturbed.zero_grad()
    with perturbed.perturbed():          # at w + sigma z; on leaving, w is back, bit for bit
        for part in batch:
            loss_of(model, part).backward()
    perturbed.step()
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from flatness import arguments
from flatness.training.accumulation import refusing_accumulation
from flatness.training.perturbed_optimizer import Closure, PerturbedOptimizer, Phase, loss_of
from flatness.weights import NOISE_SCALES, derived_seed, root_mean_square

__all__ = ["RandomWeightPerturbation"]


class RandomWeightPerturbation(PerturbedOptimizer):
    """The given optimizer's step with the gradient at noisy weights (module docstring: equation, examples).

    `param_groups`, `state` and `defaults` are the optimizer's own. Weights move in place and are put back from a saved
    copy, bit for bit, also after an exception. Torch's generators are left alone: a step costs one pass and draws what
    a plain step would.

    The noise is drawn where the parameters are, as a function of (seed, step), parameter by parameter in the
    optimizer's order: the same on all data-parallel ranks of one seed, in a resumed run, and on devices of one kind.
    Frozen parameters stay.

    Mixed precision: autocast's cache of cast weights is emptied whenever weights move. With GradScaler use the form
    without closure and `scaler.step(perturbed)`; `scaler.unscale_(perturbed)` and clipping before it are as usual.

    Args:
        optimizer: any torch optimizer whose step needs no closure, of float32 or float64 parameters.
        sigma: standard deviation of the noise, in the unit that scale names; 0 is the plain optimizer, bit for bit.
            May be set between steps.
        seed: of the noise.
        scale: "absolute"; or relative to the root mean square of each tensor ("layer") or of each output channel
            ("filter", as Bisla et al. do) or to each weight's magnitude ("weight"), of the weights as they are at the
            step.
        schedule: from the step, counted from 0, to whether it perturbs: `Always()` (None), `Late`, `EveryK` or any
            function of the step alone.
        on_nonfinite: what `step` does about a gradient with NaN or infinities: "raise", or "skip" (counted in
            `skipped`). The weights stay as they are.

    Raises:
        ValueError: an argument outside of what is allowed.
    """

    passes = 1
    _entry = "random_weight_perturbation"
    _size = "sigma"
    _recorded: ClassVar[tuple[str, ...]] = ("sigma", "seed", "scale")
    _moved_to = "w + sigma z"

    def __init__(
        self,
        optimizer: Optimizer,
        sigma: float = 0.01,
        seed: int = 0,
        scale: str = "absolute",
        schedule: Callable[[int], bool] | None = None,
        *,
        on_nonfinite: str = "raise",
    ) -> None:
        """Take over the optimizer's steps."""
        super().__init__(optimizer, schedule, on_nonfinite)
        self.sigma = sigma
        self.seed = arguments.count("seed", seed)
        self.scale = arguments.choice("scale", scale, NOISE_SCALES)

    @property
    def sigma(self) -> float:
        """The noise's standard deviation."""
        return self._sigma

    @sigma.setter
    def sigma(self, value: float) -> None:
        self._sigma = arguments.number("sigma", value, at_least=0)

    @contextlib.contextmanager
    def perturbed(self, step: int | None = None) -> Iterator[None]:
        """Within, weights are at w + sigma z; on leaving, also by an exception, w is back.

        Gradients are not cleared: a step has this one pass alone. Without effect where the step does not perturb.

        Args:
            step: whose noise; by default that of the step that comes next. For loops that count steps themselves and
                make them through the wrapped optimizer, without `step()`; such passes are not looked after.

        Raises:
            RuntimeError: the last perturbed pass was not followed by `step`.
        """
        number = self.steps if step is None else arguments.count("step", step)
        if step is None:
            self._check_unfinished()
        parameters = self._parameters()
        moves = self.sigma > 0 and bool(self.schedule(number))
        after, self._phase = Phase.START, Phase.INSIDE
        try:
            with self._saved_weights(parameters) if moves else contextlib.nullcontext():
                if moves:
                    self._add_noise(parameters, number)
                yield
            after = Phase.READY if step is None else Phase.START
        finally:
            self._phase = after

    @torch.no_grad()
    def _add_noise(self, parameters: list[Tensor], step: int) -> None:
        """From w to w + sigma z: float32 numbers, drawn where the parameter is, in its type and layout."""
        label = derived_seed("random weight perturbation", self.seed, step)
        generators = {device: torch.Generator(device).manual_seed(label) for device in {p.device for p in parameters}}
        for p in parameters:
            z = torch.randn(p.shape, generator=generators[p.device], device=p.device)
            if not p.requires_grad:
                continue
            along = torch.empty_like(p).copy_(z)
            if self.scale != "absolute":
                along.mul_(root_mean_square(p, self.scale))
            p.add_(along, alpha=self.sigma)
        torch.clear_autocast_cache()

    def _run(self, closure: Closure) -> Tensor | float:
        self._check_unfinished()
        if not self.due:
            return loss_of("closure", closure)
        with self.perturbed(), refusing_accumulation("closure", self._parameters(), self._left, self._outside):
            return loss_of("closure", closure)
