import numpy as np
import pytest
import sympy

from theory.claims import definition_3_1_flat_minima as module
from theory.claims.definition_3_1_flat_minima import (
    EXTRAPOLATION,
    LINKS,
    RISE,
    STATEMENT,
    check_extrapolation,
    check_flat,
    moved,
    rays,
)
from theory.claims.equation_9_random_feature_score import SECOND_ORDER
from theory.model.random_features import RandomFeatureScore
from theory.proof.notation import Delta, m
from theory.proof.statement import Evidence, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def _loss(link: str, theta: float, x: float) -> float:
    """Of d = m = W = 1, b = 0 at the target score 0."""
    model = RandomFeatureScore(LINKS[link](np.array([[theta]])), np.ones((1, 1)), np.zeros((1, 1)), "linear")
    return float((model(np.array([x]), np.ones(1)) ** 2).sum())


def test_the_definition_is_not_empty_for_a_soft_threshold() -> None:
    inside = {_loss("soft threshold", delta, x=0.7) for delta in np.linspace(-1, 1, 21)}
    assert inside == {0.0}
    assert _loss("soft threshold", 3.0, x=0.7) == pytest.approx((2 * 0.7) ** 2, rel=1e-15)  # one rounding


def test_a_model_linear_in_theta_moves_at_once() -> None:
    assert _loss("identity", 0.1, x=0.7) > _loss("identity", 0.0, x=0.7)


def test_the_check_kills_an_extrapolation_with_a_wrong_second_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    # The linear part alone: what a first-order model of the loss would predict.
    mutant = sympy.expand(EXTRAPOLATION).coeff(Delta, 0) + sympy.expand(EXTRAPOLATION).coeff(Delta, -1) / Delta
    monkeypatch.setattr(module, "EXTRAPOLATION", mutant)
    assert fails_without("the second difference", rays(), check_extrapolation).run().holds


def test_the_check_kills_a_rise_without_its_division_by_m(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RISE", RISE + (m - 1) * SECOND_ORDER)
    assert fails_without("the factor 1/m^2", moved(), check_flat).run().holds
