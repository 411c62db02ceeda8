"""Finite sets of points as data: a training set for each seed, drawn from a distribution or from images.

`Points` samples as `toy.data.GaussianMixture` does, with replacement from a fixed set, so that whatever takes a
distribution takes a set of images too. `TrainingSets` gives each seed a set of its own: the scatter over seeds then
holds that of the training set.

`fashion_mnist` is Fashion-MNIST at 8 x 8 as points in 64 dimensions: means of 4 x 4 boxes of the image padded to 32 x
32, in [-1, 1]. The files are the published ones, as Debian's package dataset-fashion-mnist holds them; their checksums
are checked.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
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


ROOT = Path("/usr/share/datasets/fashion-mnist")
SIDE, PADDED, BOX = 28, 32, 4
FILES = {
    "train": (
        "train-images-idx3-ubyte.gz",
        60_000,
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    ),
    "test": (
        "t10k-images-idx3-ubyte.gz",
        10_000,
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    ),
}
"""Name, number of images and SHA-256 by split."""
MAGIC = 2051
"""Of IDX files of images."""


@lru_cache(maxsize=4)
def fashion_mnist(split: str, root: Path = ROOT) -> Points:
    """The images of a split as points, float32; read once.

    Args:
        split: "train" or "test".
        root: the folder with the files.

    Raises:
        ValueError: another split; a file that is missing, or is not the published one.
    """
    if split not in FILES:
        raise ValueError(f"split is {split!r}; allowed: one of {sorted(FILES)}")
    name, count, digest = FILES[split]
    try:
        packed = (root / name).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{root / name} cannot be read ({error.strerror}); allowed: a folder with Fashion-MNIST's files, such as "
            "Debian's package dataset-fashion-mnist installs"
        ) from error
    sha256 = hashlib.sha256(packed).hexdigest()
    if sha256 != digest:
        raise ValueError(f"{root / name} has the SHA-256 {sha256}; allowed: that of the published file, {digest}")
    return Points(boxes(unpacked(gzip.decompress(packed), count)))


def unpacked(contents: bytes, count: int) -> Tensor:
    """The images (count, 28, 28), uint8, of an IDX file.

    Raises:
        ValueError: another kind, number or size.
    """
    header = struct.unpack(">4i", contents[:16]) if len(contents) >= 16 else ()
    expected = (MAGIC, count, SIDE, SIDE)
    if header != expected or len(contents) != 16 + count * SIDE * SIDE:
        raise ValueError(f"contents begin with {header} and are {len(contents)} bytes; allowed: {expected} and images")
    return torch.from_numpy(np.frombuffer(contents, np.uint8, offset=16).copy()).view(count, SIDE, SIDE)


def boxes(images: Tensor) -> Float[Tensor, "N 64"]:
    """Means of 4 x 4 boxes of images (N, 28, 28) padded with zeros to 32 x 32, scaled from [0, 255] to [-1, 1]."""
    edge = (PADDED - SIDE) // 2
    padded = torch.nn.functional.pad(images.float(), (edge, edge, edge, edge))
    side = PADDED // BOX
    means = padded.view(-1, side, BOX, side, BOX).mean((2, 4)).flatten(1)
    return means / 127.5 - 1.0
