import pytest
import sympy

from theory.claims import equation_41_divergence_direction as module
from theory.claims.corollary_3_4_perturbed_noise import ONES, of_perturbation
from theory.claims.equation_41_divergence_direction import (
    EQUATION_42,
    STATEMENT,
    check_direction,
    divergences_by_expectation,
)
from theory.proof.notation import Entry, exactly, mu_delta
from theory.proof.statement import Evidence
from theory.proof.strategies import admissible
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_both_directions_at_ones() -> None:
    mean, covariance = sympy.Symbol("mu_1", real=True), sympy.Symbol("s_1", positive=True)
    values = {mean: sympy.Rational(-1, 2), covariance: sympy.Rational(1, 2)}
    both = {name: float(value.subs(values)) for name, value in divergences_by_expectation(1).items()}
    assert both["kl"] == pytest.approx(0.40343, abs=5e-6)  # five digits are given
    assert both["reverse_kl"] == pytest.approx(0.22157, abs=5e-6)
    assert float(exactly(of_perturbation(EQUATION_42), ONES)) == pytest.approx(both["kl"], rel=1e-14)  # roundings


@pytest.mark.parametrize(
    "mutant", [-EQUATION_42, EQUATION_42 - Entry(mu_delta.T * mu_delta) / 2], ids=["sign", "mean part"]
)
def test_the_check_kills_mutants(mutant: sympy.Expr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EQUATION_42", mutant)
    assert finds_violation(admissible(), check_direction)
