"""`python -m experiments.distances.corruptions`: what both distances, of features and of pixels, say about faults.

Held-out real images with a known fault, each at rising strength, against the training images. The floor is what
held-out images without fault give: the distance of a perfect model with as many samples. A distance that did not rise
with a fault would be no measure of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Int, UInt8
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import conv2d, pad

from experiments.data import load
from experiments.distances.classifier import IMAGE_SIZES, ClassifierFeatures
from experiments.distances.energy import EnergyDistance, Reference
from experiments.distances.frechet import Estimate, Features, Moments, jackknife, moments_of
from findings.boundary import guarded
from flatness import arguments

REFERENCE = 4096
"""Real images that pixels are compared with."""
Apply = Callable[[Tensor, Tensor, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class Corruption:
    """A fault of images.

    Attributes:
        name: what it is, with the meaning of its levels.
        levels: from weak to strong.
        apply: faulty images out of images, labels, level and a generator of randomness.
    """

    name: str
    levels: tuple[float, ...]
    apply: Apply


class Row(NamedTuple):
    """One line of the table; level is None for the floor.

    Attributes:
        distance: Frechet, in features.
        energy: of pixels; None where no reference of pixels was given.
    """

    name: str
    level: float | None
    distance: Estimate
    energy: EnergyDistance | None = None


def blur(pixels: UInt8[Tensor, "N C H W"], labels: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Gaussian blur, sigma in pixels, edges repeated."""
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).repeat(pixels.shape[1], 1, 1, 1)
    wide = pad(pixels.float(), (reach, reach, reach, reach), mode="replicate")
    across = conv2d(wide, weights, groups=pixels.shape[1])
    return _to_pixels(conv2d(across, weights.transpose(2, 3), groups=pixels.shape[1]))


def noise(pixels: UInt8[Tensor, "N C H W"], labels: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise, sigma in levels of 255."""
    return _to_pixels(pixels + sigma * torch.randn(pixels.shape, generator=generator))


def darker(pixels: UInt8[Tensor, "N C H W"], labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """All values reduced by a share of themselves."""
    return _to_pixels(pixels * (1 - share))


def fewer_classes(
    pixels: UInt8[Tensor, "N C H W"], labels: Int[Tensor, " N"], missing: float, generator: torch.Generator
) -> Tensor:
    """Only images of the classes from number `missing` on: a model that has lost whole modes."""
    return pixels[labels >= missing]


def few_distinct(pixels: UInt8[Tensor, "N C H W"], labels: Tensor, fold: float, generator: torch.Generator) -> Tensor:
    """Each image `fold` times and so many fewer of them: a model that repeats itself.

    The standard error, which takes images as independent, is then too small by the root of `fold`.
    """
    return pixels[: -(-len(pixels) // int(fold))].repeat(int(fold), 1, 1, 1)[: len(pixels)]


CORRUPTIONS = (
    Corruption("blur, sigma in pixels", (0.5, 0.7, 1.0), blur),
    Corruption("noise, sigma of 255", (8, 20, 40), noise),
    Corruption("darker by a share", (0.2, 0.4, 0.6), darker),
    Corruption("classes missing", (1, 4, 7), fewer_classes),
    Corruption("each image so many times", (4, 20, 100), few_distinct),
)


def table(
    features: Features,
    reference: Moments,
    pixels: UInt8[Tensor, "N C H W"],
    labels: Int[Tensor, " N"],
    number: int,
    real: Reference | None = None,
) -> list[Row]:
    """The floor and every corruption at every level, each of the same number of images.

    Raises:
        ValueError: fewer images than asked for, or than a corruption leaves.
    """
    number = arguments.count("number", number, at_least=20)
    # images and labels in an order of their own: they may come sorted by class
    order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
    pixels, labels = pixels[order], labels[order]

    def measured(name: str, level: float | None, images: Tensor) -> Row:
        if len(images) < number:
            raise ValueError(f"number is {number}; allowed: at most {len(images)}, which {name} at {level} leaves")
        energy = None if real is None else real.distance(images[:number])
        return Row(name, level, jackknife(features(images[:number]), reference), energy)

    rows = [measured("none (floor)", None, pixels)]
    for corruption in CORRUPTIONS:
        for level in corruption.levels:
            generator = torch.Generator().manual_seed(1)
            enough = slice(None) if corruption.apply is fewer_classes else slice(number)
            images = corruption.apply(pixels[enough], labels[enough], level, generator)
            rows.append(measured(corruption.name, level, images))
    return rows


def main() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.distances.corruptions", description=__doc__)
    parser.add_argument("--size", type=int, choices=IMAGE_SIZES, default=16, help="image size (default %(default)s)")
    parser.add_argument("--images", type=int, default=2000, help="in each line (default %(default)s)")
    options = parser.parse_args()
    features = ClassifierFeatures(options.size)
    training = load("fashion-mnist", "train", options.size)
    reference = moments_of(training.pixels, features, progress=True)
    real = Reference(training.drawn(REFERENCE, 0).pixels)
    held_out = load("fashion-mnist", "test", options.size)
    if held_out.labels is None:
        raise ValueError("fashion-mnist came without labels")
    title = f"{options.images} images: Frechet distance in {features.name} features; energy distance of pixels, 10⁻³"
    printed = Table(title=title, title_justify="left")
    for heading in ("fault", "level", "distance", "standard error", "bias", "extrapolated", "energy", "standard error"):
        printed.add_column(heading)
    for row in table(features, reference, held_out.pixels, held_out.labels, options.images, real):
        frechet, energy = row.distance, row.energy
        assert energy is not None
        numbers = [frechet.value, frechet.standard_error, frechet.bias, frechet.extrapolated]
        numbers += [1000 * energy.value, 1000 * energy.standard_error]
        printed.add_row(row.name, "" if row.level is None else f"{row.level:g}", *(f"{n:.3f}" for n in numbers))
    Console().print(printed)
    return 0


def _to_pixels(values: Tensor) -> UInt8[Tensor, "N C H W"]:
    return values.round().clamp(0, 255).to(torch.uint8)


if __name__ == "__main__":
    sys.exit(guarded(main))
