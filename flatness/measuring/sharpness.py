"""Worst-case sharpness: how far the loss rises somewhere within a distance rho of the weights (Foret et al., 2021).

    max over |delta| <= rho of L(w + delta) - L(w)

The random kind of flatness, the low-pass filter's, sees the mean over directions; this one sees the worst of them, and
the two may disagree: averaging weights lowers the rise along the gradient, by which a single minibatch has moved them,
and may leave the mean rise as it is. What is found is a lower bound of the maximum, the best of a few iterates

    delta_1 = rho grad L(w) / |grad L(w)|,    delta_(k+1) = rho grad L(w + delta_k) / |grad L(w + delta_k)|.

The first is the point to which full-batch SAM climbs. For a convex loss no iterate is lower than the one before; at a
minimum of a quadratic with Hessian H they tend to the maximum, rho^2 lambda_max(H) / 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from flatness import arguments
from flatness.measuring.base import Estimate, Loss, Measurement, PairedRises, measuring, settings_of
from flatness.measuring.derivatives import loss_gradient
from flatness.progress import Progress, reporter
from flatness.training.ascent import SMALLEST_NORM
from flatness.weights import GaussianNoise, Selection, derived_seed, direction_norm


@dataclass(frozen=True, kw_only=True)
class WorstCaseSharpness(Measurement):
    """How far the loss rises within a ball, at least.

    Nothing is drawn, so errors are over samples alone; `data_standard_error` takes the place as given, so it does not
    say that the place was sought on the same samples, by which the rise is too large by about its own variance over
    them. Models are compared on the same batches.

    Attributes:
        rise: the largest of `rises`, or 0 where none is positive: the centre of the ball is in it.
        rises: after each step, paired sample by sample; the first is that at full-batch SAM's w_hat.
        gradient_norm: of the loss at the unmoved weights; `rise` is rho times this to first order.
    """

    rise: Estimate
    rises: tuple[Estimate, ...]
    gradient_norm: float


def worst_case_sharpness(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    *,
    rho: float = 0.05,
    steps: int = 5,
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> WorstCaseSharpness:
    """The rise of the loss at the worst of a few places on the sphere of radius rho around the weights.

    Costs steps passes with gradients, steps + 1 without, and two copies of the weights.

    Args:
        model: the module whose weights are moved.
        loss: `loss(model, batch)`, as `flatness.measuring.base` describes it; differentiable.
        batches: the data; read once into a list where it is not a sequence.
        rho: the radius, above 0, over all selected weights together.
        steps: of ascent, at least 1.
        parameters: which weights move (`selected_parameters`).
        seed: the loss's own random numbers are functions of it, and the direction tried where the gradient is zero.
        eval_mode: False leaves the submodules in the modes they are in. Modes and buffers are put back either way.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, or a loss or gradient is not finite. The weights are as before then.
        RuntimeError: within torch.inference_mode.
    """
    rho = arguments.number("rho", rho, above=0.0)
    steps = arguments.count("steps", steps, at_least=1)
    report = reporter("worst-case sharpness", steps, progress)
    with measuring(model, loss, batches, parameters, seed, eval_mode) as (weights, losses):
        unmoved = losses()
        first_norm = 0.0
        rises = []
        for step in range(steps):
            direction = loss_gradient(weights, losses)
            norm = direction_norm(direction)
            if not all(bool(part.isfinite().all()) for part in direction):
                raise ValueError(f"the gradient of loss is not finite at step {step}; allowed: finite gradients")
            first_norm = first_norm if step else norm
            if norm < SMALLEST_NORM:  # a stationary point: any direction is as good
                direction = list(GaussianNoise(weights.saved, derived_seed("worst case", seed, step)))
                norm = direction_norm(direction)
            weights.move(direction, rho / norm)
            moved = PairedRises(unmoved)
            moved.add(losses(f"distance {rho:g} after {step + 1} steps"))
            rises.append(moved.rise(drawn=False))
            report(step + 1, steps)
        settings = settings_of("worst_case_sharpness", weights.named, losses, eval_mode, rho=rho, steps=steps)
    largest = max(rises, key=lambda rise: rise.value)
    return WorstCaseSharpness(
        loss=PairedRises(unmoved).unmoved_loss(),
        rise=largest if largest.value > 0 else Estimate(0.0, 0.0, 0.0),
        rises=tuple(rises),
        gradient_norm=first_norm,
        settings=settings,
    )
