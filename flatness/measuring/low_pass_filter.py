"""The low-pass-filter measure of flatness: the loss under Gaussian noise on the weights (Bisla et al., 2022).

LPF = E_z L(w + sigma z). For a quadratic loss with Hessian H and absolute noise it is L(w) + sigma^2 tr(H) / 2. The
number alone mixes flatness with the loss itself, so the rise LPF - L(w) is returned beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from flatness import arguments
from flatness.measuring.base import Estimate, Loss, Measurement, PairedRises, measuring, settings_of
from flatness.progress import Progress, reporter, tracked
from flatness.weights import NOISE_SCALES, GaussianNoise, Selection, derived_seed


@dataclass(frozen=True, kw_only=True)
class LowPassFilter(Measurement):
    """The loss under weight noise.

    Attributes:
        value: LPF itself.
        rise: LPF less the unperturbed loss, paired sample by sample.
    """

    value: Estimate
    rise: Estimate


def low_pass_filter(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    *,
    sigma: float = 0.01,
    draws: int = 100,
    scale: str = "absolute",
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> LowPassFilter:
    """The expected loss under Gaussian noise on the weights, and its rise over the loss without noise.

    Costs draws + 1 passes over the batches and one copy of the weights. The defaults are those of Bisla et al.'s public
    measurements.

    Args:
        model: the module whose weights are moved.
        loss: `loss(model, batch)`, as `flatness.measuring.base` describes it.
        batches: the data; read once into a list where it is not a sequence.
        sigma: standard deviation of the noise, in the unit that scale names.
        draws: number of noise draws, at least 1 (at least 2 for a standard error over them).
        scale: "absolute"; or relative to the root mean square of each tensor ("layer") or of each output channel
            ("filter"), which leaves the measure unchanged when whole layers are rescaled against one another, but not
            where each neuron has a factor of its own, in one layer and out of the next; or to each weight's magnitude
            ("weight"), which no rescaling that keeps a rectifier network's function moves.
        parameters: which weights get noise (`selected_parameters`).
        seed: noise and the loss's own random numbers are functions of it.
        eval_mode: False leaves the submodules in the modes they are in. Modes and buffers are put back either way.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, or a loss is not finite. The weights are as before then.
    """
    sigma = arguments.number("sigma", sigma, at_least=0.0)
    draws = arguments.count("draws", draws, at_least=1)
    arguments.choice("scale", scale, NOISE_SCALES)
    report = reporter("low-pass filter", draws, progress)
    with measuring(model, loss, batches, parameters, seed, eval_mode) as (weights, losses):
        rises = PairedRises(losses())
        for draw in tracked(range(draws), report, draws):
            weights.move(GaussianNoise(weights.saved, derived_seed("draw", seed, draw), scale), sigma)
            rises.add(losses(f"noise draw {draw} of sigma {sigma:g} ({scale})"))
        settings = settings_of(
            "low_pass_filter", weights.named, losses, eval_mode, sigma=sigma, draws=draws, scale=scale
        )
    return LowPassFilter(loss=rises.unmoved_loss(), value=rises.level(), rise=rises.rise(), settings=settings)
