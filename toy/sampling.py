"""Ancestral DDPM sampling of many seeds' models at once, and exposure bias as the drift of the predicted noise's norm.

The steps are those of `flatness.diffusion.sampling`; the norms are those of `flatness.exposure_bias`, for S
models in one pass and with their squares, whose means the exact law of a linear chain gives (`tests.toy.linear_chain`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from flatness import arguments
from flatness.diffusion.sampling import ancestral_step, variance_of
from toy.data import generator_of
from toy.process import FIXED_VARIANCES, Process
from toy.training_sets import Distribution

EpsilonModel = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, eq=False)
class Norms:
    """The L2 norm of the predicted noise, in the mean over points; index 0 of the steps is the one of least noise.

    Attributes:
        steps: numbers of the steps in the original process, ascending.
        mean, standard_error: (S, steps), of the norm.
        mean_square, mean_square_error: (S, steps), of its square, with the standard error.
    """

    steps: tuple[int, ...]
    mean: Float[Tensor, "S steps"]
    standard_error: Float[Tensor, "S steps"]
    mean_square: Float[Tensor, "S steps"]
    mean_square_error: Float[Tensor, "S steps"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Points (S, n, d), and the norms along the chains that led to them."""

    points: Float[Tensor, "S n d"]
    norms: Norms


@torch.no_grad()
def sample(
    epsilon_model: EpsilonModel,
    process: Process,
    dimension: int,
    count: int,
    seeds: Sequence[int],
    *,
    points: int = 4096,
    variance: str = "small",
    clip: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> Samples:
    """Ancestral sampling from N(0, I) in respaced steps.

    A model's noise is a function of (its seed, step): independent from seed to seed, so that the scatter over seeds
    holds that of sampling, and the same for each method, so that methods are compared on common random numbers.

    Args:
        epsilon_model: (x (S, n, d), t) -> the predicted noise, of x's shape; `ScoreModels.epsilon`.
        process: the diffusion process.
        dimension: d.
        count: T', the number of respaced steps.
        seeds: numbers of the S models' seeds.
        points: n.
        variance: "small" (posterior variance) or "large" (beta). The last step adds no noise.
        clip: the largest magnitude of a predicted x_0's coordinates, `GaussianMixture.extent` for the data's; None
            leaves it. Without it the first step multiplies errors by sqrt(alpha_bar_previous / alpha_bar), some
            thousands in the cosine schedule.
        dtype: of the points.

    Raises:
        ValueError: an argument is not as above, or a prediction has another shape or is not finite.
    """
    arguments.function("epsilon_model", epsilon_model)
    arguments.choice("variance", variance, FIXED_VARIANCES)
    clip = None if clip is None else arguments.number("clip", clip, above=0.0)
    numbers = _checked_seeds(seeds)
    shape = (arguments.count("points", points, at_least=1), arguments.count("dimension", dimension, at_least=1))
    reverse = process.reverse(count)

    def noise(index: int) -> Tensor:
        generators = [generator_of("chain", seed, index) for seed in numbers]
        return torch.stack([torch.randn(shape, generator=generator, dtype=dtype) for generator in generators])

    x = noise(count)
    norms: list[Tensor] = []
    for index in reversed(range(count)):
        step = reverse[index]
        epsilon = _checked(epsilon_model(x, step.t), x, step.t)
        norms.insert(0, torch.linalg.vector_norm(epsilon.double(), dim=-1))
        fresh = noise(index) if index else torch.zeros((), dtype=dtype)
        x = ancestral_step(x, epsilon, step, variance_of(variance, None, step), fresh, clip)
    return Samples(x, _summary(tuple(step.t for step in reverse), norms))


@torch.no_grad()
def training_norms(
    epsilon_model: EpsilonModel,
    process: Process,
    data: Distribution,
    count: int,
    seeds: Sequence[int],
    *,
    points: int = 4096,
    dtype: torch.dtype = torch.float32,
) -> Norms:
    """The norms on real noised data, fresh data and noise each step; arguments and errors as in `sample`.

    Args:
        data: the distribution of x_0.
    """
    arguments.function("epsilon_model", epsilon_model)
    numbers = _checked_seeds(seeds)
    shape = (arguments.count("points", points, at_least=1), data.dimension)
    reverse = process.reverse(count)
    real = _real_points(process, data, count, tuple(numbers), shape[0], dtype)
    norms: list[Tensor] = []
    for step, x in zip(reverse, real, strict=True):
        epsilon = _checked(epsilon_model(x, step.t), x, step.t)
        norms.append(torch.linalg.vector_norm(epsilon.double(), dim=-1))
    return _summary(tuple(step.t for step in reverse), norms)


@lru_cache(maxsize=2)
def _real_points(
    process: Process, data: Distribution, count: int, seeds: tuple[int, ...], points: int, dtype: torch.dtype
) -> list[Tensor]:
    """Noised data (S, n, d) at each step, which are the same for all models of the seeds; never written to."""
    by_step = []
    for index, step in enumerate(process.reverse(count)):
        noised = []
        for seed in seeds:
            generator = generator_of("real", seed, index)
            x_0 = data.sample(points, generator)
            noise = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
            noised.append(process.noisy(x_0, step.t, noise))
        by_step.append(torch.stack(noised).to(dtype))
    return by_step


def gap(sampling: Norms, training: Norms) -> tuple[Float[Tensor, "S steps"], Float[Tensor, "S steps"]]:
    """Exposure bias: the mean norm along the chain less that on real data, and its standard error.

    Raises:
        ValueError: norms at different steps.
    """
    if sampling.steps != training.steps:
        raise arguments.refuse("training.steps", training.steps, f"those of sampling, {sampling.steps}")
    error = (sampling.standard_error.square() + training.standard_error.square()).sqrt()
    return sampling.mean - training.mean, error


def _checked_seeds(seeds: Sequence[int]) -> list[int]:
    numbers = [arguments.count("seeds", seed) for seed in seeds]
    if not numbers:
        raise arguments.refuse("seeds", seeds, "at least one seed")
    return numbers


def _checked(epsilon: object, x: Tensor, t: int) -> Tensor:
    if not isinstance(epsilon, Tensor) or epsilon.shape != x.shape:
        raise arguments.refuse("what epsilon_model returned", epsilon, f"a tensor of shape {tuple(x.shape)}")
    if not bool(epsilon.isfinite().all()):
        raise ValueError(f"what epsilon_model returned at t = {t} is not finite; allowed: finite predictions")
    return epsilon


def _summary(steps: tuple[int, ...], norms: list[Tensor]) -> Norms:
    stacked = torch.stack(norms, dim=1)  # (S, steps, n)
    n = stacked.shape[-1]
    squares = stacked.square()
    return Norms(steps, stacked.mean(-1), stacked.std(-1) / n**0.5, squares.mean(-1), squares.std(-1) / n**0.5)
