"""The measured Hessian: the loss's own, T3's spectrum at every theta, and told from spectra that are wrong."""

import pytest
import torch
from torch import Tensor

from toy import measures
from toy.claims import SPECTRUM
from toy.data import gaussian, ring
from toy.models import PREDICTIONS, ScoreModels, random_models
from toy.process import cosine_process
from toy.rows import measure_row
from toy.settings import QUICK
from toy.training import METHODS, Plan, train

NUMBERS = (0, 1, 2)
SEED = 1
PROCESS = cosine_process()


def small(dimension: int = 2, prediction: str = "noise", divisor: float | None = 1.0) -> ScoreModels:
    return random_models(
        3, dimension, 12, PROCESS, embedding=6, prediction=prediction, divisor=divisor, dtype=torch.float64
    )


def points(dimension: int = 2) -> measures.Evaluation:
    data = ring() if dimension == 2 else gaussian(torch.eye(dimension, dtype=torch.float64))
    return measures.evaluation_points(data, PROCESS, NUMBERS, 600)


def spectrum(models: ScoreModels, at: measures.Evaluation, seed: int = SEED) -> Tensor:
    return torch.linalg.eigvalsh(measures.measured_hessian(models, seed, at))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("divisor", [None, 1.0])
@pytest.mark.parametrize("dimension", [2, 3])
def test_the_closed_spectrum_is_the_measured_one(prediction: str, divisor: float | None, dimension: int) -> None:
    models, at = small(dimension, prediction, divisor), points(dimension)
    closed = measures.closed_spectra(models, at)
    assert closed.shape == (3, dimension * 12)
    for seed in range(3):
        assert measures.largest_relative_error(spectrum(models, at, seed), closed[seed]) < SPECTRUM


def test_the_hessian_is_the_losses_second_difference() -> None:
    """The loss is quadratic in theta, so its second difference along any direction is exact but for rounding."""
    models, at = small(), points()
    measured = measures.measured_hessian(models, SEED, at)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        v = torch.randn(models.theta.shape, generator=generator, dtype=torch.float64)
        losses = [
            models.replaced(theta=models.theta + step * v).losses(at.x_t, at.t, at.epsilon)[SEED].mean()
            for step in (-1.0, 0.0, 1.0)
        ]
        flat = v[SEED].flatten()
        # 1e-10: float64's 2e-16 times some thousand terms, over a difference as large as the losses
        assert float(losses[0] - 2 * losses[1] + losses[2]) == pytest.approx(float(flat @ measured @ flat), rel=1e-10)
    torch.testing.assert_close(measured, measured.mT)


def test_wrong_closed_forms_are_caught() -> None:
    models, at = small(divisor=None), points()
    right, measured = measures.closed_spectra(models, at)[SEED], spectrum(models, at)
    wrong = {
        "no 2/d: the sum over coordinates": right * models.dimension,
        "half: the coefficient of the square": right / 2,
        "G in place of G / m^2": right * models.normaliser**2,
        "the deviation, not the variance": right.sqrt(),
        "another model's G": measures.closed_spectra(models, at)[0],
        "the largest eigenvalue alone": torch.full_like(right, float(right[-1])),
        "only the smallest eigenvalue off": torch.cat([right[:1] * 1.01, right[1:]]),
        "multiplicities lost": torch.linspace(float(right[0]), float(right[-1]), len(right), dtype=right.dtype),
        "flipped": -right.flip(0),
    }
    for name, spectrum_of in wrong.items():
        assert measures.largest_relative_error(measured, spectrum_of) > 1e5 * SPECTRUM, name
    flat = torch.zeros_like(measured)
    assert measures.largest_relative_error(flat, right) == 1.0


def test_other_data_have_another_spectrum() -> None:
    models, at = small(), points()
    other = measures.evaluation_points(ring(radius=3.0), PROCESS, NUMBERS, 600)
    error = measures.largest_relative_error(spectrum(models, at), measures.closed_spectra(models, other)[SEED])
    assert error > 1e5 * SPECTRUM


def test_eigenvalues_that_are_zero_are_compared_with_rounding() -> None:
    """Twice the same features: half the spectrum vanishes, and a relative error of nothing says nothing."""
    one = small()
    theta, W, U = (torch.cat([w, w], dim=2) for w in (one.theta, one.W, one.U))
    doubled = ScoreModels(theta, W, U, PROCESS, divisor=1.0)
    at = points()
    closed = measures.closed_spectra(doubled, at)[SEED]
    error = measures.largest_relative_error(spectrum(doubled, at), closed)
    # rounding is some 1e-15 of the largest eigenvalue, held against RESOLVED = 1e-12 of it
    assert error < 0.1
    raised = closed + 1e-9 * closed[-1]
    assert measures.largest_relative_error(spectrum(doubled, at), raised) > 0.5


def test_training_moves_theta_and_not_the_hessian() -> None:
    initial = random_models(3, 2, 24, PROCESS, embedding=8, divisor=1.0)
    at = points()
    spectra = {}
    for name in ("adm", "sam"):
        run = train(initial, ring(), METHODS[name], Plan(steps=60, batch=32), NUMBERS, progress=False)
        models = run.models[""]
        assert not torch.equal(models.theta, initial.theta)
        result = measures.spectrum_measures(models, at)
        assert bool((result["hessian_error"] < SPECTRUM).all())
        spectra[name] = result["hessian_least"]
    torch.testing.assert_close(spectra["adm"], spectra["sam"], rtol=SPECTRUM, atol=0.0)


@pytest.mark.parametrize("learn", [False, True])
def test_rows_of_frozen_features_have_the_spectrum(learn: bool) -> None:
    """Measured inside of no_grad, in which rows are measured."""
    models = random_models(QUICK.seeds, 2, 8, PROCESS, learn_features=learn, divisor=1.0)
    row = measure_row(models, QUICK, [ring()], counts=(), quantized_samples=False, pictures=False)
    assert ("hessian_error" in row.measures) is not learn
    if not learn:
        assert (row.measures["hessian_error"] < SPECTRUM).all()
        assert len(set(row.measures["hessian_error"])) > 1, "each seed has its own"


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="seed is 3"):
        measures.measured_hessian(small(), 3, points())
