"""The energy distance: closed forms, no bias, its error, and what it refuses."""

import math

import pytest
import torch
from torch import Tensor

from experiments.distances.energy import Reference


def images(values: Tensor) -> Tensor:
    """One-pixel images (n, 1, 1, 1) of these levels."""
    return values.to(torch.uint8).view(-1, 1, 1, 1)


def bernoulli(count: int, share: float, seed: int) -> Tensor:
    """Images of one pixel, 255 with this probability, else 0: at distance 2 or 0 of each other."""
    generator = torch.Generator().manual_seed(seed)
    return images(255 * (torch.rand(count, generator=generator) < share))


def test_two_points_by_hand() -> None:
    """Pixels -1 and 1 against 1, 1 and -1: 2 (2/3 + 4/3)/2 ... all means counted by hand."""
    distance = Reference(images(torch.tensor([255, 255, 0]))).distance(images(torch.tensor([0, 255])))
    between = (2 * 2 / 3 + 1 * 2 / 3) / 2  # of -1: two at distance 2; of 1: one
    within, among_reference = 2.0, 2 * 2 / 3
    assert distance.value == pytest.approx(2 * between - within - among_reference, abs=1e-6)  # float32 pixels
    assert (distance.samples, distance.reference) == (2, 3)


def test_its_mean_is_the_exact_distance_and_its_error_the_scatter() -> None:
    """For Bernoulli images of shares p and q it is 4 (p - q)^2; fifty repetitions give mean and scatter."""
    reference = Reference(bernoulli(4000, 0.5, 0))
    share = float((reference.points > 0).double().mean())
    estimates = [reference.distance(bernoulli(200, 0.3, seed)) for seed in range(1, 51)]
    values = torch.tensor([one.value for one in estimates])
    exact = 4 * (0.3 - share) ** 2  # in the reference held fixed, up to 1/4000 in its own mean distance
    assert abs(float(values.mean()) - exact) < 4 * float(values.std()) / math.sqrt(50) + 4 / 4000
    stated = sum(one.standard_error for one in estimates) / 50
    # a standard deviation of fifty values is known to a tenth; three of these
    assert stated == pytest.approx(float(values.std()), rel=0.3)


def test_equal_laws_are_at_zero_on_average() -> None:
    generator = torch.Generator().manual_seed(3)
    pool = torch.randint(256, (4200, 1, 2, 2), generator=generator, dtype=torch.uint8)
    reference = Reference(pool[:2000])
    values = torch.tensor([reference.distance(part).value for part in pool[2000:].split(100)])
    # without the correction of the means within, each would be some 1.6 / 100 too large: the mean distance over n
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(len(values)) + 0.002
    assert float(values.mean()) < 0.005


def test_samples_farther_away_are_at_a_larger_distance() -> None:
    generator = torch.Generator().manual_seed(4)
    real = torch.randint(256, (1000, 1, 4, 4), generator=generator, dtype=torch.uint8)
    reference = Reference(real[:500])
    darker = [reference.distance((real[500:].float() * scale).to(torch.uint8)).value for scale in (1.0, 0.9, 0.7, 0.4)]
    assert darker == sorted(darker)
    collapsed = reference.distance(real[500:501].repeat(500, 1, 1, 1)).value
    assert collapsed > darker[2]


@pytest.mark.parametrize(
    "samples",
    [torch.zeros(3, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, 1, dtype=torch.uint8)],
)
def test_what_it_refuses(samples: Tensor) -> None:
    with pytest.raises(ValueError, match="images is"):
        Reference(samples)
    with pytest.raises(ValueError, match="samples is"):
        Reference(torch.zeros(2, 1, 2, 2, dtype=torch.uint8)).distance(samples)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="samples is"):
        Reference(torch.zeros(2, 1, 2, 2, dtype=torch.uint8)).distance(torch.zeros(2, 1, 4, 4, dtype=torch.uint8))
