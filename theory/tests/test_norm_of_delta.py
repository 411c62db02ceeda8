import numpy as np
import pytest
import sympy

from theory.claims.norm_of_delta import FROBENIUS_WORST, SPECTRAL_WORST, STATEMENT, Ball, balls, check_balls
from theory.model.worst_case import worst_case_divergence
from theory.proof.notation import d, eta
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require

PLANE = Ball(np.eye(2), np.zeros(2), -np.eye(2))


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_both_worst_cases_at_the_example() -> None:
    values = {eta: sympy.Rational(1, 2), d: 2}
    assert float(FROBENIUS_WORST.subs(values)) == pytest.approx(0.0966, abs=5e-5)  # four digits are given
    assert float(SPECTRAL_WORST.subs(values)) == pytest.approx(0.1931, abs=5e-5)
    assert PLANE.frobenius_worst(1.0) == pytest.approx(float(FROBENIUS_WORST.subs(values)), rel=1e-14)  # roundings
    assert PLANE.spectral_worst(1.0) == pytest.approx(float(SPECTRAL_WORST.subs(values)), rel=1e-14)


@pytest.mark.parametrize(("norm", "method"), [("frobenius", "frobenius_worst"), ("spectral", "spectral_worst")])
def test_agreement_with_the_exact_worst_case(norm: str, method: str) -> None:
    instance = Ball(np.array([[2.0, 1.0, 0.0], [0.0, 1.0, -1.0]]), np.zeros(3), np.zeros((2, 3)))
    expected = worst_case_divergence(instance.W, instance.b, 0.7, norm=norm).value
    assert getattr(instance, method)(0.7) == pytest.approx(expected, rel=1e-12)  # roundings


@pytest.mark.parametrize("name", ["frobenius_worst", "spectral_worst"])
def test_the_check_kills_a_norm_that_is_halved(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(Ball, name)
    monkeypatch.setattr(Ball, name, lambda self, norm: original(self, norm / 2))
    assert finds_violation(balls(), check_balls)
