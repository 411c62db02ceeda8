"""The loss on a plane through the weights (Li et al., 2018): L(w + a u + b v) on a grid of (a, b)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from flatness import arguments
from flatness.measuring.base import Estimate, Loss, Measurement, PairedRises, measuring, settings_of
from flatness.modules import Selection
from flatness.progress import Progress, reporter
from flatness.weights import (
    NORMALIZATIONS,
    Direction,
    GaussianNoise,
    NormalizedDirection,
    SavedWeights,
    derived_seed,
    direction_norm,
    matching_direction,
)


@dataclass(frozen=True, kw_only=True)
class LossSurface(Measurement):
    """The loss on a grid; entry [i][j] of a table belongs to first[i], second[j].

    Attributes:
        first: coordinates a along the first direction.
        second: coordinates b along the second.
        losses: the loss at each point.
        rises: the same less the unperturbed loss, paired sample by sample.
        norms: L2 norms of the two directions after normalisation, over all selected weights together.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    losses: tuple[tuple[Estimate, ...], ...]
    rises: tuple[tuple[Estimate, ...], ...]
    norms: tuple[float, float]


@dataclass(frozen=True)
class _Combination:
    """a u + b v, tensor by tensor."""

    u: Iterable[Tensor]
    v: Iterable[Tensor]
    a: float
    b: float

    def __iter__(self) -> Iterator[Tensor]:
        for along_u, along_v in zip(self.u, self.v, strict=True):
            yield self.a * along_u + self.b * along_v


def loss_surface(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    first: Sequence[float],
    second: Sequence[float],
    *,
    directions: tuple[Direction, Direction] | None = None,
    normalization: str = "filter",
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> LossSurface:
    """The loss on a grid in the plane that two directions span.

    Costs one pass over the batches per point, one copy of the weights, and what given directions take; random ones are
    drawn anew at each point and take nothing. Two random directions are orthogonal only nearly; they are left so.

    Args:
        model: the module whose weights are moved.
        loss: `loss(model, batch)`, as `flatness.measuring.base` describes it.
        batches: the data; read once into a list where it is not a sequence.
        first, second: coordinates along the two directions.
        directions: two directions (as in `moved`), or None for two Gaussian ones from the seed.
        normalization: "filter", "layer", "whole" or "none" (`NormalizedDirection`), also of given directions.
        parameters: which weights move (`selected_parameters`).
        seed: random directions and the loss's own random numbers are functions of it.
        eval_mode: False leaves the submodules in the modes they are in. Modes and buffers are put back either way.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, or a loss is not finite. The weights are as before then.
    """
    rows, columns = _coordinates("first", first), _coordinates("second", second)
    arguments.choice("normalization", normalization, NORMALIZATIONS)
    total = len(rows) * len(columns)
    report = reporter("loss surface", total, progress)
    with measuring(model, loss, batches, parameters, seed, eval_mode) as (weights, losses):
        u, v = _normalized_pair(directions, weights, normalization, seed)
        unmoved = losses()
        points = []
        for index, (a, b) in enumerate((a, b) for a in rows for b in columns):
            rises = PairedRises(unmoved)
            weights.move(_Combination(u, v, a, b))
            rises.add(losses(f"point ({a:g}, {b:g})"))
            points.append((rises.level(drawn=False), rises.rise(drawn=False)))
            report(index + 1, total)
        norms = (direction_norm(u), direction_norm(v))
        settings = settings_of(
            "loss_surface",
            weights.named,
            losses,
            eval_mode,
            directions="random" if directions is None else "given",
            normalization=normalization,
        )
    table = [points[i : i + len(columns)] for i in range(0, total, len(columns))]
    return LossSurface(
        loss=PairedRises(unmoved).unmoved_loss(),
        first=rows,
        second=columns,
        losses=tuple(tuple(level for level, _ in row) for row in table),
        rises=tuple(tuple(rise for _, rise in row) for row in table),
        norms=norms,
        settings=settings,
    )


def _coordinates(name: str, values: object) -> tuple[float, ...]:
    if isinstance(values, str | Tensor) or not isinstance(values, Iterable):
        raise arguments.refuse(name, values, "a list of finite numbers")
    coordinates = tuple(arguments.number(name, value) for value in values)
    if not coordinates:
        raise ValueError(f"{name} is empty; allowed: at least one coordinate")
    return coordinates


def _normalized_pair(
    directions: object, weights: SavedWeights, normalization: str, seed: int
) -> tuple[NormalizedDirection, NormalizedDirection]:
    pair: list[Iterable[Tensor]]
    if directions is None:
        pair = [GaussianNoise(weights.saved, derived_seed("surface", seed, axis)) for axis in range(2)]
    elif isinstance(directions, tuple | list) and len(directions) == 2:
        pair = [matching_direction(f"directions[{axis}]", directions[axis], weights.named) for axis in range(2)]
    else:
        raise arguments.refuse("directions", directions, "None or two directions")
    u, v = (NormalizedDirection(direction, weights.saved, normalization) for direction in pair)
    return u, v
