from fractions import Fraction

import pytest

from theory.claims.section_4_2_printed_fid import STATEMENTS, WITH_EMA, ratios
from theory.proof import printed
from theory.proof.printed import AVERAGES, CELLS, METHODS, Cell, counted, exceptions, fid, outcomes
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, require


@every_evidence(*STATEMENTS)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_numbers_are_exact() -> None:
    assert fid(Cell("cifar10", 20), "adm") == Fraction(3447, 100)
    assert fid(Cell("lsun-tower", 20), "sam") == Fraction(1602, 100)
    assert fid(Cell("ffhq", 100), "ip") == Fraction(1355, 100)
    rows = [fid(cell, method + average) for cell in CELLS for method in METHODS for average in AVERAGES]
    assert len(rows) == 54
    assert all(isinstance(row, Fraction) and (100 * row).denominator == 1 for row in rows)


def test_a_wrong_count_is_noticed() -> None:
    assert counted("EMA", WITH_EMA, 18).holds()
    assert not counted("EMA", WITH_EMA, 17).holds()
    assert not counted("the other way", [(worse, better) for better, worse in WITH_EMA], 18).holds()


@pytest.fixture
def one_number_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """CIFAR-10 at 20 steps: EMA misprinted as 35."""

    def changed(cell: Cell, row: str) -> Fraction:
        return Fraction(35) if (cell, row) == (Cell("cifar10", 20), "adm+ema") else fid(cell, row)

    monkeypatch.setattr(printed, "fid", changed)


@pytest.mark.usefixtures("one_number_changed")
def test_counts_follow_the_numbers() -> None:
    assert not counted("EMA", WITH_EMA, 18).holds()
    assert "adm+ema 35.00 against adm 34.47, CIFAR-10 at 20" in exceptions(outcomes(WITH_EMA))


def test_ratios_by_hand() -> None:
    assert [round(float(ratio), 2) for ratio in ratios("ip", "", 100)] == [1.89, 1.46, 2.56]
    assert [round(float(ratio), 2) for ratio in ratios("ip", "+ema", 100)] == [1.09, 1.06, 0.79]
    assert [round(float(ratio), 2) for ratio in ratios("ip", "+swa", 100)] == [1.04, 1.03, 0.85]
    few, many = ([ratio for a in AVERAGES for ratio in ratios("adm", a, steps)] for steps in (20, 100))
    assert [round(float(one), 2) for one in (min(few), max(few), min(many), max(many))] == [1.18, 3.83, 1.02, 2.30]
