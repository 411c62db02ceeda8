"""Sampling against the exact law of a linear chain, against one seed at a time and against the instrument."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import toy.sampling
from flatness.diffusion.sampling import ReverseStep
from flatness.measuring.exposure_bias import exposure_bias
from tests.toy.exact import minimiser
from tests.toy.linear_chain import Affine, ChainLaw, chain_law, linear_model, optimal_denoiser
from tests.toy.moments import exact_moments
from toy.data import GaussianMixture, gaussian, ring
from toy.models import ScoreModels, random_models
from toy.process import cosine_process, linear_process
from toy.sampling import Norms, gap, sample, training_norms

PROCESS = linear_process(100)
COUNT = 10
POINTS = 40000
DATA = gaussian(torch.tensor([[2.0, 0.6], [0.6, 0.5]]), torch.tensor([0.5, -1.0], dtype=torch.float64))
Denoiser = Callable[[int], Affine]


def linear_models() -> ScoreModels:
    """Two seeds at the minimum over theta of each: imperfect, since one theta serves all times, and 4 features do not
    span the linear functions of the 6 inputs."""
    of = random_models(2, 2, 4, PROCESS, embedding=4, activation="linear", dtype=torch.float64)
    theta = torch.stack([minimiser(exact_moments(of, seed, DATA)).theta for seed in range(2)])
    return of.replaced(theta)


def affine_model(denoiser: Denoiser) -> Callable[[Tensor, int], Tensor]:
    return lambda x, t: x @ denoiser(t).A.T + denoiser(t).c


def deviation(
    model: Callable[[Tensor, int], Tensor], law: ChainLaw, *, seeds: tuple[int, ...] = (0,), variance: str = "small"
) -> float:
    """The largest deviation of samples and squared norms from the law, in standard errors; the last seed's."""
    drawn = sample(model, PROCESS, 2, COUNT, seeds, points=POINTS, variance=variance, dtype=torch.float64)
    points = drawn.points[-1].numpy()
    about = points - law.final.mean
    z = [about.mean(0) / np.sqrt(np.diag(law.final.covariance) / POINTS)]
    products = about[:, :, None] * about[:, None, :]
    z.append(((products.mean(0) - law.final.covariance) / (products.std(0) / POINTS**0.5)).ravel())
    z.append(((drawn.norms.mean_square[-1] - law.sampling) / drawn.norms.mean_square_error[-1]).numpy())
    real = training_norms(model, PROCESS, DATA, COUNT, seeds, points=POINTS, dtype=torch.float64)
    z.append(((real.mean_square[-1] - law.training) / real.mean_square_error[-1]).numpy())
    return float(np.abs(np.concatenate(z)).max())


@pytest.mark.parametrize("variance", ["small", "large"])
def test_samples_follow_the_exact_law(variance: str) -> None:
    denoiser = optimal_denoiser(DATA, PROCESS)
    law = chain_law(denoiser, DATA, PROCESS, COUNT, variance)
    # 26 values are compared; one exceeds 5 standard errors once in 60,000 times
    assert deviation(affine_model(denoiser), law, variance=variance) < 5
    other = {"small": "large", "large": "small"}[variance]
    assert deviation(affine_model(denoiser), law, variance=other) > 10
    assert deviation(lambda x, t: 1.05 * affine_model(denoiser)(x, t), law, variance=variance) > 10


def test_a_trained_linear_model_follows_its_exact_law() -> None:
    of = linear_models()
    law = chain_law(linear_model(of, 1), DATA, PROCESS, COUNT)
    assert deviation(of.epsilon, law, seeds=(3, 4)) < 5
    assert deviation(of.epsilon, chain_law(linear_model(of, 0), DATA, PROCESS, COUNT), seeds=(3, 4)) > 10
    # and it drifts: exposure bias is no artefact of sampling
    assert float((law.sampling - law.training).abs().max()) > 0.01


MUTANTS: dict[str, Callable[[ReverseStep], ReverseStep]] = {
    "posterior variance doubled": lambda s: replace(s, posterior_variance=2 * s.posterior_variance),
    "steps of another process": lambda s: replace(s, previous_alpha_bar=(s.previous_alpha_bar + s.alpha_bar) / 2),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_of_the_step_are_found_out(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = optimal_denoiser(DATA, PROCESS)
    law = chain_law(denoiser, DATA, PROCESS, COUNT)
    own = toy.sampling.ancestral_step
    change = MUTANTS[mutant]
    monkeypatch.setattr(toy.sampling, "ancestral_step", lambda x, e, step, v, n, c: own(x, e, change(step), v, n, c))
    variance = toy.sampling.variance_of
    monkeypatch.setattr(toy.sampling, "variance_of", lambda choice, v, step: variance(choice, v, change(step)))
    assert deviation(affine_model(denoiser), law) > 10


def test_the_law_of_many_steps_is_the_datas() -> None:
    """The error of an exact denoiser is that of the steps alone, and falls with them."""
    process = cosine_process(1000)
    laws = [chain_law(optimal_denoiser(DATA, process), DATA, process, count) for count in (10, 50, 250, 1000)]
    divergences = [law.final_divergence for law in laws]
    assert all(a > 3 * b for a, b in itertools.pairwise(divergences))
    assert divergences[-1] < 1e-3
    for law in laws:
        assert law.steps[0] == 0
        assert float(law.divergence[-1]) < 1e-6  # N(0, I) for x_T: alpha_bar_T is 2e-9
    assert float((laws[-1].sampling - laws[-1].training).abs().max()) < float(
        (laws[0].sampling - laws[0].training).abs().max()
    )


def test_optimal_denoiser_is_the_datas_own() -> None:
    x = DATA.sample(5, 0)
    for t in (0, 50, 99):
        at = optimal_denoiser(DATA, PROCESS)(t)
        expected = DATA.optimal_noise(x, float(PROCESS.alphas_cumprod[t]))
        # float64 through an inverse of condition number below 100
        torch.testing.assert_close(x @ at.A.T + at.c, expected, rtol=0, atol=1e-11)


def test_linear_model_is_the_model() -> None:
    of = linear_models()
    x = DATA.sample(5, 0)
    at = linear_model(of, 1)(7)
    torch.testing.assert_close(x @ at.A.T + at.c, of.epsilon(x.expand(2, -1, -1), 7)[1], rtol=0, atol=1e-12)
    scored = replace(of, prediction="score")
    at = linear_model(scored, 1)(7)
    torch.testing.assert_close(x @ at.A.T + at.c, scored.epsilon(x.expand(2, -1, -1), 7)[1], rtol=0, atol=1e-12)


def test_seeds_together_are_each_alone() -> None:
    process, data = cosine_process(1000), ring()
    of = random_models(3, 2, 16, process, dtype=torch.float64)
    together = sample(of.epsilon, process, 2, 20, (4, 5, 9), points=7, clip=data.extent, dtype=torch.float64)
    lone_models = of.replaced(of.theta[2:], of.W[2:], of.U[2:])
    lone = sample(lone_models.epsilon, process, 2, 20, (9,), points=7, clip=data.extent, dtype=torch.float64)
    # the batched product sums in another order; 20 steps enlarge 1e-16 by less than a thousand each way
    torch.testing.assert_close(together.points[2], lone.points[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(together.norms.mean[2], lone.norms.mean[0], rtol=0, atol=1e-10)
    assert float(together.points.abs().max()) <= data.extent  # the last step is the predicted x_0
    assert not torch.equal(together.points[0], together.points[1])


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_last_step_is_the_predicted_x_0(variance: str) -> None:
    """Without noise, for which a variance of beta would leave room."""
    bar = float(PROCESS.alphas_cumprod[0])
    seen: list[Tensor] = []

    def model(x: Tensor, t: int) -> Tensor:
        seen.append(x)
        return 0.3 * x

    drawn = sample(model, PROCESS, 2, COUNT, (0,), points=5, variance=variance, dtype=torch.float64)
    expected = seen[-1] * (1 - 0.3 * (1 - bar) ** 0.5) / bar**0.5
    torch.testing.assert_close(drawn.points, expected, rtol=1e-12, atol=0)
    zero = Affine(torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    law = chain_law(lambda t: zero, DATA, PROCESS, 1, variance)
    np.testing.assert_allclose(law.final.covariance, np.eye(2) / bar, rtol=1e-12)


def test_noise_is_a_function_of_the_seed() -> None:
    points = sample(lambda x, t: 0.1 * x, PROCESS, 2, COUNT, (4, 5, 4), points=20000, dtype=torch.float64).points
    assert torch.equal(points[0], points[2])
    # independent between seeds: a correlation of 20,000 pairs scatters by 1 / sqrt(20000)
    for i in range(2):
        assert abs(float(torch.corrcoef(points[:2, :, i])[0, 1])) < 5 / 20000**0.5


def test_exposure_bias_is_the_instruments() -> None:
    process, data = cosine_process(1000), ring()
    of = random_models(2, 2, 16, process)
    chains = sample(of.epsilon, process, 2, 20, (0, 1), points=4000, clip=2.0)
    real = training_norms(of.epsilon, process, data, 20, (0, 1), points=4000)
    value, error = gap(chains.norms, real)
    for seed in range(2):
        x_0 = data.sample(4000, 77, torch.float32)
        steps = chains.norms.steps
        bias = exposure_bias(of.single(seed), process.alphas_cumprod, steps, x_0, clip=2.0, batch_size=4000)
        for i in range(20):
            pairs = (
                (real.mean, real.standard_error, bias.training),
                (chains.norms.mean, chains.norms.standard_error, bias.sampling),
                (value, error, bias.gap),
            )
            for mean, own_error, estimate in pairs:
                combined = math.hypot(float(own_error[seed, i]), estimate[i].data_standard_error)
                # 120 values, neighbouring steps correlated: beyond 5 once in 15,000 times
                assert abs(float(mean[seed, i]) - estimate[i].value) < 5 * combined


def check_gap(function: Callable[[Norms, Norms], tuple[Tensor, Tensor]]) -> None:
    """Independent errors add in quadrature: 3 and 4 make 5; and the sign is that of sampling less training."""
    one = torch.ones(1, 2, dtype=torch.float64)
    chains, real = (Norms((0, 5), mean * one, error * one, one, one) for mean, error in ((7.0, 3.0), (2.0, 4.0)))
    value, error = function(chains, real)
    assert torch.equal(value, 5 * one)
    assert torch.equal(error, 5 * one)
    assert torch.equal(function(real, chains)[0], -5 * one)
    # The error says how the difference scatters: 2,000 pairs of means of the same law
    draws = torch.randn(2, 2000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = draws.std(2) / 50**0.5
    halves = [Norms((0,), draws[i].mean(1, keepdim=True), errors[i, :, None], one, one) for i in range(2)]
    value, error = function(halves[0], halves[1])
    assert float((value / error).std()) == pytest.approx(1.0, abs=5 * (1 / 4000**0.5 + 1 / 100))


GAP_MUTANTS: dict[str, Callable[[Norms, Norms], tuple[Tensor, Tensor]]] = {
    "errors add up": lambda a, b: (a.mean - b.mean, a.standard_error + b.standard_error),
    "the larger error": lambda a, b: (a.mean - b.mean, torch.maximum(a.standard_error, b.standard_error)),
    "sampling's error": lambda a, b: (a.mean - b.mean, a.standard_error),
    "another sign": lambda a, b: (b.mean - a.mean, torch.hypot(a.standard_error, b.standard_error)),
    "nothing": lambda a, b: (torch.zeros_like(a.mean), torch.zeros_like(a.mean)),
}


def test_errors_of_the_gap_add_in_quadrature() -> None:
    check_gap(gap)
    for mutant in GAP_MUTANTS.values():
        with pytest.raises(AssertionError):
            check_gap(mutant)


def test_bad_input_is_named() -> None:
    of = random_models(2, 2, 4, PROCESS)
    mixture: GaussianMixture = ring()
    for name, value in (("variance", "learned"), ("clip", 0), ("points", 0)):
        settings: dict[str, Any] = {name: value}
        with pytest.raises(ValueError, match=f"{name} is"):
            sample(of.epsilon, PROCESS, 2, 5, (0, 1), **settings)
    with pytest.raises(ValueError, match="seeds is"):
        sample(of.epsilon, PROCESS, 2, 5, ())
    with pytest.raises(ValueError, match="what epsilon_model returned is"):
        sample(lambda x, t: x[:1], PROCESS, 2, 5, (0, 1))
    with pytest.raises(ValueError, match="what epsilon_model returned at t = 99 is not finite"):
        sample(lambda x, t: x / 0, PROCESS, 2, 5, (0, 1))
    real = training_norms(of.epsilon, PROCESS, mixture, 4, (0, 1), points=9)
    chains = sample(of.epsilon, PROCESS, 2, 5, (0, 1), points=9)
    with pytest.raises(ValueError, match=r"training.steps is"):
        gap(chains.norms, real)
    with pytest.raises(ValueError, match="data has 8 components; allowed: one"):
        chain_law(linear_model(linear_models(), 0), mixture, PROCESS, 5)
    with pytest.raises(ValueError, match="activation is 'relu'"):
        linear_model(of, 0)
    with pytest.raises(ValueError, match="seed is 2"):
        linear_model(linear_models(), 2)
