from typing import Any

import numpy as np
import pytest
import sympy

from theory.claims import theorem_t13_closed_forms as module
from theory.claims.theorem_t13_closed_forms import (
    FIRST,
    SECOND,
    SHRINKAGE,
    STATEMENT,
    VARIANCE,
    check_low_pass_filter,
    check_perturbed_optimum,
    noisy_networks,
    posteriors,
)
from theory.model import path_norm, smoothed_relu
from theory.proof.statement import Evidence, InstanceCheck
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def _network(seed: int, d: int = 3, m: int = 6, n: int = 20) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    theta, W = rng.standard_normal((2, d, m))
    x, y = rng.standard_normal((2, n, d))
    return theta, W, rng.standard_normal(m), x, y


@pytest.mark.parametrize(("theta_noise", "W_noise"), [(0.3, 0.3), (0.0, 2.0), (2.0, 0.0)])
def test_drawn_noise_gives_the_closed_form(theta_noise: float, W_noise: float) -> None:
    theta, W, b, x, y = _network(0)
    rng = np.random.default_rng(1)
    exact = smoothed_relu.two_layer_low_pass_filter(theta, W, b, x, y, theta_noise, W_noise)
    losses = []
    for _ in range(3000):
        moved = theta + theta_noise * rng.standard_normal(theta.shape), W + W_noise * rng.standard_normal(W.shape)
        losses.append(((np.maximum(x @ moved[1] + b, 0) @ moved[0].T / 6 - y) ** 2).sum(axis=1).mean())
    assert np.mean(losses) == pytest.approx(exact.value, abs=4 * np.std(losses) / np.sqrt(len(losses)))
    assert exact.loss == pytest.approx(((np.maximum(x @ W + b, 0) @ theta.T / 6 - y) ** 2).sum(axis=1).mean())


def test_little_noise_gives_half_the_trace_at_a_fitted_network() -> None:
    theta, W, b, x, _ = _network(2)
    fitted = np.maximum(x @ W + b, 0) @ theta.T / 6
    rise = smoothed_relu.two_layer_low_pass_filter(theta, W, b, x, fitted, 1e-4, 1e-4).rise
    trace = path_norm.gauss_newton_trace(theta, W, b, x)
    assert rise == pytest.approx(trace / 2 * 1e-8, rel=1e-2)  # kinks within the noise, of a share of 1e-4 a neuron


def test_pinned_moments() -> None:
    """z ~ N(0, 4): E max(z, 0) = 2/sqrt(2 pi), its square's mean is 2; without noise ReLU itself."""
    moments = smoothed_relu.smoothed_relu(np.array([0.0, 3.0, -3.0]), np.array([2.0, 0.0, 0.0]))
    assert moments.first == pytest.approx([2 / np.sqrt(2 * np.pi), 3, 0])
    assert moments.second == pytest.approx([2, 9, 0])


@pytest.mark.parametrize(
    ("name", "mutant", "check", "instances"),
    [
        ("FIRST", FIRST - module.tau * module.Density(module.mu / module.tau), check_low_pass_filter, noisy_networks()),
        ("SECOND", SECOND * 2, check_low_pass_filter, noisy_networks()),
        ("VARIANCE", 1 - module.bar, check_perturbed_optimum, posteriors()),
        ("SHRINKAGE", 1 / SHRINKAGE, check_perturbed_optimum, posteriors()),
        ("SHRINKAGE", -SHRINKAGE, check_perturbed_optimum, posteriors()),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str, mutant: sympy.Expr, check: InstanceCheck, instances: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sympy.simplify(VARIANCE - (1 - module.bar)) != 0
    monkeypatch.setattr(module, name, mutant)
    assert finds_violation(instances, check)


def test_a_formula_without_one_of_its_terms_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for term in module.LPF.args:
        monkeypatch.setattr(module, "LPF", module.LPF - term)
        assert not all(comparison.holds() for comparison in module._loss_of_independent_features())
        monkeypatch.undo()


RELU: Any = smoothed_relu


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RELU.smoothed_relu(0.0, -1.0), "deviation is -1"),
        (lambda: RELU.smoothed_relu(np.ones(2), np.ones(3)), "mean and deviation have shapes"),
        (lambda: RELU.two_layer_low_pass_filter(*_network(0), -0.1, 0.1), "theta_noise is -0.1"),
    ],
)
def test_bad_input_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
