from fractions import Fraction

import pytest

from theory.claims.section_2_1_sam_and_algorithm_1 import STATEMENTS, Settings, UnsetError, algorithm_1, share_of_w_0
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, require


@every_evidence(*STATEMENTS)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def halves(w: Fraction) -> Fraction:
    return w / 2


def test_an_average_from_the_first_step_is_the_mean_of_its_models() -> None:
    """With start 0 Algorithm 1 averages what it says: w after steps 1, 3, 5."""
    w, average, _ = algorithm_1(Fraction(8), halves, 5, lambda i: Fraction(1), Settings(swa=True, c=2))
    assert w == Fraction(8, 32)
    assert average == (Fraction(4) + Fraction(1) + Fraction(1, 4)) / 3


def test_the_exponential_average_by_hand() -> None:
    settings = Settings(swa=True, ema=True, c=10**6, momentum=Fraction(1, 4), start=10**6)
    _, swa, ema = algorithm_1(Fraction(8), halves, 2, lambda i: Fraction(1), settings)
    assert ema == Fraction(3, 4) * (Fraction(3, 4) * 8 + Fraction(1, 4) * 4) + Fraction(1, 4) * 2
    assert swa == 8, "no average is due"


@pytest.mark.parametrize(("start", "share"), [(0, 0), (100, Fraction(1, 2)), (1_800, Fraction(18, 20))])
def test_what_is_left_of_the_first_weights(start: int, share: Fraction) -> None:
    """k_0/k_1: with a start of 100 and a cycle of 100, one of two."""
    iterations = start + 100 if start else 200
    assert share_of_w_0(start, 0, 2_000 if start == 1_800 else iterations, 100) == share
    assert share_of_w_0(start, start, iterations, 100) == 0


def test_without_a_branch_that_sets_it_the_learning_rate_is_unset() -> None:
    with pytest.raises(UnsetError):
        algorithm_1(Fraction(1), halves, 1, lambda i: Fraction(1), Settings(ema=True))
    with pytest.raises(ZeroDivisionError):
        algorithm_1(Fraction(0), halves, 1, lambda i: Fraction(1), Settings(sam=True, swa=True))
