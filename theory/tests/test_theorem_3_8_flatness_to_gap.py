import numpy as np
import pytest
import sympy

from theory.claims import theorem_3_8_flatness_to_gap as module
from theory.claims.theorem_3_8_flatness_to_gap import STATEMENT, check_shift, loss_at, shift_of, shifted
from theory.model.random_features import RandomFeatureScore
from theory.proof.notation import a, x1
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_dead_model_scores_zero_whatever_theta_is() -> None:
    points = np.linspace(-5, 5, 11)[:, None]
    for weight in (-3.0, 0.0, 7.0):
        model = RandomFeatureScore(np.array([[weight]]), np.zeros((1, 1)), np.array([[-1.0]]), "relu")
        np.testing.assert_array_equal(model(points, np.ones(1)), 0.0)


def test_loss_of_the_dead_model_under_a_shift() -> None:
    loss = loss_at(sympy.Symbol("theta_1"), sympy.Integer(0), a - x1)
    assert loss.subs({x1: 3, a: -1}) == 16


def test_the_check_kills_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "shift_of", lambda instance: 1.001 * shift_of(instance))
    assert finds_violation(shifted(), check_shift)
    monkeypatch.setattr(module, "shift_of", lambda instance: -shift_of(instance))
    assert finds_violation(shifted(), check_shift)
    monkeypatch.setattr(module, "shift_of", lambda instance: 0 * instance.direction)
    assert finds_violation(shifted(), check_shift)
