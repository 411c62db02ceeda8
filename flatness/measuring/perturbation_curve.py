"""The loss at a distance from the weights, against the distance (Cha et al., 2021).

For each distance gamma: the mean of L(w + gamma u) over directions u drawn uniformly from the unit sphere of all
selected weights together, or its value along the gradient. For a quadratic loss with Hessian H of n weights the first
rises by gamma^2 tr(H) / (2 n) in the mean, the second by gamma |g| + gamma^2 g^T H g / (2 |g|^2).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from flatness import arguments
from flatness.measuring.base import Estimate, Loss, Losses, Measurement, PairedRises, measuring, settings_of
from flatness.measuring.derivatives import loss_gradient
from flatness.modules import Selection
from flatness.progress import Progress, reporter
from flatness.weights import GaussianNoise, SavedWeights, derived_seed, direction_norm

DIRECTIONS = ("random", "gradient")


@dataclass(frozen=True, kw_only=True)
class PerturbationCurve(Measurement):
    """The loss against the distance from the weights.

    Attributes:
        distances: L2 norms of the perturbation, over all selected weights together.
        losses: the loss at each distance.
        rises: the same less the unperturbed loss, paired sample by sample.
    """

    distances: tuple[float, ...]
    losses: tuple[Estimate, ...]
    rises: tuple[Estimate, ...]


def perturbation_curve(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    distances: Sequence[float],
    *,
    directions: str = "random",
    draws: int = 100,
    gradient_batches: Iterable[Any] | None = None,
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> PerturbationCurve:
    """The expected loss at given distances from the weights, along the same directions at every distance.

    Costs draws x distances + 1 passes over the batches and one copy of the weights; along the gradient distances + 1
    passes, one backward pass, and a second copy (the gradient).

    Args:
        model: the module whose weights are moved.
        loss: `loss(model, batch)`, as `flatness.measuring.base` describes it.
        batches: the data; read once into a list where it is not a sequence.
        distances: norms of the perturbation, not negative.
        directions: "random", uniform on the sphere; or "gradient", the direction of steepest ascent of the loss.
        draws: number of random directions.
        gradient_batches: with "gradient": the samples of the batches in smaller ones, where a backward pass needs more
            memory than there is for a whole batch; the batches themselves by default. A loss that draws random numbers
            draws others for other batches.
        parameters: which weights move (`selected_parameters`).
        seed: directions and the loss's own random numbers are functions of it.
        eval_mode: False leaves the submodules in the modes they are in. Modes and buffers are put back either way.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, a loss is not finite, or the gradient is zero or not finite. The
            weights are as before then.
        RuntimeError: with "gradient" within torch.inference_mode.
    """
    gammas = _checked_distances(distances)
    arguments.choice("directions", directions, DIRECTIONS)
    draws = arguments.count("draws", draws, at_least=1) if directions == "random" else 1
    if gradient_batches is not None and directions != "gradient":
        raise ValueError("gradient_batches are given; allowed: with directions='gradient' alone")
    total = draws * len(gammas)
    report = reporter("perturbation curve", total, progress)
    with measuring(model, loss, batches, parameters, seed, eval_mode) as (weights, losses):
        unmoved = losses()
        rises = [PairedRises(unmoved) for _ in gammas]
        own = losses if gradient_batches is None else _on(gradient_batches, losses)
        for draw in range(draws):
            direction = _direction(directions, weights, own, derived_seed("draw", seed, draw))
            unit = 1.0 / direction_norm(direction)
            for index, gamma in enumerate(gammas):
                weights.move(direction, gamma * unit)
                rises[index].add(losses(f"distance {gamma:g} along {directions} direction {draw}"))
                report(draw * len(gammas) + index + 1, total)
        settings = settings_of(
            "perturbation_curve", weights.named, losses, eval_mode, directions=directions, draws=draws
        )
    drawn = directions == "random"
    return PerturbationCurve(
        loss=rises[0].unmoved_loss(),
        distances=gammas,
        losses=tuple(rise.level(drawn) for rise in rises),
        rises=tuple(rise.rise(drawn) for rise in rises),
        settings=settings,
    )


def _checked_distances(distances: object) -> tuple[float, ...]:
    if isinstance(distances, str | Tensor) or not isinstance(distances, Iterable):
        raise arguments.refuse("distances", distances, "a list of numbers of at least 0")
    gammas = tuple(arguments.number("distances", gamma, at_least=0.0) for gamma in distances)
    if not gammas:
        raise ValueError("distances is empty; allowed: at least one")
    return gammas


def _on(batches: Iterable[Any], losses: Losses) -> Losses:
    """The same loss on other batches of as many samples."""
    elsewhere = Losses(losses.loss, losses.model, batches, losses.seed)
    elsewhere.samples, elsewhere.buffers = losses.samples, losses.buffers
    return elsewhere


def _direction(kind: str, weights: SavedWeights, losses: Losses, seed: int) -> Iterable[Tensor]:
    if kind == "random":
        return GaussianNoise(weights.saved, seed)
    gradient = loss_gradient(weights, losses)
    norm = direction_norm(gradient)
    if not 0.0 < norm < float("inf"):
        raise ValueError(
            f"the gradient of loss has norm {norm}; allowed for directions='gradient': positive and finite"
        )
    return gradient
