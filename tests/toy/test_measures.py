"""Measures of all seeds at once, against the instruments on one seed's module and against exact values."""

import pytest
import torch
from torch import Tensor, nn

import flatness
from toy import measures
from toy.data import GaussianMixture, ring
from toy.models import ScoreModels, random_models
from toy.process import cosine_process
from toy.training import METHODS, Plan, train

NUMBERS = (3, 5)
POINTS = 1000
SEED = 1
"""The position, among NUMBERS, of the seed that is looked at alone."""


@pytest.fixture(scope="module")
def models() -> ScoreModels:
    initial = random_models(2, 2, 24, cosine_process(), embedding=8, learn_features=True, divisor=1.0)
    return train(initial, ring(), METHODS["adm"], Plan(steps=100, batch=64), NUMBERS, progress=False).models[""]


@pytest.fixture(scope="module")
def points(models: ScoreModels) -> measures.Evaluation:
    return measures.evaluation_points(ring(), models.process, NUMBERS, POINTS)


@pytest.fixture(scope="module")
def losses(models: ScoreModels, points: measures.Evaluation) -> measures.Losses:
    return measures.Losses(models, points)


def loss(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    t, x, epsilon = batch
    return (module(x, t) - epsilon).square().mean(-1)


@pytest.fixture(scope="module")
def batches(points: measures.Evaluation) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [(points.t[SEED], points.x_t[SEED], points.epsilon[SEED])]


Batches = list[tuple[Tensor, Tensor, Tensor]]
ROUNDING = 1e-4
"""Relative; float32's 6e-8 times some hundred operations, over rises that are some hundredths of the loss."""


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("alone", [True, False])
def test_quantisation_is_the_instruments(
    models: ScoreModels, losses: measures.Losses, batches: Batches, bits: int, alone: bool
) -> None:
    rises = measures.quantization_measures(losses, torch.ones(2), (bits,), 1)
    chosen = ["readout.weight"] if alone else None
    name = "quantized_readout_rise" if alone else "quantized_rise"
    instrument = flatness.quantization_rise(models.single(SEED), loss, batches, bits, parameters=chosen)
    assert abs(float(rises[f"{name}_{bits}"][SEED]) - instrument.rise.value) < ROUNDING * instrument.loss.value


def test_readout_is_the_instruments(models: ScoreModels, losses: measures.Losses, batches: Batches) -> None:
    readout = measures.readout_measures(losses, 0.02, 8)
    instrument = flatness.readout(models.single(SEED), loss, batches)
    rel = ROUNDING
    assert float(readout["feature_energy"][SEED]) == pytest.approx(instrument.feature_energy.value, rel=rel)
    assert float(readout["readout_rise_t3"][SEED]) == pytest.approx(instrument.noise_rise(0.02).value, rel=rel)
    assert float(readout["hessian_top"][SEED]) == pytest.approx(instrument.largest_feature_moment, rel=rel)  # 2 / d = 1
    assert float(readout["flat_radius"][SEED]) == pytest.approx(instrument.flat_radius(0.01), rel=rel)
    # the loss is quadratic in theta; 1e-3 leaves room for float32 losses whose rise is a tenth of them
    torch.testing.assert_close(readout["top_rise_ratio"], torch.ones(2, dtype=torch.float64), rtol=1e-3, atol=0.0)
    quantized = measures.quantization_measures(losses, readout["feature_energy"], (4,), 2000)
    prediction = quantized["quantized_readout_rise_4_t5"]
    # a draw scatters by about its mean: 5 standard errors of 2,000
    torch.testing.assert_close(quantized["dithered_readout_rise_4"], prediction, rtol=5 / 2000**0.5, atol=0.0)
    assert float(prediction[SEED]) == pytest.approx(instrument.quantization_rise(4).value, rel=rel)


def test_the_readouts_rise_is_the_closed_form(losses: measures.Losses) -> None:
    """Within 5 standard errors over repetitions on other noise (100 blocks of 40 draws)."""
    psi = losses.psi()
    residual = torch.bmm(psi, losses.models.theta.mT) - losses.evaluation.epsilon
    blocks = torch.stack(
        [measures.readout_rise(psi, residual, (7 * block, 7 * block + 1), 0.02, 40) for block in range(100)]
    )
    closed = measures.readout_measures(losses, 0.02, 1)["readout_rise_t3"]
    assert bool(((blocks.mean(0) - closed).abs() < 5 * blocks.std(0) / 10).all())
    assert bool((closed > 10 * blocks.std(0) / 10).all()), "the closed form is told from no rise at all"


@pytest.mark.parametrize(("relative", "scale", "sigma"), [(False, "absolute", 0.02), (True, "layer", 0.3)])
def test_low_pass_rise_is_the_instruments(
    models: ScoreModels, losses: measures.Losses, batches: Batches, relative: bool, scale: str, sigma: float
) -> None:
    """The noise is other; 5 standard errors of the instrument's draws, and as many of ours."""
    draws = 200
    ours = float(measures.low_pass_rise(losses, sigma, draws, relative=relative)[SEED])
    theirs = flatness.low_pass_filter(models.single(SEED), loss, batches, sigma=sigma, draws=draws, scale=scale).rise
    assert abs(ours - theirs.value) < 5 * 2**0.5 * theirs.draw_standard_error
    assert theirs.value > 5 * theirs.draw_standard_error


def test_the_curve_is_the_instruments(models: ScoreModels, losses: measures.Losses, batches: Batches) -> None:
    draws = 100
    ours = measures.rise_along_curve(losses, (0.0, 1.0), draws)[SEED]
    theirs = flatness.perturbation_curve(models.single(SEED), loss, batches, (0.0, 1.0), draws=draws).losses
    assert float(ours[0]) == pytest.approx(theirs[0].value, rel=ROUNDING)
    assert abs(float(ours[1]) - theirs[1].value) < 5 * 2**0.5 * theirs[1].draw_standard_error


def test_balanced_models_are_the_same_functions_of_equal_norms(
    models: ScoreModels, points: measures.Evaluation, losses: measures.Losses
) -> None:
    even = measures.balanced(models)
    of_even = measures.Losses(even, points)
    torch.testing.assert_close(of_even(of_even.weights), losses(losses.weights), rtol=1e-5, atol=0.0)
    features = torch.cat([even.W, even.U], 1).square().sum((1, 2))
    torch.testing.assert_close(even.theta.square().sum((1, 2)), features, rtol=1e-5, atol=0.0)
    rises = [measures.low_pass_rise(one, 0.05, 4, relative=True) for one in (of_even, losses)]
    # T7: the same relative noise is the same change of the function; 1e-5 of a loss of about .6 is float32's
    torch.testing.assert_close(rises[0], rises[1], rtol=1e-4, atol=1e-5)
    changed = [measures.low_pass_rise(one, 0.05, 4) for one in (of_even, losses)]
    assert bool(((changed[0] - changed[1]).abs() > 1e-3).all()), "absolute noise tells the scales apart"


def test_noise_and_points_are_functions_of_the_seeds_number(models: ScoreModels) -> None:
    both = measures.evaluation_points(ring(), models.process, NUMBERS, 50)
    alone = measures.evaluation_points(ring(), models.process, NUMBERS[1:], 50)
    torch.testing.assert_close(both.x_t[1:], alone.x_t, rtol=0.0, atol=0.0)
    noise = measures.noise_like([models.theta], NUMBERS, 2)[0]
    torch.testing.assert_close(measures.noise_like([models.theta[1:]], NUMBERS[1:], 2)[0][0], noise[1])
    assert not torch.equal(noise, measures.noise_like([models.theta], NUMBERS, 3)[0])


def test_the_plane_passes_through_the_model(models: ScoreModels, points: measures.Evaluation) -> None:
    first = measures.Evaluation(points.t[:1], points.x_t[:1], points.epsilon[:1], NUMBERS[:1])
    one = measures.Losses(measures.single(models), first)
    plane = measures.loss_plane(one, (-0.5, 0.0, 0.5))
    assert plane[1][1] == pytest.approx(float(one(one.weights)[0]), rel=1e-12)
    assert plane[0][0] > plane[1][1]
    assert plane[0][2] != plane[2][0]


def test_sampling_is_scored_against_a_floor(models: ScoreModels) -> None:
    data: GaussianMixture = ring()
    scores = measures.sampling_measures(models, data, NUMBERS, 20, 500)
    floor = measures.distance_floor(data, NUMBERS, 500)
    assert set(scores.measures) == {"sw_20", "signed_gap_20", "absolute_gap_20"}
    assert bool((scores.measures["sw_20"] > floor).all()), "a model of a hundred steps is further off than the data"
    differences = scores.sampling_norm - scores.training_norm
    torch.testing.assert_close(scores.measures["signed_gap_20"], differences.mean(1))
    torch.testing.assert_close(scores.measures["absolute_gap_20"], differences.abs().mean(1))
    assert bool((scores.measures["absolute_gap_20"] > scores.measures["signed_gap_20"].abs()).any())


def by_neuron(models: ScoreModels) -> ScoreModels:
    """The same functions with a factor of its own for each neuron: theta_j / a_j, a_j w_j, a_j u_j."""
    factors = torch.logspace(-1, 1, models.theta.shape[2])
    return models.replaced(models.theta / factors, models.W * factors, models.U * factors)


def test_what_a_factor_for_each_neuron_moves(
    models: ScoreModels, points: measures.Evaluation, losses: measures.Losses
) -> None:
    """Noise relative to a tensor, and |theta|^2 E|phi|^2 (P8a, P8b), move; only sums over columns stay (T7)."""
    moved = measures.Losses(by_neuron(models), points)
    torch.testing.assert_close(moved(moved.weights), losses(losses.weights), rtol=1e-4, atol=0.0)
    before, after = (measures.readout_measures(one, 0.02, 1)["energy_times_norm"] for one in (losses, moved))
    assert bool((after > 2 * before).all())
    rises = [measures.low_pass_rise(one, 0.05, 4, relative=True) for one in (losses, moved)]
    assert bool((rises[1] > 1.5 * rises[0]).all())
    columns = [
        (one.psi().double().square().mean(1) * one.models.theta.double().square().sum(1)).sum(1)
        for one in (losses, moved)
    ]
    torch.testing.assert_close(columns[1], columns[0], rtol=1e-4, atol=0.0)
