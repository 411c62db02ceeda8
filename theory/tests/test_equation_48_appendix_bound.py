import pytest
import sympy

from theory.claims import equation_48_appendix_bound as module
from theory.claims.corollary_3_9_gaussian_gap import bound_at
from theory.claims.equation_48_appendix_bound import (
    EQUATION_48,
    EQUATION_50,
    READ_KINDLY,
    STATEMENT,
    check_kind_reading,
)
from theory.proof.notation import Delta
from theory.proof.statement import Evidence
from theory.proof.strategies import admissible
from theory.proof.testing import every_evidence, finds_violation, require

ONE = sympy.Integer(1)


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize(("formula", "expected"), [(EQUATION_48, 0.15343), (EQUATION_50, 0.15343), (READ_KINDLY, 0.0)])
def test_values_at_zero(formula: sympy.Expr, expected: float) -> None:
    assert float(bound_at(formula, [ONE], sympy.Integer(0), ONE, 1)) == pytest.approx(expected, abs=5e-6)  # 5 digits


def test_both_readings_keep_the_last_term() -> None:
    for formula in (EQUATION_48, EQUATION_50, READ_KINDLY):
        with_bias, without = (bound_at(formula, [ONE, 3 * ONE], bias * ONE, 2 * ONE, 5) for bias in (7, 0))
        assert sympy.simplify(with_bias - without) == sympy.Rational(3 * 7 * 4, 2 * 25)


@pytest.mark.parametrize("mutant", [EQUATION_48, -READ_KINDLY, READ_KINDLY.subs(Delta, 0)])
def test_the_check_kills_mutants(mutant: sympy.Expr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_KINDLY", mutant)
    assert finds_violation(admissible(), check_kind_reading)
