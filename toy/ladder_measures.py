"""What the regimes of the ladder measure on every row: a number a seed each, under the names of `findings`.

    held_out_loss, train_loss          mean squared error on points not trained on, and on the training set
    lpf, lpf_rise                      loss under weight noise, and its rise
    worst_case_rise                    the loss's rise after a few steps of ascent in a ball
    gradient_norm, gradient_square     E|grad L_B| and E|grad L_B|^2 over minibatches of the training data
    feature_energy, readout_rise, readout_rise_t3, dither_rise-B, dither_rise-B_t5      T3 and T5
    distance-T, choice_distance-T      sliced W_2 of samples in T steps to held-out points; with other noise and points
    mean_absolute_gap-T, mean_signed_gap-T    the epsilon-norm gap, and its mean with signs
    rounding_rise-B, distance-T-bits-B        after rounding all weights to B bits

A seed's points, noise and directions are functions of its number alone, so methods are compared on common numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from toy import measures
from toy.data import GaussianMixture, generator_of
from toy.distances import projections
from toy.measures import Losses, PerSeed
from toy.models import ScoreModels, losses_and_gradients
from toy.sampling import sample, training_norms
from toy.training import BLOCK, Minibatches, sam_weights
from toy.training_sets import Data, Distribution

CHOICE = 100_000
"""Added to a seed's number for the noise and points by which doses are chosen."""
BEYOND = 10**6
"""Of a seed's stream of minibatches, the block on which gradients are measured: no run is that long."""
ASCENT_STEPS = 3


@dataclass(frozen=True)
class Measuring:
    """Sizes and units.

    Args:
        sigma: deviation of weight noise.
        radius: of the ball of the worst case.
        points: on which losses are taken.
        draws: of weight noise.
        readout_draws: of noise on theta alone, at the end.
        chains: samples a seed.
        counts: the T' of samples; the first is that of choices and of rounded weights.
        many_chains: samples a seed for the other T'.
        bits: of rounded weights.
    """

    sigma: float = 0.02
    radius: float = 0.1
    points: int = 2048
    draws: int = 16
    readout_draws: int = 128
    chains: int = 2048
    many_chains: int = 1024
    counts: tuple[int, ...] = (20, 100)
    bits: tuple[int, ...] = (8, 4, 3)


def gradient_measures(models: ScoreModels, data: Data, seeds: Sequence[int], batch: int) -> dict[str, PerSeed]:
    """The norm of a minibatch's gradient in the learnt weights, and its square, in the mean over a block of them."""
    stream = Minibatches(data, models.process, tuple(seeds), batch, dtype=models.theta.dtype)
    V = torch.cat([models.W, models.U], dim=1)
    squares = []
    for minibatch in stream.block(BEYOND):
        inputs = torch.cat([minibatch.x_t, models.embedding[minibatch.t]], dim=-1)
        scale = models.scales[minibatch.t][..., None]
        gradients = losses_and_gradients(
            models.theta, V, inputs, scale, minibatch.epsilon, models.activation, models.learn_features
        )[1]
        squares.append(torch.as_tensor(sum(g.double().square().sum((1, 2)) for g in gradients)))
    stacked = torch.stack(squares)
    assert len(stacked) == BLOCK
    return {"gradient_norm": stacked.sqrt().mean(0), "gradient_square": stacked.mean(0)}


def worst_case_rise(losses: Losses, radius: float, steps: int = ASCENT_STEPS) -> PerSeed:
    """`flatness.worst_case_sharpness` of every seed: the largest rise after each of a few steps of ascent, or 0."""
    models, points = losses.models, losses.evaluation
    start = [models.theta, torch.cat([models.W, models.U], dim=1)][: 2 if models.learn_features else 1]
    features = torch.cat([models.W, models.U], dim=1)
    d = models.dimension

    def at(weights: Sequence[Tensor]) -> tuple[PerSeed, list[Tensor]]:
        theta, V = (*weights, features)[:2]
        gradients = losses_and_gradients(
            theta, V, losses.inputs, losses.scale, points.epsilon, models.activation, models.learn_features
        )[1]
        parts = [theta, *([V[:, :d], V[:, d:]] if models.learn_features else [])]
        return losses(parts), gradients

    unmoved, gradients = at(start)
    largest = torch.zeros_like(unmoved)
    for _ in range(steps):
        moved, gradients = at(sam_weights(start, gradients, radius))
        largest = torch.maximum(largest, moved - unmoved)
    return largest


def _sorted_projections(x: Tensor, directions: Tensor) -> Tensor:
    return torch.from_numpy(
        np.sort((directions @ x.float().mT).numpy(), axis=-1)
    )  # torch's sort is thirty times slower


@lru_cache(maxsize=8)
def _target(source: Distribution, label: str, seeds: tuple[int, ...], points: int) -> Tensor:
    """Sorted projections (S, L, n) of fresh points, which are the same for every row."""
    directions = projections(source.dimension).float()
    drawn = [source.sample(points, generator_of(label, number)) for number in seeds]
    return torch.stack([_sorted_projections(one, directions) for one in drawn])


def distances(samples: Tensor, source: Distribution, label: str, seeds: tuple[int, ...]) -> PerSeed:
    """Sliced W_2 (`toy.distances`) of samples (S, n, d) to as many fresh points of the source."""
    directions = projections(source.dimension).float()
    target = _target(source, label, seeds, samples.shape[1])
    squares = [
        (_sorted_projections(one, directions) - other).square().mean(dtype=torch.float64)
        for one, other in zip(samples, target, strict=True)
    ]
    return torch.stack(squares).sqrt()


def floors(source: Distribution, seeds: Sequence[int], measuring: Measuring) -> PerSeed:
    """What samples of the source itself would have for a distance."""
    drawn = torch.stack([source.sample(measuring.chains, generator_of("floor", number)) for number in seeds])
    return distances(drawn, source, "fresh data", tuple(seeds))


def sample_measures(
    models: ScoreModels, source: Distribution, seeds: Sequence[int], count: int, measuring: Measuring
) -> dict[str, PerSeed]:
    """Distance and epsilon-norm gap of samples in so many steps."""
    numbers = tuple(seeds)
    chains = measuring.chains if count == measuring.counts[0] else measuring.many_chains
    drawn = sample(models.epsilon, models.process, source.dimension, count, numbers, points=chains, clip=source.extent)
    real = training_norms(models.epsilon, models.process, source, count, numbers, points=chains)
    difference = drawn.norms.mean - real.mean
    return {
        f"distance-{count}": distances(drawn.points, source, "fresh data", numbers),
        f"mean_absolute_gap-{count}": difference.abs().mean(1),
        f"mean_signed_gap-{count}": difference.mean(1),
    }


def _distance(
    models: ScoreModels, source: Distribution, seeds: Sequence[int], count: int, chains: int, label: str
) -> PerSeed:
    numbers = tuple(seeds)
    drawn = sample(models.epsilon, models.process, source.dimension, count, numbers, points=chains, clip=source.extent)
    return distances(drawn.points, source, label, numbers)


@torch.no_grad()
def brief_measures(
    models: ScoreModels, held_out: Distribution, train: Data, seeds: Sequence[int], measuring: Measuring
) -> dict[str, PerSeed]:
    """What is measured along a run: losses, the rise, samples in the fewest steps."""
    fewer = replace(measuring, draws=max(measuring.draws // 2, 1))
    _, measured = _losses(models, held_out, train, seeds, fewer)
    return measured | sample_measures(models, held_out, seeds, measuring.counts[0], measuring)


@torch.no_grad()
def late_measures(
    models: ScoreModels, held_out: Distribution, train: Data, seeds: Sequence[int], measuring: Measuring
) -> dict[str, PerSeed]:
    """Of raw weights late in a run: all that scatters from step to step and is cheap, on the end's points and noise."""
    _, measured = _losses(models, held_out, train, seeds, measuring)
    for count in measuring.counts:
        measured |= sample_measures(models, held_out, seeds, count, measuring)
    return measured | _choice(models, held_out, seeds, measuring)


def _losses(
    models: ScoreModels, held_out: Distribution, train: Data, seeds: Sequence[int], measuring: Measuring
) -> tuple[Losses, dict[str, PerSeed]]:
    """On held-out points, on the training set where there is one, and under weight noise."""
    losses = Losses(models, measures.evaluation_points(held_out, models.process, seeds, measuring.points))
    loss = losses(losses.weights)
    rise = measures.low_pass_rise(losses, measuring.sigma, measuring.draws)
    measured = {"held_out_loss": loss, "lpf_rise": rise, "lpf": loss + rise}
    if not isinstance(train, GaussianMixture):
        seen = Losses(models, measures.evaluation_points(train, models.process, seeds, measuring.points))
        measured["train_loss"] = seen(losses.weights)
    return losses, measured


def _choice(
    models: ScoreModels, held_out: Distribution, seeds: Sequence[int], measuring: Measuring
) -> dict[str, PerSeed]:
    """The distance by which doses are chosen."""
    first, others = measuring.counts[0], [CHOICE + number for number in seeds]
    chosen = _distance(models, held_out, others, first, measuring.chains, "choice data")
    return {f"choice_distance-{first}": chosen}


@torch.no_grad()
def all_measures(
    models: ScoreModels,
    held_out: Distribution,
    train: Data,
    seeds: Sequence[int],
    batch: int,
    measuring: Measuring,
    *,
    thorough: bool = True,
) -> dict[str, PerSeed]:
    """Everything that the module's docstring lists.

    Args:
        models: of all seeds.
        held_out: where losses and distances are taken.
        train: what training drew from.
        seeds: numbers of the seeds.
        batch: of training, for its gradients.
        measuring: sizes.
        thorough: False leaves out the readout and rounded weights.
    """
    losses, measured = _losses(models, held_out, train, seeds, measuring)
    measured["worst_case_rise"] = worst_case_rise(losses, measuring.radius)
    measured |= gradient_measures(models, train, seeds, batch)
    for count in measuring.counts:
        measured |= sample_measures(models, held_out, seeds, count, measuring)
    measured |= _choice(models, held_out, seeds, measuring)
    if not thorough:
        return measured
    first = measuring.counts[0]
    measured |= _readout(losses, seeds, measuring)
    for bits in measuring.bits:
        rounded = measures.quantized_weights(losses.weights, bits)
        measured[f"rounding_rise-{bits}"] = losses(rounded) - measured["held_out_loss"]
        coarse = models.replaced(*rounded)
        measured[f"distance-{first}-bits-{bits}"] = _distance(
            coarse, held_out, seeds, first, measuring.chains, "fresh data"
        )
    return measured


def _readout(losses: Losses, seeds: Sequence[int], measuring: Measuring) -> dict[str, PerSeed]:
    """T3 and T5 beside what is measured on theta alone."""
    psi, theta = losses.psi(), losses.models.theta
    residual = torch.bmm(psi, theta.mT) - losses.evaluation.epsilon
    energy = psi.square().sum(-1).mean(1, dtype=torch.float64)
    measured = {
        "feature_energy": energy,
        "readout_rise": measures.readout_rise(psi, residual, seeds, measuring.sigma, measuring.readout_draws),
        "readout_rise_t3": measuring.sigma**2 * energy,
    }
    largest = theta.double().abs().amax((1, 2))
    for bits in measuring.bits[1:2]:
        step = largest / (2 ** (bits - 1) - 1)
        scale = step.to(theta.dtype)[:, None, None]
        draws = measuring.readout_draws
        measured[f"dither_rise-{bits}"] = measures.readout_rise(psi, residual, seeds, scale, draws, uniform=True)
        measured[f"dither_rise-{bits}_t5"] = step.square() / 12.0 * energy
    return measured
