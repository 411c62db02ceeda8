"""The problem that the examples share."""

import math

import pytest
import torch

from examples.ring import Denoiser, batches, losses, noised, points


def test_points_are_on_the_ring() -> None:
    """Means at eight places on a circle of radius sqrt(2); 4000 points within six deviations of .1."""
    x = points(4000, torch.Generator().manual_seed(0))
    angles = 2 * math.pi / 8 * torch.arange(8)
    means = math.sqrt(2) * torch.stack([angles.cos(), angles.sin()], dim=1)
    nearest = torch.cdist(x, means).min(dim=1)
    assert float(nearest.values.max()) < 0.6
    assert nearest.indices.bincount(minlength=8).min() > 400  # 500 and five standard errors of 21


def test_noised_points() -> None:
    generator = torch.Generator().manual_seed(0)
    x_0 = points(100, generator).double()
    batch = noised(x_0, generator)
    angle = math.pi / 2 * batch.t[:, None]
    torch.testing.assert_close((batch.x_t - angle.sin() * batch.noise) / angle.cos(), x_0)
    assert batch.t.dtype == batch.x_t.dtype == torch.float64


def test_batches_and_weights_are_functions_of_the_seed() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    same, other = batches(2, 5, seed=3), batches(2, 5, seed=4)
    for batch, once_more in zip(same, batches(2, 5, seed=3), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(batch, once_more, strict=True))
    assert not torch.equal(same[0].noise, same[1].noise)
    assert not torch.equal(same[0].noise, other[0].noise)
    a, b, c = (next(Denoiser(seed=seed).parameters()) for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_loss_of_no_prediction_is_one() -> None:
    """Predicting zero, the loss is the noise's variance, 1; its standard error here sqrt(2 / 20000)."""

    class Zero(torch.nn.Module):
        def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x_t)

    (batch,) = batches(1, 10_000)
    assert losses(Zero(), batch).shape == (10_000,)
    assert abs(float(losses(Zero(), batch).mean()) - 1) < 5 * math.sqrt(2 / 20_000)


@pytest.mark.parametrize(("steps", "size"), [(0, 5), (-1, 5), (5, 0)])
def test_sizes_are_checked(steps: int, size: int) -> None:
    with pytest.raises(ValueError, match="allowed: a whole number of at least 1"):
        batches(steps, size)
