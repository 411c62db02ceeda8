import numpy as np
import pytest
import sympy

from theory.claims import equation_9_random_feature_score as module
from theory.claims.equation_9_random_feature_score import (
    HESSIAN,
    RISE,
    SECOND_ORDER,
    STATEMENT,
    G,
    R,
    check_expected_rise,
    low_dimensional_lines,
    standard_normal_rule,
)
from theory.proof import notation
from theory.proof.notation import delta, m, numeric
from theory.proof.statement import Evidence, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_hessian_in_closed_form() -> None:
    # d = 2, m = 1, G = (3): every entry of theta has curvature 2 * 3 / 1.
    hessian = notation.at(HESSIAN, {module.G: [[3]]}, d=2).as_explicit()
    assert sympy.Matrix(hessian) == 6 * sympy.eye(2)


def test_numeric_rise_agrees_with_the_exact_one() -> None:
    rows: list[list[list[int]]] = [[[1, 2], [-1, 3]], [[2, 1], [1, 5]], [[0, 1], [4, 1]]]
    exact = notation.at(RISE, dict(zip((delta, G, R), rows, strict=True)))
    arrays = [np.array(value, float) for value in rows]
    assert numeric(RISE, delta, G, R, m)(*arrays, 2) == pytest.approx(float(exact), rel=1e-14)  # a few roundings


@pytest.mark.parametrize(("bias", "mean_square"), [([0.0], 0.5), ([3.0], 9.9997966)], ids=["b=0", "b=3"])
def test_rule_in_one_dimension(bias: list[float], mean_square: float) -> None:
    # E max(x + b, 0)^2 = (1 + b^2) Phi(b) + b phi(b), to the eight digits given.
    points, weights = standard_normal_rule(np.ones((1, 1)), np.array(bias))
    assert weights @ np.maximum(points[:, 0] + bias[0], 0) ** 2 == pytest.approx(mean_square, abs=1e-7)


def test_rule_in_two_dimensions() -> None:
    # E max(x_1, 0) max(x_2, 0) = 1/(2 pi) for independent x; the rule is exact, so to rounding.
    points, weights = standard_normal_rule(np.eye(2), np.zeros(2))
    assert weights @ np.maximum(points, 0).prod(axis=1) == pytest.approx(1 / (2 * np.pi), rel=1e-13)


@pytest.mark.parametrize("mutant", [RISE - 2 * SECOND_ORDER, RISE + (m - 1) * SECOND_ORDER, SECOND_ORDER])
def test_the_check_kills_a_wrong_rise(monkeypatch: pytest.MonkeyPatch, mutant: sympy.Expr) -> None:
    monkeypatch.setattr(module, "RISE", mutant)
    assert fails_without("the formula", low_dimensional_lines(), check_expected_rise).run().holds
