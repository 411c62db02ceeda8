import pytest
import sympy

from theory.claims import appendix_symmetry as module
from theory.claims import corollary_3_9_first_line
from theory.claims.appendix_symmetry import STATEMENT, check_bracket, check_divergence
from theory.claims.corollary_3_4_perturbed_noise import of_perturbation
from theory.claims.corollary_3_9_first_line import BRACKET, ROTATION
from theory.proof.notation import Sigma_delta, c, d, exactly
from theory.proof.statement import Evidence, fails_without
from theory.proof.strategies import admissible
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_bracket_at_the_counterexample() -> None:
    value = exactly(of_perturbation(BRACKET), ROTATION)
    assert float(value) == pytest.approx(-0.111572, abs=5e-7)  # six digits are given


_log_determinant = sympy.log(sympy.Determinant(Sigma_delta))


@pytest.mark.parametrize(
    "mutant",
    [BRACKET - _log_determinant, 2 * BRACKET, BRACKET + d / 2],
    ids=["log |Sigma| with the other sign", "not halved", "without -d"],
)
def test_the_check_kills_a_wrong_bracket(monkeypatch: pytest.MonkeyPatch, mutant: sympy.Expr) -> None:
    monkeypatch.setattr(corollary_3_9_first_line, "BRACKET", mutant)
    assert fails_without("the formula", admissible(), check_divergence).run().holds


def test_the_check_of_the_sign_kills_a_bracket_without_its_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corollary_3_9_first_line, "BRACKET", BRACKET - sympy.Trace(Sigma_delta.inverse()) / 2)
    assert fails_without("the formula", admissible(), check_bracket).run().holds


def test_the_circulation_kills_a_field_that_is_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESIDUAL_SHIFT", c)
    evidence = next(evidence for evidence in STATEMENT.evidence if "has a potential" in evidence.shows)
    assert not evidence.run().holds
