import numpy as np
import pytest
import sympy

from theory.claims import corollary_3_9_first_line as module
from theory.claims.corollary_3_4_perturbed_noise import ONES, of_perturbation
from theory.claims.corollary_3_9_first_line import (
    BRACKET,
    STATEMENT,
    bracket_of,
    check_bracket,
    check_two_divergences,
    divergence_of_weight,
    expected_under_noise,
)
from theory.proof.notation import Entry, exactly, mu_delta
from theory.proof.statement import Evidence
from theory.proof.strategies import Perturbed, admissible
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_bracket_at_ones() -> None:
    value = exactly(of_perturbation(BRACKET), ONES)
    assert value == (sympy.Rational(3, 2) - sympy.log(2)) / 2
    assert float(value) == pytest.approx(0.40343, abs=5e-6)  # five digits are given
    ones = Perturbed(np.ones((1, 1)), np.ones(1), np.ones((1, 1)))
    assert bracket_of(ones) == pytest.approx(float(value), rel=1e-14)  # a few roundings
    assert divergence_of_weight(ones) == pytest.approx(float(value), rel=1e-14)


def test_expectation_under_noise() -> None:
    first, second = sympy.symbols("x_1:3")
    assert expected_under_noise(3 * first**4 * second**2 + first * second**2 + 5, (first, second)) == 14


def test_beyond_the_edge_the_divergence_is_infinite() -> None:
    assert divergence_of_weight(Perturbed(np.ones((1, 1)), np.zeros(1), -np.ones((1, 1)))) == np.inf


@pytest.mark.parametrize("check", [check_bracket, check_two_divergences])
@pytest.mark.parametrize(
    "mutant", [-BRACKET, BRACKET - 2 * Entry(mu_delta.T * mu_delta), BRACKET + 1], ids=["sign", "mean part", "constant"]
)
def test_the_checks_kill_mutants(check: object, mutant: sympy.Expr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BRACKET", mutant)
    assert finds_violation(admissible(), check)  # type: ignore[arg-type]
