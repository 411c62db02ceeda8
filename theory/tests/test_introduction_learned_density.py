import numpy as np
import pytest

from theory.claims.introduction_learned_density import STATEMENT, Learned, check_learned, check_sign, learned
from theory.model.perturbations import perturbed_noise
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_learned_density_in_one_dimension() -> None:
    """Score -x + x/2 + 1/4 is that of N(1/2, 2)."""
    density = Learned(np.ones((1, 1)), np.array([0.5]), np.array([[0.5]]), 0.0).density
    assert density.mean == pytest.approx([0.5])
    assert density.covariance == pytest.approx(np.array([[2.0]]))


def test_the_density_of_the_same_sign_is_another() -> None:
    instance = Learned(np.ones((1, 1)), np.array([0.5]), np.array([[0.5]]), 0.0)
    same = perturbed_noise(instance.delta, instance.W, instance.b)
    assert same.covariance != pytest.approx(instance.density.covariance)


def test_a_model_that_misses_the_score_is_noticed() -> None:
    assert finds_violation(learned(excess=0.5), check_learned)
    assert finds_violation(learned(excess=-0.001), check_sign)
