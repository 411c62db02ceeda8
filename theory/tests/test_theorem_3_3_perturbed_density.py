import numpy as np
import pytest
import sympy

from theory.claims import theorem_3_3_perturbed_density as module
from theory.claims.theorem_3_3_perturbed_density import (
    POTENTIAL,
    PRINTED_POTENTIAL,
    STATEMENT,
    C,
    at_points,
    check_density,
    check_losses,
    gradient,
)
from theory.proof import notation
from theory.proof.notation import W, b, delta, m, numeric, x
from theory.proof.statement import Evidence, InstanceCheck, fails_without
from theory.proof.strategies import admissible
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_both_potentials_at_a_point() -> None:
    # x = (2, 1), delta W^T = [[2, 1], [0, -1]], delta b = (3, -3), C = 1/2: x^T delta W^T x / 2 = 9/2 and
    # x^T delta b = 3; over m = 2 both halve.
    rows: list[list[list[int]]] = [[[2], [1]], [[1, 1], [1, -1]], [[1, 1], [0, 1]], [[0], [3]]]
    values = dict(zip((x, delta, W, b), rows, strict=True)) | {C: [[sympy.Rational(1, 2)]]}
    assert notation.at(POTENTIAL, values)[0] == sympy.Rational(17, 4)
    assert notation.at(PRINTED_POTENTIAL, values)[0] == 8


def test_numeric_gradient_agrees_with_the_exact_one() -> None:
    rows: list[list[list[int]]] = [[[1], [2]], [[1, 1, 0], [1, -1, 4]], [[1, 1, 2], [0, 1, 5]], [[0], [3], [1]]]
    exact = notation.at(gradient(POTENTIAL), dict(zip((x, delta, W, b), rows, strict=True)))
    arrays = [np.array(value, float) for value in rows]
    value = numeric(gradient(POTENTIAL), x, delta, W, b, m)(*arrays, 3)
    np.testing.assert_allclose(value, np.array(exact, float), rtol=1e-14)  # a few roundings


@pytest.mark.parametrize(
    "mutant",
    [-(POTENTIAL - C) + C, POTENTIAL - x.T * delta * b / m, POTENTIAL - x.T * delta * W.T * x / (2 * m)],
    ids=["sign flipped", "without the mean's part", "without the quadratic part"],
)
@pytest.mark.parametrize("check", [check_losses, check_density])
def test_the_checks_kill_a_wrong_potential(
    monkeypatch: pytest.MonkeyPatch, mutant: sympy.MatrixExpr, check: InstanceCheck
) -> None:
    monkeypatch.setattr(module, "POTENTIAL", mutant.doit())
    assert fails_without("the potential", at_points(admissible()), check).run().holds
