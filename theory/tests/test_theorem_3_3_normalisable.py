import numpy as np
import pytest
import sympy

from theory.claims import theorem_3_3_normalisable as module
from theory.claims.theorem_3_3_normalisable import (
    INSIDE,
    STATEMENT,
    check_extremal,
    check_positive,
    in_ball,
    least_eigenvalue,
)
from theory.model.perturbations import NotNormalizableError, perturbed_noise
from theory.proof.notation import Delta, SpectralNorm, W, m
from theory.proof.statement import Evidence, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_least_eigenvalue_at_a_point() -> None:
    assert least_eigenvalue(2.0, 3.0, 8) == pytest.approx(0.25, rel=1e-15)  # 1 - 6/8, one rounding


def test_the_code_refuses_what_the_statement_excludes() -> None:
    one, zero = np.ones((1, 1)), np.zeros(1)
    with pytest.raises(NotNormalizableError, match="smallest eigenvalue of I \\+ delta W\\^T/m is 0"):
        perturbed_noise(-one, one, zero)
    assert perturbed_noise(-0.999 * one, one, zero).covariance[0, 0] == pytest.approx(1000, rel=1e-12)  # 1/(1 - .999)


@pytest.mark.parametrize(
    "mutant",
    [1 + Delta * SpectralNorm(W) / m, 1 - Delta * SpectralNorm(W) / m**2, 1 - Delta * SpectralNorm(W) / (2 * m)],
    ids=["sign flipped", "divided by m twice", "half as far"],
)
def test_the_checks_kill_a_wrong_least_eigenvalue(monkeypatch: pytest.MonkeyPatch, mutant: sympy.Expr) -> None:
    monkeypatch.setattr(module, "LEAST_EIGENVALUE", mutant)
    assert fails_without("the formula", in_ball(INSIDE), check_positive).run().holds
    assert fails_without("the formula", in_ball(INSIDE, extremal=True), check_extremal).run().holds


def test_the_check_of_the_extremal_kills_the_other_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_least", lambda instance: 1 + instance.radius * instance.norm / instance.m)
    assert fails_without("delta = -Delta u_1 v_1^T", in_ball(INSIDE, extremal=True), check_extremal).run().holds
