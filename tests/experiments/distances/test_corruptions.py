"""The Frechet distance in classifier features rises with every known fault of real images, from the floor up."""

from __future__ import annotations

import itertools

import pytest
import torch

from experiments.data import load
from experiments.distances.classifier import ClassifierFeatures
from experiments.distances.corruptions import CORRUPTIONS, Row, blur, darker, few_distinct, fewer_classes, noise, table
from experiments.distances.energy import Reference
from experiments.distances.frechet import moments_of
from tests.experiments.distances.gaussian_cases import need_fashion_mnist

NUMBER = 1000


@pytest.fixture(scope="module", params=[8, 16])
def rows(request: pytest.FixtureRequest) -> list[Row]:
    """Held-out images at a size against 20,000 training images, pixels against 4,000."""
    need_fashion_mnist()
    features, held_out = ClassifierFeatures(request.param), load("fashion-mnist", "test", request.param)
    training = load("fashion-mnist", "train", request.param).pixels
    assert held_out.labels is not None
    reference = moments_of(training[:20_000], features)
    return table(features, reference, held_out.pixels, held_out.labels, NUMBER, Reference(training[:4000]))


@pytest.mark.parametrize("name", [c.name for c in CORRUPTIONS])
def test_distance_rises_with_the_fault(rows: list[Row], name: str) -> None:
    """By more than three standard errors a level; those of two levels are taken as independent, which is too large."""
    climbing = [rows[0], *(row for row in rows if row.name == name)]
    assert len(climbing) == 4
    for weaker, stronger in itertools.pairwise(climbing):
        rise = stronger.distance.value - weaker.distance.value
        error = (weaker.distance.standard_error**2 + stronger.distance.standard_error**2) ** 0.5
        assert rise > 3 * error, (weaker, stronger)


@pytest.mark.parametrize("name", [c.name for c in CORRUPTIONS])
def test_the_distance_of_pixels_rises_with_the_fault(rows: list[Row], name: str) -> None:
    """From one level to the next; a single pair of levels may be apart by no more than their errors."""
    energies = [row.energy for row in (rows[0], *(row for row in rows if row.name == name))]
    for weaker, stronger in itertools.pairwise(energies):
        assert weaker is not None
        assert stronger is not None
        assert stronger.value > weaker.value


def test_real_images_are_at_the_floor_of_both_distances(rows: list[Row]) -> None:
    """Half of the weakest fault is the scale: the error stated at the floor is too small, where linear parts vanish."""
    floor, energy = rows[0].distance, rows[0].energy
    assert energy is not None
    weakest = min(row.energy.value for row in rows[1:] if row.energy is not None)
    assert abs(energy.value) < 0.5 * weakest
    assert abs(floor.extrapolated) < 0.5 * floor.value


def test_the_floor_is_mostly_bias(rows: list[Row]) -> None:
    floor = rows[0].distance
    assert floor.samples == NUMBER
    assert floor.bias > 0
    assert abs(floor.extrapolated) < 0.5 * floor.value


def _pixels() -> torch.Tensor:
    return torch.randint(0, 256, (6, 2, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_faults_are_what_they_are_called() -> None:
    pixels, labels, generator = _pixels(), torch.tensor([0, 1, 2, 2, 1, 0]), torch.Generator().manual_seed(0)
    point = torch.zeros(1, 1, 21, 21, dtype=torch.uint8)
    point[..., 10, 10] = 255
    blurred = blur(point, labels, 1.5, generator).double()
    offsets = torch.arange(-10, 11)
    variance = (blurred * offsets**2).sum() / blurred.sum()
    assert variance == pytest.approx(1.5**2, rel=0.15)  # rounding to whole levels cuts the tails
    assert torch.equal(blurred, blurred.transpose(2, 3))
    flat = torch.full((1, 1, 200, 200), 128, dtype=torch.uint8)
    noisy = noise(flat, labels, 20, generator).double()
    # 40,000 draws: the spread is known to 1/sqrt(80,000) = 0.35%; four of these
    assert noisy.std().item() == pytest.approx(20, rel=0.015)
    assert torch.equal(darker(pixels, labels, 0.5, generator), (pixels * 0.5).round().to(torch.uint8))
    assert torch.equal(fewer_classes(pixels, labels, 2, generator), pixels[2:4])
    assert torch.equal(few_distinct(pixels, labels, 4, generator), pixels[[0, 1, 0, 1, 0, 1]])


def test_more_images_than_there_are_is_refused() -> None:
    features = ClassifierFeatures(16)
    pixels, labels = torch.zeros(30, 1, 16, 16, dtype=torch.uint8), torch.arange(30) % 10
    reference = moments_of(pixels, features)
    with pytest.raises(ValueError, match="number is 31; allowed: at most 30"):
        table(features, reference, pixels, labels, 31)
