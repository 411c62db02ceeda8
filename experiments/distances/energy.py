"""The energy distance of samples to real images, of their pixels: no network, no moments, no bias.

    2 E|X - Y| - E|X - X'| - E|Y - Y'|    (Szekely and Rizzo, 2013), |.| the Euclidean norm of an image's pixels

It is zero where the two laws are equal, and only there. With U-statistics for the two means within a sample it has no
bias at any number of samples; it can then come out below zero. Pixels are as the network knows them, in [-1, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from experiments.data import to_float
from flatness import arguments

BLOCK = 1024
"""Images of the one side whose distances to all of the other are held at a time."""


class EnergyDistance(NamedTuple):
    """An estimate.

    Attributes:
        value: without bias; can be negative.
        standard_error: over samples, the reference held fixed: of the statistic's linear part, which vanishes where the
            two laws are equal, so that it is too small there.
        samples: how many.
        reference: how many real images.
    """

    value: float
    standard_error: float
    samples: int
    reference: int


class Reference:
    """Real images, with the mean distance among themselves, which every sample's distance needs.

    Raises:
        ValueError: images are not uint8, or fewer than two.
    """

    def __init__(self, images: UInt8[Tensor, "m C H W"]) -> None:
        """Compute the mean distance among the images."""
        self.points = _points("images", images)
        self.within = float(_mean_distances(self.points, self.points).sum()) / (len(self.points) - 1)

    def distance(self, samples: UInt8[Tensor, "n C H W"]) -> EnergyDistance:
        """Of samples of the same shape.

        Raises:
            ValueError: samples are not uint8, of another shape, or fewer than two.
        """
        points = _points("samples", samples)
        if points.shape[1] != self.points.shape[1]:
            raise arguments.refuse("samples", samples, f"images of {self.points.shape[1]} pixels, as the reference's")
        number = len(points)
        between = _mean_distances(points, self.points)
        within = _mean_distances(points, points) * number / (number - 1)  # an image's distance to itself left out
        value = float(2 * between.mean() - within.mean()) - self.within
        linear = 2 * (between - within)
        return EnergyDistance(value, float(linear.std()) / number**0.5, number, len(self.points))


def _points(name: str, images: Tensor) -> Float[Tensor, "n pixels"]:
    if not isinstance(images, Tensor) or images.dtype != torch.uint8 or images.dim() != 4 or len(images) < 2:
        raise arguments.refuse(name, images, "a uint8 tensor (n, C, H, W) of at least two images")
    return to_float(images.cpu()).flatten(1)


def _mean_distances(points: Float[Tensor, "n d"], others: Float[Tensor, "m d"]) -> Float[Tensor, " n"]:
    """Of each point, the mean of its distances to the others, float64; a point among them is at distance 0."""
    means = []
    for part in points.split(BLOCK):
        # Exact differences: products of norms would leave float32's rounding where two images are close
        distances = torch.cdist(part, others, compute_mode="donot_use_mm_for_euclid_dist")
        means.append(distances.double().mean(1))
    return torch.cat(means)
