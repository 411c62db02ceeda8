import numpy as np
import pytest
import sympy

from theory.claims import corollary_3_4_perturbed_noise as module
from theory.claims.corollary_3_4_perturbed_noise import (
    CORRECTED_MEAN,
    COVARIANCE,
    EXPONENT,
    ONES,
    PRINTED_MEAN,
    STATEMENT,
    admissible_symbols,
    arrays,
    check_corrected_mean,
    check_density,
    completed_square,
    of_perturbation,
)
from theory.model.perturbations import perturbed_noise
from theory.proof.notation import Rows, W, b, delta, exactly, numerically
from theory.proof.statement import Evidence
from theory.proof.strategies import Perturbed, admissible
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize(("mean", "expected"), [(PRINTED_MEAN, "1/2"), (CORRECTED_MEAN, "-1/2")])
def test_both_means_at_ones(mean: sympy.Basic, expected: str) -> None:
    assert exactly(of_perturbation(mean), ONES)[0] == sympy.Rational(expected)


def test_the_general_admissible_perturbation_is_admissible() -> None:
    matrices = admissible_symbols(2, 2)
    product = exactly(delta * W.T, matrices)
    assert sympy.simplify(product - product.T) == sympy.zeros(2, 2)
    assert len(set().union(*(entry.free_symbols for row in matrices[delta] for entry in row))) == 3 + 4  # 3 of delta


def test_numerical_formulas_agree_with_exact_ones_and_with_perturbed_noise() -> None:
    rationals: dict[sympy.MatrixSymbol, Rows] = {delta: [["1/2", 1], [1, "5/2"]], W: [[2, 0], [0, 2]], b: [[1], [3]]}
    instance = Perturbed(2 * np.eye(2), np.array([1.0, 3.0]), np.array([[0.5, 1.0], [1.0, 2.5]]))
    noise = perturbed_noise(instance.delta, instance.W, instance.b)
    for formula, expected in ((CORRECTED_MEAN, noise.mean[:, None]), (COVARIANCE, noise.covariance)):
        value = numerically(of_perturbation(formula), arrays(instance))
        exact = np.array(exactly(of_perturbation(formula), rationals)).astype(np.float64)
        np.testing.assert_allclose(value, exact, rtol=1e-13)  # a dozen roundings
        np.testing.assert_allclose(expected, exact, rtol=1e-13)


@pytest.mark.parametrize("mean", [PRINTED_MEAN, 2 * CORRECTED_MEAN])
def test_the_square_does_not_complete_at_a_wrong_mean(mean: sympy.Basic) -> None:
    assert completed_square(mean, 1, 1) != [0]


def test_the_checks_kill_mutants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CORRECTED_MEAN", 2 * CORRECTED_MEAN)
    assert finds_violation(admissible(), check_corrected_mean)
    monkeypatch.setattr(module, "EXPONENT", EXPONENT + 3 * module.POTENTIAL)
    assert finds_violation(admissible(), check_density)
