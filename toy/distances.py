"""How far samples are from the data: sliced 2-Wasserstein with a standard error."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from flatness import arguments
from toy.data import generator_of


class Distance(NamedTuple):
    """A distance per seed and its standard error over samples, (S,) each, in float64."""

    value: Float[Tensor, " S"]
    standard_error: Float[Tensor, " S"]


def projections(dimension: int, number: int = 64, seed: int = 0) -> Float[Tensor, "L d"]:
    """Unit vectors, float64, a function of the seed: evenly spaced in the plane, at random otherwise.

    Raises:
        ValueError: no dimension, no projection.
    """
    dimension = arguments.count("dimension", dimension, at_least=1)
    number = arguments.count("number", number, at_least=1)
    if dimension == 1:
        return torch.ones(1, 1, dtype=torch.float64)
    if dimension == 2:  # half a turn holds every direction once, and even spacing has next to no error
        angles = (torch.arange(number, dtype=torch.float64) + 0.5) * (torch.pi / number)
        return torch.stack([angles.cos(), angles.sin()], dim=1)
    generator = generator_of("projections", dimension, number, arguments.count("seed", seed))
    return torch.nn.functional.normalize(
        torch.randn(number, dimension, generator=generator, dtype=torch.float64), dim=1
    )


def sliced_wasserstein(
    samples: Float[Tensor, "S n d"],
    data: Float[Tensor, "n d"] | Float[Tensor, "S n d"],
    directions: Float[Tensor, "L d"],
) -> Distance:
    """The sliced 2-Wasserstein distance, the root of the mean over directions of the projections' squared W_2.

    The directions are held fixed, and a seed's data should be, where methods are compared; the standard error is over
    both samples, given the directions. It is the delta method's, from the Kantorovich potentials (del Barrio and
    Loubes, 2019), and of first order: where the two laws are equal the distance is biased upwards, by more than the
    error says. Two samples of the data show how far.

    Args:
        samples: n points of each of S models.
        data: as many points of the data for each model, (S, n, d), or (n, d) for all of them.
        directions: unit vectors, from `projections`.

    Raises:
        ValueError: an argument is not as above, or samples are not finite.
    """
    drawn = arguments.finite_tensor("samples", samples).double()
    if drawn.dim() != 3 or drawn.shape[1] < 2:
        raise arguments.refuse("samples", samples, "a tensor (S, n, d) of at least 2 points")
    real = arguments.finite_tensor("data", data).double()
    if real.shape not in (drawn.shape, drawn.shape[1:]):
        raise arguments.refuse("data", data, f"a tensor of shape {tuple(drawn.shape)} or {tuple(drawn.shape[1:])}")
    if directions.dim() != 2 or directions.shape[1] != drawn.shape[2]:
        raise arguments.refuse("directions", directions, f"a tensor (L, {drawn.shape[2]})")
    values, errors = [], []
    for points, others in zip(drawn, real.expand(drawn.shape), strict=True):
        sorted_points, order = (directions @ points.T).sort(dim=-1)  # (L, n)
        target, order_of_data = (directions @ others.T).sort(dim=-1)
        square = (sorted_points - target).square().mean()
        scatter = [
            _influence(sorted_points, target, order).var(),
            _influence(target, sorted_points, order_of_data).var(),
        ]
        error_of_square = (sum(scatter) / points.shape[0]) ** 0.5
        value = square.sqrt()
        values.append(value)
        errors.append(torch.where(value > 0, error_of_square / (2.0 * value), 0.0))
    return Distance(torch.stack(values), torch.stack(errors))


def _influence(a: Tensor, b: Tensor, order: Tensor) -> Tensor:
    """How each point moves the mean squared distance, (n,): its Kantorovich potential, averaged over directions.

    The potential's derivative at a sorted a_i is 2 (a_i - b_i); summed by the trapezoidal rule.
    """
    slopes = a - b
    pieces = (slopes[:, 1:] + slopes[:, :-1]) * (a[:, 1:] - a[:, :-1])
    potential = torch.nn.functional.pad(pieces.cumsum(dim=1), (1, 0))
    return torch.empty_like(potential).scatter_(1, order, potential).mean(0)
