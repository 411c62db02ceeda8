"""Exact moments and what follows from them: against sampling, other derivations and the instruments."""

import math

import pytest
import torch
from torch import Tensor, nn

from flatness.measuring.low_pass_filter import low_pass_filter
from flatness.measuring.quantization import Grid, rounded_to_grid
from flatness.measuring.readout import readout
from tests.toy.exact import (
    RESOLVED,
    flat_radius,
    gap_radius,
    hessian_spectrum,
    least_loss,
    minimiser,
    noise_rise,
    quantization_rise,
    relative_noise_rise,
    worst_quantization_rise,
)
from tests.toy.moments import Moments, exact_moments, sampled_moments
from toy.data import GaussianMixture, gaussian, random_mixture, ring
from toy.models import PREDICTIONS, ScoreModels, random_models
from toy.process import cosine_process

PROCESS = cosine_process(100)
EVERY = (2, 30, 55, 80)
SEED = 1
ROUNDING = 1e-10
"""Float64 sums of some hundred terms of size 1, divided by M's eigenvalues, above 1e-5 here."""


def models(activation: str = "relu", prediction: str = "noise", dimension: int = 2, m: int = 8) -> ScoreModels:
    return random_models(
        2, dimension, m, PROCESS, embedding=6, activation=activation, prediction=prediction, dtype=torch.float64
    )


def data() -> GaussianMixture:
    return random_mixture(2, 3, seed=2)


def drawn(number: int, seed: int, steps: tuple[int, ...] = EVERY) -> tuple[Tensor, Tensor, Tensor]:
    """t, x_t and epsilon, drawn without the toy's own code."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.tensor(steps)[torch.randint(len(steps), (number,), generator=generator)]
    epsilon = torch.randn(number, 2, generator=generator, dtype=torch.float64)
    bars = PROCESS.alphas_cumprod[t][:, None]
    return t, bars.sqrt() * data().sample(number, seed) + (1 - bars).sqrt() * epsilon, epsilon


def deviation(moments: Moments, of: ScoreModels) -> float:
    """The largest deviation of M or C from plain sampling, in standard errors over 40 batches of 4,000 points."""
    scale = of.scales.double()
    pairs: list[list[Tensor]] = [[], []]
    for batch in range(40):
        t, x, epsilon = drawn(4000, batch)
        z = x @ of.W[SEED] + of.embedding[t] @ of.U[SEED]
        psi = {"relu": z.clamp(min=0), "tanh": z.tanh(), "linear": z}[of.activation] * scale[t][:, None]
        pairs[0].append(psi.T @ psi / len(t))
        pairs[1].append(epsilon.T @ psi / len(t))
    worst = 0.0
    for values, exact in zip(map(torch.stack, pairs), (moments.second, moments.cross), strict=True):
        errors = values.std(0) / 40**0.5
        worst = max(worst, float(((values.mean(0) - exact).abs() / errors).max()))
    return worst


@pytest.mark.parametrize("activation", ["relu", "tanh", "linear"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_exact_moments_are_those_of_samples(activation: str, prediction: str) -> None:
    of = models(activation, prediction)
    moments = exact_moments(of, SEED, data(), EVERY)
    # 80 entries in Student's distribution of 39 degrees of freedom: beyond 6 once in 20,000 times
    assert deviation(moments, of) < 6
    assert deviation(Moments(moments.second, -moments.cross, 8), of) > 20
    assert deviation(exact_moments(of, 0, data(), EVERY), of) > 20
    assert deviation(exact_moments(of, SEED, data().noised(0.6), EVERY), of) > 10


def test_sampled_moments_converge_to_the_exact_ones() -> None:
    of = models()
    exact = exact_moments(of, SEED, data(), EVERY)
    many = [sampled_moments(of, SEED, data(), 4000, EVERY, sample_seed=s) for s in range(40)]
    for name in ("second", "cross"):
        values = torch.stack([getattr(m, name) for m in many])
        z = (values.mean(0) - getattr(exact, name)) / (values.std(0) / 40**0.5)
        assert float(z.abs().max()) < 6  # as above
    assert torch.equal(many[0].second, sampled_moments(of, SEED, data(), 4000, EVERY, sample_seed=0).second)
    plain = []
    for s in range(40):
        t, x, epsilon = drawn(4000, s)
        plain.append(epsilon.T @ of.features(x.expand(2, -1, -1), t.expand(2, -1))[SEED] / (4000 * 8))
    # epsilon's mean in its place, and even times, pay: both variances are of 16 entries and 40 samples each
    assert float(torch.stack([m.cross for m in many]).var(0).mean()) < 0.9 * float(torch.stack(plain).var(0).mean())


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_moments_give_the_expected_loss(prediction: str) -> None:
    of = models(prediction=prediction)
    t, x, epsilon = drawn(100000, 3)
    losses = of.replaced().losses(x.expand(2, -1, -1), t.expand(2, -1), epsilon.expand(2, -1, -1))[SEED]
    expected = exact_moments(of, SEED, data(), EVERY).loss(of.theta[SEED])
    assert abs(float(losses.mean()) - expected) < 5 * float(losses.std()) / 100000**0.5


def test_the_minimiser_is_a_minimum() -> None:
    moments = exact_moments(models(), SEED, data(), EVERY)
    best = minimiser(moments)
    assert best.rank == 8
    assert best.gradient_norm < ROUNDING
    eigenvalues = torch.linalg.eigvalsh(moments.second)
    assert best.condition_number == pytest.approx(float(eigenvalues[-1] / eigenvalues[0]), rel=ROUNDING)
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1.0):
        delta = size * torch.randn(best.theta.shape, generator=generator, dtype=torch.float64)
        rise = moments.loss(best.theta + delta) - best.loss
        assert rise > 0
        assert rise == pytest.approx(float((delta @ moments.second * delta).sum()) / 2, rel=1e-5, abs=ROUNDING)
    for wrong in (-best.theta, 1.01 * best.theta, 0 * best.theta):
        assert moments.loss(wrong) > best.loss + 1e-6
        assert float(moments.gradient(wrong).norm()) > 1e4 * ROUNDING


def test_the_minimiser_of_dependent_features_has_least_norm() -> None:
    of = models(m=4)
    theta, W, U = (torch.cat([w, w], dim=2) for w in (of.theta, of.W, of.U))
    doubled = ScoreModels(theta, W, U, PROCESS)
    best = minimiser(exact_moments(doubled, SEED, data(), EVERY))
    assert best.rank == 4
    assert math.isinf(best.condition_number)
    # features that are equal share their weight, so that the two halves are the same; M is resolved to RESOLVED
    torch.testing.assert_close(best.theta[:, :4], best.theta[:, 4:], rtol=0, atol=1e-6)
    single = minimiser(exact_moments(of, SEED, data(), EVERY))
    assert best.loss == pytest.approx(single.loss, rel=1e3 * RESOLVED)


def test_no_model_is_below_the_least_loss() -> None:
    value, error = least_loss(data(), PROCESS)
    best = minimiser(exact_moments(models(), SEED, data())).loss
    assert value + 5 * error < best < 1
    # a Gaussian's is known: E epsilon^2 less tr((1 - bar) Sigma_t^-1) / d
    of = gaussian(torch.tensor([[2.0, 0.5], [0.5, 0.4]], dtype=torch.float64))
    shares = [
        (1 - bar) * torch.linalg.inv(of.noised(float(bar)).covariances[0]).trace() / 2 for bar in PROCESS.alphas_cumprod
    ]
    value, error = least_loss(of, PROCESS)
    assert abs(value - (1 - float(torch.stack(shares).mean()))) < 5 * error


def test_a_linear_model_of_gaussian_data_at_one_level_is_optimal() -> None:
    of = gaussian(torch.tensor([[2.0, 0.5], [0.5, 0.4]], dtype=torch.float64))
    t = 40
    best = minimiser(exact_moments(models("linear"), SEED, of, (t,)))
    noised = of.noised(float(PROCESS.alphas_cumprod[t])).covariances[0]
    A = best.theta @ models("linear").W[SEED].T / 8
    torch.testing.assert_close(A, (1 - PROCESS.alphas_cumprod[t]).sqrt() * torch.linalg.inv(noised), rtol=0, atol=1e-6)


def squared_errors(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    t, x, epsilon = batch
    return (model(x, t) - epsilon).square().mean(1)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_instruments_find_the_exact_flatness(prediction: str) -> None:
    of = models(prediction=prediction)
    moments = exact_moments(of, SEED, data(), EVERY)
    batches = [drawn(20000, 5)]
    for module in (of.single(SEED), of.replaced(minimiser(moments).theta.expand(2, -1, -1)).single(SEED)):
        rise = low_pass_filter(module, squared_errors, batches, sigma=4.0, draws=400, parameters=["readout.weight"])
        error = math.hypot(rise.rise.draw_standard_error, rise.rise.data_standard_error)
        exact = noise_rise(moments, 4.0)
        assert abs(rise.rise.value - exact) < 5 * error
        assert error < exact / 10  # so that a factor of two would be seen
        relative = low_pass_filter(
            module, squared_errors, batches, sigma=0.1, scale="layer", draws=200, parameters=["readout.weight"]
        )
        error = math.hypot(relative.rise.draw_standard_error, relative.rise.data_standard_error)
        expected = relative_noise_rise(moments, module.readout.weight, 0.1)
        assert abs(relative.rise.value - expected) < 5 * error
    measured = readout(module, squared_errors, batches)
    assert abs(measured.noise_rise(4.0).value - exact) < 5 * measured.noise_rise(4.0).data_standard_error
    # lambda_max of 20,000 points errs as the energy does, by less than 5 per cent
    assert measured.flat_radius(0.1) == pytest.approx(flat_radius(moments, 0.1), rel=0.05)
    grid = Grid(4)
    assert measured.quantization_rise(4).value == pytest.approx(
        quantization_rise(moments, module.readout.weight, grid), rel=0.05
    )


def test_hessian_flat_radius_and_gap_radius() -> None:
    moments = exact_moments(models(), SEED, data(), EVERY)
    best = minimiser(moments)
    eigenvalues, vectors = torch.linalg.eigh(moments.second)
    torch.testing.assert_close(hessian_spectrum(moments), eigenvalues)  # (2/d) M at d = 2
    radius = flat_radius(moments, 0.2)
    worst = torch.zeros_like(best.theta)
    worst[1] = radius * vectors[:, -1]
    assert moments.loss(best.theta + worst) - best.loss == pytest.approx(0.2, rel=1e-8)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        delta = torch.randn(best.theta.shape, generator=generator, dtype=torch.float64)
        assert moments.loss(best.theta + radius * delta / delta.norm()) - best.loss < 0.2
    assert gap_radius(moments, 0.2) == pytest.approx((0.4**0.5 - math.log1p(0.4**0.5)) / 2, rel=1e-12)
    of = random_models(2, 2, 8, PROCESS, embedding=6, divisor=1.0, dtype=torch.float64)
    as_readout = exact_moments(of, SEED, data(), EVERY)
    torch.testing.assert_close(as_readout.G, moments.G)
    assert flat_radius(as_readout, 0.2) == pytest.approx(radius / 8, rel=1e-12)  # theta is in units of 1/8
    divided = Moments(moments.second / 4, moments.cross / 2, moments.divisor)  # features of half the size
    assert flat_radius(divided, 0.2) == pytest.approx(2 * radius, rel=1e-12)
    assert gap_radius(divided, 0.2) == gap_radius(moments, 0.2)


def test_units_of_equation_9() -> None:
    of = models()
    moments = exact_moments(of, SEED, data(), EVERY)
    t, x, _ = drawn(100000, 7)
    energy = of.features(x.expand(2, -1, -1), t.expand(2, -1))[SEED].square().sum(1)
    assert abs(moments.feature_energy - float(energy.mean())) < 5 * float(energy.std()) / 100000**0.5
    # T3: sigma^2 (d / m^2) E||phi||^2 in the sum over coordinates, so 1 / d of it in their mean
    assert noise_rise(moments, 0.3) == pytest.approx(0.3**2 * moments.feature_energy / 8**2, rel=1e-12)


@pytest.mark.parametrize("grid", [Grid(3), Grid(4, scheme="minmax"), Grid(4, granularity="channel")])
def test_quantization(grid: Grid) -> None:
    moments = exact_moments(models(), SEED, data(), EVERY)
    best = minimiser(moments)
    predicted = quantization_rise(moments, best.theta, grid)
    theta = best.theta
    if grid.granularity == "tensor":
        spread = theta.abs().max() / (2 ** (grid.bits - 1) - 1)
        steps = spread if grid.scheme == "symmetric" else (theta.max() - theta.min()) / (2**grid.bits - 1)
    else:
        steps = (theta.abs().amax(1) / (2 ** (grid.bits - 1) - 1))[:, None]
    generator = torch.Generator().manual_seed(2)
    dither = [
        moments.loss(theta + steps * (torch.rand(theta.shape, generator=generator, dtype=torch.float64) - 0.5))
        for _ in range(4000)
    ]
    rises = torch.tensor(dither, dtype=torch.float64) - best.loss
    assert abs(float(rises.mean()) - predicted) < 5 * float(rises.std()) / 4000**0.5
    nearest = moments.loss(rounded_to_grid(theta, grid)) - best.loss
    assert 0 < nearest <= worst_quantization_rise(moments, theta, grid)


def test_bad_input_is_named() -> None:
    of = models()
    moments = exact_moments(of, SEED, data(), (3,))
    with pytest.raises(ValueError, match="seed is 2"):
        exact_moments(of, 2, data())
    with pytest.raises(ValueError, match="data has dimension 3"):
        sampled_moments(of, 0, random_mixture(3))
    with pytest.raises(ValueError, match=r"steps is \[\]"):
        exact_moments(of, 0, ring(), [])
    with pytest.raises(ValueError, match="t is a tensor"):
        exact_moments(of, 0, ring(), [100])
    with pytest.raises(ValueError, match="number is 0"):
        sampled_moments(of, 0, ring(), 0)
    with pytest.raises(ValueError, match="theta is a tensor of shape"):
        moments.loss(torch.zeros(8, 2))
    with pytest.raises(ValueError, match="sigma is -1"):
        noise_rise(moments, -1)
    with pytest.raises(ValueError, match="kappa is -2"):
        flat_radius(moments, -1)
    with pytest.raises(ValueError, match="second is zero"):
        minimiser(Moments(torch.zeros(2, 2), torch.zeros(1, 2), 2))
    with pytest.raises(ValueError, match="number is 1"):
        least_loss(ring(), PROCESS, 1)
