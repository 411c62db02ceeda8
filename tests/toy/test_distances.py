"""Distances against closed forms, their standard errors against the scatter of repeated samples."""

import math

import pytest
import torch

from toy.distances import projections, sliced_wasserstein

ROUNDING = 1e-12


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_projections_are_unit_vectors(dimension: int) -> None:
    lines = projections(dimension, 400)
    torch.testing.assert_close(lines.norm(dim=1), torch.ones(len(lines), dtype=torch.float64))
    second = lines.T @ lines / len(lines) - torch.eye(dimension) / dimension
    # exact in the plane; otherwise entries scatter by less than 1 / (d sqrt(L / 2)), and 5 of that is allowed
    assert float(second.abs().max()) < (ROUNDING if dimension < 3 else 5 / (dimension * 200**0.5))
    assert torch.equal(lines, projections(dimension, 400))


def test_distance_of_a_translation() -> None:
    points = normal(50, 2)
    shift = torch.tensor([3.0, -4.0], dtype=torch.float64)
    distance = sliced_wasserstein(torch.stack([points, points + shift]), points, projections(2, 8))
    # the squared shift's mean over directions is |shift|^2 / 2; nothing scatters
    assert distance.value.tolist() == pytest.approx([0, 5 / 2**0.5], abs=ROUNDING)
    assert distance.standard_error[0] == 0


def test_distance_in_one_dimension_is_that_of_sorted_points() -> None:
    samples = torch.tensor([[[3.0], [0.0], [1.0]]])
    data = torch.tensor([[2.0], [2.5], [-1.0]])
    expected = math.sqrt(((0 + 1) ** 2 + (1 - 2) ** 2 + (3 - 2.5) ** 2) / 3)
    assert float(sliced_wasserstein(samples, data, projections(1)).value) == pytest.approx(expected)


def test_distance_of_gaussians_of_two_scales() -> None:
    distance = sliced_wasserstein(1.5 * normal(1, 20000, 3), normal(20000, 3, seed=1), projections(3, 50))
    # W_2 between N(0, a^2) and N(0, b^2) is |a - b|; the bias is of the order of 1 / (n 0.5), far below the error
    assert abs(float(distance.value) - 0.5) < 5 * float(distance.standard_error)
    assert 0 < float(distance.standard_error) < 0.02


@pytest.mark.parametrize(("dimension", "shift"), [(2, 0.5), (8, 0.0)])
def test_standard_error_is_the_scatter_of_repeated_samples(dimension: int, shift: float) -> None:
    """In eight dimensions directions differ, so that errors taken by rank, not by point, would be too large."""
    repeats = 400
    samples = 1.4 * normal(repeats, 300, dimension) + shift * torch.eye(dimension)[0]
    distance = sliced_wasserstein(samples, normal(repeats, 300, dimension, seed=1), projections(dimension, 16))
    ratio = float(distance.standard_error.square().mean().sqrt() / distance.value.std())
    # a standard deviation of 400 values is known to 1 / sqrt(800) = 3.5 per cent; 5 of these
    assert abs(ratio - 1) < 5 * 0.035


def test_seeds_have_their_own_data() -> None:
    samples, data = normal(3, 40, 2), normal(3, 40, 2, seed=1)
    together = sliced_wasserstein(samples, data, projections(2))
    for s in range(3):
        lone = sliced_wasserstein(samples[s : s + 1], data[s], projections(2))
        assert float(together.value[s]) == float(lone.value[0])
        assert float(together.standard_error[s]) == float(lone.standard_error[0])


def test_bad_input_is_named() -> None:
    points, directions = normal(2, 9, 2), projections(2)
    with pytest.raises(ValueError, match="samples is a tensor of shape"):
        sliced_wasserstein(points[0], points[0], directions)
    with pytest.raises(ValueError, match="samples is empty or has entries that are not finite"):
        sliced_wasserstein(points / 0, points, directions)
    with pytest.raises(ValueError, match="data is a tensor of shape"):
        sliced_wasserstein(points, points[:, :5], directions)
    with pytest.raises(ValueError, match="directions is a tensor of shape"):
        sliced_wasserstein(points, points, projections(3))
    with pytest.raises(ValueError, match="number is 0"):
        projections(2, 0)
