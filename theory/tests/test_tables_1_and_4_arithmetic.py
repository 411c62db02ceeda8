import pytest

from theory.claims.tables_1_and_4_arithmetic import (
    CORRECTED,
    PRINTED,
    STATEMENT,
    TABLE_4,
    WRONG,
    Row,
    equation,
    exact_sides,
    true_change,
)
from theory.proof import notation
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_changes_by_subtraction() -> None:
    changes = [round(float(row.quantised) - float(row.full_precision), 2) for row in TABLE_4]
    assert changes == [13.55, 3.98, 10.02, 3.3, -0.07, 0.19, 0.2, -0.06]
    assert [float(true_change(row)) for row in TABLE_4] == changes


def test_only_the_wrong_one_differs() -> None:
    assert [row for row in TABLE_4 if float(row.change) != float(true_change(row))] == [WRONG]


@pytest.mark.parametrize("change", ["13.65", "13.54", "-13.55", "1355"])
def test_a_wrong_change_is_noticed(change: str) -> None:
    left, right = exact_sides(equation(Row("ADM", 20, "34.47", change, "48.02")))
    assert left != right


def test_the_formulas_show_the_numbers_as_printed() -> None:
    assert notation.text(PRINTED) == "34.47 + 13.65 = 48.02"
    assert notation.text(CORRECTED) == "34.47 + 13.55 = 48.02"
