"""Numbers rounded by their error, and the same table in three formats."""

import csv
import io
import itertools
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper_figs.columns.tabular import (
    NOTHING,
    Cell,
    Column,
    Table,
    comma_separated,
    escaped,
    fixed,
    from_data,
    latex,
    markdown,
    number,
)
from tests.paper_figs.table_checks import latex_flaws, markdown_flaws


def _column(*cells: Cell, **options: Any) -> Column:
    return Column("g", "x", {f"row {place}": cell for place, cell in enumerate(cells)}, **options)


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (0.068368, 0.0069886, "0.0684 ± 0.0070"),
        (0.068368, 0.0099999, "0.068 ± 0.010"),  # rounded to two digits the error is of the next power
        (65.59, 1.2097, "65.6 ± 1.2"),
        (65.59, 12.097, "66 ± 12"),
        (6559.2, 123.4, "6560 ± 120"),
        (-0.0002, 0.05, "0.000 ± 0.050"),  # no negative zero
        (-0.2, 0.05, "-0.200 ± 0.050"),
    ],
)
def test_two_digits_of_the_error(value: float, half: float, shown: str) -> None:
    assert number({"value": value, "low": value - half, "high": value + half}) == shown


@pytest.mark.parametrize(
    ("value", "decimals", "shown"), [(7.2, 2, "7.20"), (11, 2, "11.00"), (0.0631, None, "0.06310"), (0, None, "0")]
)
def test_without_error_the_decimals_are_those_printed(value: float, decimals: int | None, shown: str) -> None:
    assert _column(Cell(value), decimals=decimals).shown("row 0") == shown


def test_changes_have_a_sign() -> None:
    column = _column(Cell(0.19), Cell(-0.07), Cell(0.0), decimals=2, signed=True)
    assert [column.shown(row) for row in column.cells] == ["+0.19", "-0.07", "0.00"]
    assert column.plain("row 0")[0] == "0.19"


def test_a_power_is_taken_out_of_small_numbers_and_left_in_for_machines() -> None:
    column = _column(Cell(8.2e-4, 1.4e-4, 15e-4), Cell(7.6e-5, -1e-5, 16.2e-5))
    assert column.power == -6
    assert column.label == "x, 10⁻⁶"
    assert [column.shown(row) for row in column.cells] == ["820 ± 680", "76 ± 86"]
    assert column.plain("row 0") == ("0.00082", "0.00014", "0.00150")
    assert _column(Cell(0.01)).power == 0
    assert _column(Cell(0.009)).power == -3
    assert _column(Cell(0.001), decimals=3).power == 0  # as printed
    assert _column(Cell(0.0), Cell(None)).power == 0


@given(
    st.floats(-1e6, 1e6, allow_subnormal=False),
    st.floats(1e-9, 1e6),
    st.integers(-4, 4),
)
def test_what_is_written_is_within_a_twentieth_of_the_error(value: float, half: float, scale: int) -> None:
    """Two digits of the error: what rounding adds is at most half a unit of its second digit, a twentieth of it."""
    half *= 10.0**scale
    column = _column(Cell(value, value - half, value + half))
    cell = column.cells["row 0"]
    if cell.error is None:  # swallowed by the value's own rounding
        return
    slack = 0.05 * cell.error + 1e-9 * abs(value)
    mean, low, high = map(float, column.plain("row 0"))
    assert abs(mean - value) <= slack
    assert abs(low - (value - half)) <= slack
    assert abs(high - (value + half)) <= slack
    shown, _, error = column.shown("row 0").partition(" ± ")
    assert abs(float(shown) * 10.0**column.power - value) <= slack
    assert float(error) * 10.0**column.power == pytest.approx(cell.error, rel=0.051)
    assert len(error.replace(".", "").strip("0")) <= 2


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ({"value": float("nan")}, "value is nan"),
        ({"value": 1.0, "low": 0.5}, "low is 0.5 and high None"),
        ({"value": 1.0, "low": 1.1, "high": 2.0}, "value is 1.0"),
        ({"value": 1.0, "low": 0.0, "high": float("inf")}, "high is inf"),
    ],
)
def test_impossible_cells_are_refused(cell: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=f"{named}.*allowed"):
        Cell(**cell)  # type: ignore[arg-type]


def _table(**changes: Any) -> Table:
    columns = (
        Column("paper, A & B", "FID", {"adm": Cell(34.47), "sam": Cell(9.01)}, decimals=2),
        Column("paper, A & B", "change, 50%", {"adm": Cell(13.55)}, decimals=2, signed=True),
        Column("toy", "rise_1", {"adm": Cell(2e-4, 1e-4, 3e-4), "sam rho=0.01+ema": Cell(None, missing="no memory")}),
    )
    whole = {
        "title": "A table",
        "rows": ("adm", "sam", "sam rho=0.01+ema"),
        "columns": columns,
        "groups": {"paper, A & B": "Table 9", "toy": "`make it --all`; ± half an interval"},
        "notes": ("A note.",),
    }
    return Table(**(whole | changes))


def test_markdown() -> None:
    text = markdown(_table())
    assert text.splitlines() == [
        "### A table",
        "",
        "| paper, A & B | FID | change, 50% |",
        "|:---|---:|---:|",
        "| ADM | 34.47 | +13.55 |",
        "| SAM | 9.01 | – |",
        "",
        "| toy | rise_1, 10⁻⁶ |",
        "|:---|---:|",
        "| ADM | 200 ± 100 |",
        "| SAM ρ=0.01+EMA | – |",
        "",
        "- paper, A & B: Table 9",
        "- toy: `make it --all`; ± half an interval",
        "- A note.",
        "- toy, rise_1, SAM ρ=0.01+EMA: no memory",
    ]
    assert markdown_flaws(text) == []
    assert markdown_flaws(text.replace("9.01 |", "9.01")) != []


def test_latex() -> None:
    text = latex(_table(), "a_table")
    assert latex_flaws(text) == []
    assert r"\label{tab:a_table}" in text
    for line in (
        r"paper, A \& B & FID & change, 50\% \\",
        r"ADM & $34.47$ & $+13.55$ \\",
        r"SAM & $9.01$ & -- \\",
        r"toy & rise\_1, 10$^{-6}$ \\",
        r"ADM & $200 \pm 100$ \\",
        r"SAM $\rho$=0.01+EMA & -- \\",
    ):
        assert line in text.splitlines()
    (caption,) = [line for line in text.splitlines() if line.startswith(r"\caption")]
    assert r"paper, A \& B: Table 9." in caption
    assert r"\texttt{make it -{}-all}; $\pm$ half an interval." in caption
    assert "A note. " in caption  # and not two full stops


@pytest.mark.parametrize(
    ("old", "new", "flaw"),
    [
        (r"\end{table*}", "", "table* is left open"),
        (r"\end{tabular}}", r"\end{tabular}", "braces do not pair"),
        (r" & FID &", r" &", "has no room for"),
        (r"A \& B & FID", r"A & B & FID", "has no room for"),
        (r"9.01$ & -- \\", r"9.01$ & --", "no end of the row"),
        (r"50\%", "50%", "its own"),
        (r"rise\_1", "rise_1", "index"),
        (r"$9.01$", "$9.01", "left open"),
        (r"\midrule", r"\hline", "booktabs"),
    ],
)
def test_flaws_of_latex_are_found(old: str, new: str, flaw: str) -> None:
    text = latex(_table(), "a_table")
    assert old in text
    assert any(flaw in flaw_found for flaw_found in latex_flaws(text.replace(old, new, 1)))


def test_every_character_is_escaped_or_refused() -> None:
    assert escaped("a_b & 5% #1 $x$ {y} ~z^2 \\w") == (
        r"a\_b \& 5\% \#1 \$x\$ \{y\} \textasciitilde{}z\textasciicircum{}2 \textbackslash{}w"
    )
    assert escaped("10⁻¹² × ρ") == r"10$^{-12}$ $\times$ $\rho$"
    body = rf"\caption{{{escaped(string.punctuation.replace('`', '') + string.ascii_letters)}}}"
    assert latex_flaws(body) == []
    with pytest.raises(ValueError, match=r"text has '漢'.*allowed"):
        escaped("漢")


def test_csv() -> None:
    text = comma_separated(_table())
    assert "\r\n" in text
    header, *lines = list(csv.reader(io.StringIO(text, newline="")))
    assert header == [
        "method",
        "paper, A & B: FID",
        "paper, A & B: change, 50%",
        "toy: rise_1",
        "toy: rise_1 low",
        "toy: rise_1 high",
    ]
    assert lines == [
        ["adm", "34.47", "13.55", "0.00020", "0.00010", "0.00030"],
        ["sam", "9.01", "", "", "", ""],
        ["sam rho=0.01+ema", "", "", "", "", ""],
    ]


def test_tables_that_do_not_fit_together_are_refused() -> None:
    paper, change, toy = _table().columns
    for columns, named in (
        ((paper, paper), "each once"),
        ((paper, toy, change), "each in one run"),
        ((Column("other", "x", {}),), "group is 'other'"),
        ((Column("toy", "x", {"ip": Cell(1.0)}),), "rows \\['ip'\\]"),
    ):
        with pytest.raises(ValueError, match=f"{named}|allowed: {named}"):
            _table(columns=columns)
    with pytest.raises(ValueError, match="without ': '"):
        _table(columns=(Column("a: b", "x", {}),), groups={"a: b": ""})


def test_columns_without_any_number_are_left_out() -> None:
    column = {"group": "toy", "heading": "x", "decimals": None, "signed": False}
    data = {
        "rows": ["adm"],
        "columns": {"a": {**column, "cells": {"adm": {"value": 1.0}}}, "b": {**column, "heading": "y", "cells": {}}},
        "groups": {"toy": ""},
        "notes": [],
    }
    assert [one.heading for one in from_data("t", data).columns] == ["x"]


def test_fixed_never_writes_a_negative_zero() -> None:
    for value, digits, power in itertools.product((-1e-9, -0.0, -0.004), (0, 1, 2), (0, -3)):
        assert not fixed(value, digits, power).startswith("-")
    assert NOTHING not in fixed(-1.0, 2)
