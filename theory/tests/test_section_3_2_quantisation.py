import numpy as np
import pytest

from theory.claims.section_3_2_quantisation import REACH, STATEMENT, check_kappa
from theory.claims.theorem_t5_quantisation import q
from theory.proof.empirical import quantised
from theory.proof.notation import d, m
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_reach_is_that_of_the_worst_errors() -> None:
    errors = np.full((3, 4), 0.25)
    assert float(REACH.subs({q: 0.5, d: 3, m: 4})) == pytest.approx(np.linalg.norm(errors))


def test_rounding_elsewhere_than_at_a_minimum_is_noticed() -> None:
    assert finds_violation(quantised(shape=(5, 8)), check_kappa)
