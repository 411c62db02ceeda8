import numpy as np
import pytest
import sympy

from theory.claims import theorem_3_3_activation as module
from theory.claims.theorem_3_3_activation import LINEAR_KL, PRINTED_FIELD, STATEMENT, TRUE_KL, activated, check_step
from theory.model.perturbed_density import perturbed_density
from theory.proof.statement import Evidence, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize(("value", "expected"), [(TRUE_KL, 0.09165), (LINEAR_KL, 0.15343)], ids=["relu", "linear"])
def test_both_divergences(value: sympy.Expr, expected: float) -> None:
    assert float(value) == pytest.approx(expected, abs=5e-6)  # five digits are given


def test_far_out_relu_is_linear() -> None:
    """The condition named: where p reaches positive pre-activations alone, up to 1e-15 of its mass, the claim holds."""
    one, bias = np.full((1, 1), 0.5), np.array([8.0])
    relu, linear = (perturbed_density(one, one, bias, name).kl for name in ("relu", "linear"))
    assert relu.value == pytest.approx(linear.value, rel=1e-9)  # ten digits are asked of the quadrature


@pytest.mark.parametrize("mutant", [-PRINTED_FIELD, 2 * PRINTED_FIELD], ids=["flipped", "doubled"])
def test_the_check_kills_a_wrong_field(mutant: sympy.MatrixExpr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRINTED_FIELD", mutant)
    assert fails_without("the right field", activated(("linear",)), check_step).run().holds
