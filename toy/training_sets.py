"""Finite sets of points as data: a training set for each seed, drawn from a distribution or from images.

`Points` samples as `toy.data.GaussianMixture` does, with replacement from a fixed set, so that whatever takes a
distribution takes a set of images too. `TrainingSets` gives each seed a set of its own: the scatter over seeds then
holds that of the training set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flatness import arguments
from toy.data import GaussianMixture, generator_of


@dataclass(frozen=True, eq=False)
class Points:
    """The uniform distribution on a set of points.

    Args:
        x: (N, d), finite.

    Raises:
        ValueError: x is not as above, or empty.
    """

    x: Float[Tensor, "N d"]

    def __post_init__(self) -> None:
        """Check the points."""
        x = arguments.finite_tensor("x", self.x)
        if x.dim() != 2 or 0 in x.shape:
            raise arguments.refuse("x", x, "a tensor (N, d) of at least one point")

    def __len__(self) -> int:
        """N."""
        return self.x.shape[0]

    @property
    def dimension(self) -> int:
        """d."""
        return self.x.shape[1]

    @property
    def extent(self) -> float:
        """The largest magnitude of a coordinate."""
        return float(self.x.abs().max())

    def sample(
        self, number: int, seed: int | torch.Generator, dtype: torch.dtype = torch.float64
    ) -> Float[Tensor, "n d"]:
        """Draw points with replacement; a function of the seed, or from a generator.

        Raises:
            ValueError: fewer than one point, a seed that is neither.
        """
        number = arguments.count("number", number, at_least=1)
        generator = seed if isinstance(seed, torch.Generator) else generator_of("data", arguments.count("seed", seed))
        index = torch.randint(len(self), (number,), generator=generator)
        return self.x.index_select(0, index).to(dtype)


Distribution = GaussianMixture | Points


@dataclass(frozen=True, eq=False)
class TrainingSets:
    """A training set for each seed.

    Args:
        sets: by the seed's number, all of one dimension.

    Raises:
        ValueError: no set, sets of several dimensions.
    """

    sets: Mapping[int, Points]

    def __post_init__(self) -> None:
        """Check that there are sets, and that they agree."""
        dimensions = {arguments.instance("sets", points, Points).dimension for points in self.sets.values()}
        if len(dimensions) != 1:
            raise arguments.refuse("sets", sorted(dimensions), "at least one set of points, all of one dimension")

    @property
    def dimension(self) -> int:
        """d."""
        return next(iter(self.sets.values())).dimension


Data = Distribution | TrainingSets


def checked_data(name: str, data: object) -> Data:
    """The data, of any kind.

    Raises:
        ValueError: something else.
    """
    if not isinstance(data, GaussianMixture | Points | TrainingSets):
        raise arguments.refuse(name, data, "a GaussianMixture, Points or TrainingSets")
    return data


def source_of(data: Data, seed: int) -> Distribution:
    """What a seed draws its points from.

    Raises:
        ValueError: it has no training set.
    """
    if not isinstance(data, TrainingSets):
        return data
    if seed not in data.sets:
        raise arguments.refuse("seed", seed, f"one with a training set: {sorted(data.sets)}")
    return data.sets[seed]


def training_sets(source: Distribution, number: int, seeds: Sequence[int]) -> TrainingSets:
    """Sets of so many points, a function of each seed: fresh draws of a mixture, or points of a set, none twice.

    A seed's smaller sets of points of a set are the first points of its larger ones.

    Raises:
        ValueError: fewer than one point, or more than the set has.
    """
    number = arguments.count("number", number, at_least=1)
    sets = {}
    for seed in seeds:
        generator = generator_of("training set", seed)
        if isinstance(source, Points):
            if number > len(source):
                raise arguments.refuse("number", number, f"at most {len(source)}, the points there are")
            sets[seed] = Points(source.x[torch.randperm(len(source), generator=generator)[:number]])
        else:
            sets[seed] = Points(source.sample(number, generator))
    return TrainingSets(sets)
