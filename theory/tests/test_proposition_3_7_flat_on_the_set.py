import numpy as np
import pytest

from theory.claims import proposition_3_7_flat_on_the_set as module
from theory.claims.equation_9_random_feature_score import SECOND_ORDER
from theory.claims.proposition_3_7_flat_on_the_set import (
    STATEMENT,
    check_rise,
    expected_loss,
    least_squares_theta,
    trained,
)
from theory.model import perturbations
from theory.proof.statement import Evidence
from theory.proof.strategies import Model
from theory.proof.testing import every_evidence, finds_violation, require

MODEL = Model(np.array([[1.0, 2.0, 0.0], [0.0, 1.0, -1.0]]), np.array([0.5, -1.0, 2.0]))


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_expected_loss_agrees_with_sampling() -> None:
    rng = np.random.default_rng(0)
    theta, points = rng.standard_normal((2, 3)), rng.standard_normal((20_000, 2))
    losses = ((points @ MODEL.W + MODEL.b) @ theta.T / 3 + points) ** 2
    standard_error = losses.sum(axis=1).std() / np.sqrt(len(points))
    assert losses.sum(axis=1).mean() == pytest.approx(expected_loss(MODEL, theta), abs=4 * standard_error)


def test_no_theta_is_below_the_least_squares_minimum() -> None:
    best = least_squares_theta(MODEL)
    for direction in np.random.default_rng(0).standard_normal((20, 2, 3)):
        assert expected_loss(MODEL, best + direction) > expected_loss(MODEL, best)


def test_the_exact_score_is_found_where_it_exists() -> None:
    np.testing.assert_allclose(
        least_squares_theta(Model(np.eye(2), np.zeros(2))), -2 * np.eye(2), atol=1e-14
    )  # rounding


def test_the_check_kills_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECOND_ORDER", -SECOND_ORDER)
    assert finds_violation(trained(), check_rise)
    monkeypatch.undo()
    monkeypatch.setattr(perturbations, "loss_rise", lambda delta, W, b: float(((delta @ W.T / W.shape[1]) ** 2).sum()))
    assert finds_violation(trained(), check_rise)
