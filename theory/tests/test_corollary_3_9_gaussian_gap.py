import numpy as np
import pytest
import sympy

from theory.claims import corollary_3_9_gaussian_gap as module
from theory.claims.corollary_3_9_gaussian_gap import (
    CORRECTED_BOUND,
    PRINTED_BOUND,
    STATEMENT,
    bound_at,
    check_corrected,
    numeric_bound,
)
from theory.proof.notation import Delta
from theory.proof.statement import Evidence
from theory.proof.strategies import admissible
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize(
    ("bound", "expected"), [(PRINTED_BOUND, 0.15907), (CORRECTED_BOUND, 0.34657)], ids=["printed", "corrected"]
)
def test_both_bounds_at_the_counterexample(bound: sympy.Expr, expected: float) -> None:
    half, one = sympy.Rational(1, 2), sympy.Integer(1)
    assert float(bound_at(bound, [half], one, half, 1)) == pytest.approx(expected, abs=5e-6)  # five digits are given


def test_numeric_bound_agrees_with_the_exact_one() -> None:
    eigenvalues = [sympy.Rational(2, 3), sympy.Rational(5, 4), sympy.Integer(3)]
    exact = bound_at(CORRECTED_BOUND, eigenvalues, sympy.Integer(7), sympy.Rational(1, 3), 5)
    numeric = numeric_bound(CORRECTED_BOUND)(np.array([np.nan, *map(float, eigenvalues)]), 3, 5, 1 / 3, 7.0)
    assert numeric == pytest.approx(float(exact), rel=1e-14)  # a few roundings


def test_the_check_kills_a_bound_without_its_mean_part(monkeypatch: pytest.MonkeyPatch) -> None:
    without_mean_part = CORRECTED_BOUND.subs(Delta, 0)
    monkeypatch.setattr(module, "CORRECTED_BOUND", without_mean_part)
    assert finds_violation(admissible(), check_corrected)
