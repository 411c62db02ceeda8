"""Densities, scores and optimal noise predictions against automatic differentiation, sampling and the theory's own."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from theory.model.gaussians import Gaussian
from toy.data import GaussianMixture, equal_mixture, gaussian, grid, random_mixture, ring
from toy.process import cosine_process

ROUNDING = 1e-9
"""Float64 through an eigendecomposition in up to 32 dimensions; the mutants are off by more than 1e-2."""
DATA: dict[str, Callable[[], GaussianMixture]] = {
    "gaussian": lambda: gaussian(
        torch.tensor([[2.0, 0.6], [0.6, 0.5]]), torch.tensor([0.5, -1.0], dtype=torch.float64)
    ),
    "ring": ring,
    "grid": lambda: grid(3, 2),
    "random": lambda: random_mixture(3, 4, seed=1),
    "random in 32": lambda: random_mixture(32, 3),
}


def points(data: GaussianMixture, number: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(number, data.dimension, generator=generator, dtype=torch.float64)
    return data.sample(number, 3) + 0.3 * noise


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("bar", [1.0, 0.7, 0.01])
def test_log_density_is_the_mixture_of_the_theorys_gaussians(name: str, bar: float) -> None:
    data = DATA[name]()
    x = points(data)
    terms = []
    for weight, mean, covariance in zip(data.weights, data.means, data.covariances, strict=True):
        noisy = bar * covariance.numpy() + (1 - bar) * np.eye(data.dimension)
        terms.append(math.log(weight) + Gaussian(bar**0.5 * mean.numpy(), noisy).log_density(x.numpy()))
    expected = torch.from_numpy(np.logaddexp.reduce(np.array(terms)))
    torch.testing.assert_close(data.log_density(x, bar), expected, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(data.noised(bar).log_density(x), expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("name", DATA)
def test_score_is_the_gradient_of_the_log_density(name: str) -> None:
    data = DATA[name]()
    x = points(data).requires_grad_()
    bars = torch.linspace(0.05, 1.0, len(x), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(data.log_density(x, bars).sum(), x)
    torch.testing.assert_close(data.score(x.detach(), bars), gradient, rtol=ROUNDING, atol=ROUNDING)


def worst_noise_deviation(data: GaussianMixture, predict: Callable[[Tensor, float], Tensor]) -> float:
    """The largest deviation from E[epsilon | x_t], by importance sampling of x_0, in its standard errors."""
    bar = float(cosine_process(100).alphas_cumprod[45])
    x_0 = data.sample(400000, 11)
    worst = 0.0
    for x in points(data, 4):
        epsilon = (x - bar**0.5 * x_0) / (1 - bar) ** 0.5
        weights = (-epsilon.square().sum(1, keepdim=True) / 2).exp()
        weights = weights / weights.sum()
        mean = (weights * epsilon).sum(0)
        error = (weights * (epsilon - mean)).square().sum(0).sqrt()  # of a ratio of means, by the delta method
        worst = max(worst, float(((predict(x, bar) - mean) / error).abs().max()))
    return worst


@pytest.mark.parametrize("name", ["gaussian", "ring", "grid", "random"])
def test_optimal_noise_is_the_conditional_mean(name: str) -> None:
    data = DATA[name]()
    # at most 12 values are compared; each exceeds 5 standard errors once in two million
    assert worst_noise_deviation(data, data.optimal_noise) < 5
    assert worst_noise_deviation(data, lambda x, bar: -data.optimal_noise(x, bar)) > 10
    assert worst_noise_deviation(data, lambda x, bar: -data.score(x, bar)) > 10


@pytest.mark.parametrize("name", DATA)
def test_samples_have_the_mixtures_moments(name: str) -> None:
    data = DATA[name]()
    x = data.sample(50000, 5)
    error = (data.covariance().diagonal() / len(x)).sqrt()
    assert bool(((x.mean(0) - data.mean()).abs() < 5 * error).all())
    about = x - data.mean()
    products = about[:, :, None] * about[:, None, :]
    # up to 528 pairs: 6 standard errors
    assert bool(((products.mean(0) - data.covariance()).abs() < 6 * products.std(0) / len(x) ** 0.5).all())


def test_samples_are_a_function_of_the_seed() -> None:
    data = random_mixture(2)
    assert torch.equal(data.sample(10, 1), data.sample(10, 1))
    assert not torch.equal(data.sample(10, 1), data.sample(10, 2))
    assert data.sample(10, 1, torch.float32).dtype == torch.float32


def test_components_are_drawn_by_their_weights() -> None:
    data = GaussianMixture(
        torch.tensor([0.2, 0.5, 0.3]), torch.tensor([[-9.0], [0.0], [9.0]]), torch.ones(3, 1, 1) * 0.01
    )
    x = data.sample(30000, 0)[:, 0]
    shares = torch.tensor([float((x < -4).double().mean()), float((x.abs() < 4).double().mean())])
    assert bool(((shares - torch.tensor([0.2, 0.5])).abs() < 5 * (0.25 / 30000) ** 0.5).all())


def test_shapes_of_the_named_mixtures() -> None:
    assert len(ring().means) == 8
    torch.testing.assert_close(ring().means.norm(dim=1), torch.full((8,), 2.0**0.5, dtype=torch.float64))
    for data in (ring(), grid(5, 2), grid(2, 3)):
        torch.testing.assert_close(
            data.means.T @ data.means / len(data.means), torch.eye(data.dimension, dtype=torch.float64)
        )
    assert len(grid(2, 3).means) == 8
    assert gaussian(torch.eye(2), torch.tensor([1.0, -3.0])).extent == pytest.approx(8.0)
    assert ring(deviation=0.2).extent == pytest.approx(2**0.5 + 1.0)


def test_bad_input_is_named() -> None:
    data = ring()
    with pytest.raises(ValueError, match="weights is"):
        GaussianMixture(torch.tensor([0.5, 0.6]), torch.zeros(2, 1), torch.ones(2, 1, 1))
    with pytest.raises(ValueError, match="covariances have asymmetry"):
        gaussian(torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="covariances have asymmetry 0 and smallest eigenvalue -1"):
        gaussian(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    with pytest.raises(ValueError, match="means is"):
        GaussianMixture(torch.ones(1), torch.zeros(2), torch.ones(1, 1, 1))
    with pytest.raises(ValueError, match="dimension is 33"):
        random_mixture(33)
    with pytest.raises(ValueError, match="deviation is 0"):
        equal_mixture(torch.zeros(2, 2), 0)
    with pytest.raises(ValueError, match="x is a tensor of shape"):
        data.score(torch.zeros(3, 3))
    with pytest.raises(ValueError, match="alpha_bar is"):
        data.score(torch.zeros(3, 2), 1.5)
    with pytest.raises(ValueError, match="alpha_bar is a tensor of shape"):
        data.score(torch.zeros(3, 2), torch.ones(2))
