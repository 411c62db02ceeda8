import numpy as np
import pytest
import sympy

from theory.claims import remark_3_10_flatter_is_more_robust as module
from theory.claims.remark_3_10_flatter_is_more_robust import (
    BOUND_AT_FLAT_RADIUS,
    GAP_RADIUS,
    STATEMENT,
    check_gap,
    check_rescaling,
    rescaled_models,
    scalar_model,
)
from theory.model.perturbations import flat_radius, gap_radius
from theory.proof.notation import kappa
from theory.proof.statement import Evidence
from theory.proof.strategies import admissible
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize(("formula", "expected"), [(GAP_RADIUS, 0.04727), (BOUND_AT_FLAT_RADIUS, 0.09657)])
def test_both_numbers_at_a_quarter(formula: sympy.Expr, expected: float) -> None:
    assert float(formula.subs(kappa, sympy.Rational(1, 4))) == pytest.approx(expected, abs=5e-6)  # five digits


def test_the_radii_are_those_of_the_functions() -> None:
    assert gap_radius(0.25) == pytest.approx(
        float(GAP_RADIUS.subs(kappa, sympy.Rational(1, 4))), rel=1e-14
    )  # roundings
    for weight in (1.0, 0.1):
        assert flat_radius(np.array([[weight**2]]), 0.25) == pytest.approx(0.5 / weight, rel=1e-14)


def test_scalar_model() -> None:
    rise, divergence = scalar_model(sympy.Integer(3), sympy.Rational(1, 3))
    assert rise == 1
    assert sympy.simplify(divergence - (1 - sympy.log(2)) / 2) == 0


def test_the_checks_kill_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "flat_radius", lambda moment, rise: flat_radius(moment, rise) ** 2)
    assert finds_violation(rescaled_models(), check_rescaling)
    monkeypatch.setattr(module, "gap_radius", lambda rise: gap_radius(4 * rise))
    assert finds_violation(admissible(), check_gap)
