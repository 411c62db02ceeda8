import numpy as np
import pytest
from scipy import stats

from theory.claims import remark_3_5_perturbed_gaussian as module
from theory.claims.remark_3_5_perturbed_gaussian import (
    LINEAR_DIVERGENCE,
    STATEMENT,
    TRUE_RELU_DIVERGENCE,
    Activated,
    aligned,
    check_gaussian,
    log_weight,
    relu_moment,
)
from theory.model.random_features import activation_of
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_numbers_of_the_relu_counterexample() -> None:
    assert float(TRUE_RELU_DIVERGENCE) == pytest.approx(0.09165, abs=5e-6)  # five digits are given
    assert float(LINEAR_DIVERGENCE) == pytest.approx(0.15343, abs=5e-6)


def test_moments_of_relu_noise_are_those_of_two_half_normals() -> None:
    for power in range(4):
        left = np.sqrt(np.pi / 2) * stats.halfnorm.moment(power)
        right = np.sqrt(np.pi / 4) * stats.halfnorm.moment(power) * 2 ** (-power / 2)
        assert float(relu_moment(power)) == pytest.approx(right + (-1) ** power * left, rel=1e-12)  # roundings


@pytest.mark.parametrize("activation", ["linear", "relu", "tanh", "softplus"])
def test_the_weight_is_the_exponential_of_minus_a_potential_of_the_perturbation(activation: str) -> None:
    rng = np.random.default_rng(1)
    W, b, scale = rng.standard_normal((2, 3)), rng.standard_normal(3), rng.standard_normal(3)
    instance = Activated(W, b, W * scale, activation)
    point, step = rng.standard_normal(2), 1e-5
    slopes = [
        (log_weight(instance, (point + step * axis)[None]) - log_weight(instance, (point - step * axis)[None]))[0]
        / (2 * step)
        for axis in np.eye(2)
    ]
    expected = -point - instance.delta @ activation_of(activation)(W.T @ point + b) / 3
    np.testing.assert_allclose(slopes, expected, atol=1e-9)  # central difference: step^2 and rounding / step


def test_the_check_kills_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "log_weight", lambda instance, points: -log_weight(instance, points))
    assert finds_violation(aligned(("linear",)), check_gaussian)
    monkeypatch.setattr(module, "log_weight", lambda instance, points: -np.abs(points).sum(axis=1))
    assert finds_violation(aligned(("linear",)), check_gaussian)
