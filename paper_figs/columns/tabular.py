"""Tables of numbers from several sources side by side, and how their numbers are rounded and shown.

A column belongs to a group, which is a source: the paper, the toy study, a study of trained networks. A number with an
interval is rounded to two significant digits of half the interval's width, in all three formats; one without is written
with the decimals that its source prints. The data beside a table (`.json`) hold all digits.

The CSV (RFC 4180, UTF-8, lines end with \r\n) has one header line and one line a method, so that any reader takes it:

    method                first column: "adm", "adm+ema", ..., "sam rho=0.01+ema"
    GROUP: HEADING        a number for each method, empty where there is none; no group's name contains ": "
    GROUP: HEADING low    directly after it, where the column has intervals: their ends
    GROUP: HEADING high

Numbers in it are plain and in the unit of the heading. Markdown and LaTeX have the sources below each other, and take
out a power of ten where all of a column are small. What a group is in full, what its intervals are, and what is missing
and why, stands under the table in Markdown, in LaTeX's caption, and in the data's "groups" and "notes".

How a table is written: Markdown, LaTeX (booktabs) and CSV; see `tabular` for what stands in them.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from findings.estimates import decimals_of, exponent, fixed

WITHOUT_ERROR = 4
"""Significant digits of a number that has neither an error nor printed decimals."""
SMALL = -2
"""Powers of ten of a column's largest number below which one is taken out, a multiple of three."""
NOTHING = "–"
PARTED = ": "
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Cell:
    """One number, or why it is missing.

    Args:
        value: None where it is missing.
        low, high: the ends of its interval, or None.
        missing: the reason, where there is one to tell.

    Raises:
        ValueError: a number is not finite, or the value lies outside its interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    missing: str = ""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                raise ValueError(f"{name} is {number}; allowed: finite numbers, or None")
        if (self.low is None) != (self.high is None):
            raise ValueError(f"low is {self.low} and high {self.high}; allowed: both or neither")
        if self.value is not None and self.low is not None and self.high is not None:
            slack = 1e-9 * max(abs(self.low), abs(self.high))  # ends are computed from the value, and rounded
            if not self.low - slack <= self.value <= self.high + slack:
                raise ValueError(f"value is {self.value}; allowed: in its interval, {self.low} to {self.high}")

    @property
    def error(self) -> float | None:
        """Half the interval's width; None where there is no interval, or one without width."""
        if self.low is None or self.high is None or not self.high > self.low:
            return None
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Column:
    """One quantity from one source.

    Args:
        group: a key of the table's `groups`.
        heading: the quantity, with its unit where it has one.
        cells: by row.
        decimals: of numbers without an interval; None for WITHOUT_ERROR significant digits.
        signed: whether positive numbers are written with their sign, as changes are.
    """

    group: str
    heading: str
    cells: Mapping[str, Cell]
    decimals: int | None = None
    signed: bool = False

    @property
    def power(self) -> int:
        """The power of ten that is taken out: zero, or a negative multiple of three."""
        numbers = [c.value for c in self.cells.values()] + [c.error for c in self.cells.values()]
        largest = max((abs(number) for number in numbers if number), default=1.0)
        exponent = math.floor(math.log10(largest))
        return 0 if exponent >= SMALL or self.decimals is not None else 3 * (exponent // 3)

    @property
    def has_intervals(self) -> bool:
        """Whether any number has one."""
        return any(cell.low is not None for cell in self.cells.values())

    @property
    def label(self) -> str:
        """The heading with the power of ten that is taken out."""
        return f"{self.heading}, 10{str(self.power).translate(SUPERSCRIPTS)}" if self.power else self.heading

    def shown(self, row: str) -> str:
        """The number as people read it, in units of 10^power: "0.683 ± 0.012"; NOTHING where it is missing."""
        cell = self.cells.get(row)
        if cell is None or cell.value is None:
            return NOTHING
        value, error = fixed(cell.value, self._digits(cell), self.power, self.signed), cell.error
        return value if error is None else f"{value} ± {fixed(error, self._digits(cell), self.power)}"

    def plain(self, row: str) -> tuple[str, str, str]:
        """The number and its interval's ends as machines read them; "" for what is missing."""
        cell = self.cells.get(row)
        if cell is None or cell.value is None:
            return "", "", ""
        digits = self._digits(cell)
        value, low, high = ("" if x is None else fixed(x, digits) for x in (cell.value, cell.low, cell.high))
        return value, low, high

    def _digits(self, cell: Cell) -> int:
        """Decimals of a cell's number, whatever power is taken out."""
        if cell.error is not None:
            return decimals_of(cell.error)
        if self.decimals is not None:
            return self.decimals
        return WITHOUT_ERROR - 1 - exponent(cell.value, WITHOUT_ERROR) if cell.value else 0


@dataclass(frozen=True)
class Table:
    """Numbers by method and quantity.

    Args:
        title: one line.
        rows: labels, from the top down.
        columns: those of a group beside each other.
        groups: what each group is in full, and what its intervals are.
        notes: sentences under the table.

    Raises:
        ValueError: a column's group is unknown, or contains ": "; two columns cannot be told apart; a cell belongs to
            no row; or a group's columns do not stand beside each other.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    groups: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that what belongs together is there."""
        names = [(column.group, column.heading) for column in self.columns]
        if len(set(names)) < len(names):
            raise ValueError(f"columns are {names}; allowed: each once")
        for column in self.columns:
            if column.group not in self.groups or PARTED in column.group:
                raise ValueError(f"group is {column.group!r}; allowed: one of {list(self.groups)}, without {PARTED!r}")
            unknown = [row for row in column.cells if row not in self.rows]
            if unknown:
                raise ValueError(f"cells of {column.heading!r} are of the rows {unknown}; allowed: {self.rows}")
        runs = [name for name, _, _ in self.parts()]
        if len(set(runs)) < len(runs):
            raise ValueError(f"groups of the columns are {runs}; allowed: each in one run")

    def parts(self) -> list[tuple[str, tuple[Column, ...], tuple[str, ...]]]:
        """Each group that has columns, with them and with the rows that they have a cell in."""
        parts = []
        for group, run in groupby(self.columns, key=lambda column: column.group):
            columns = tuple(run)
            rows = tuple(row for row in self.rows if any(row in column.cells for column in columns))
            parts.append((group, columns, rows))
        return parts

    def explained(self) -> list[str]:
        """What has to be said under the table: the groups, the notes, and why numbers are missing."""
        named = [f"{name}: {words}" for name, words in self.groups.items()]
        reasons = [
            why(column.group, column.heading, row, cell.missing)
            for column in self.columns
            for row, cell in column.cells.items()
            if cell.missing
        ]
        return list(dict.fromkeys([*named, *self.notes, *reasons]))


def why(group: str, heading: str, row: str, missing: str) -> str:
    """The sentence that says why a number is missing."""
    return f"{group}, {heading}, {row_name(row)}: {missing}"


def from_data(title: str, data: Mapping[str, Any]) -> Table:
    """The table of a module's data: "rows", "columns" (each the arguments of Column), "groups" and "notes"."""
    columns = []
    for column in data["columns"].values():
        cells = {row: Cell(**cell) for row, cell in column["cells"].items()}
        if cells:
            columns.append(Column(column["group"], column["heading"], cells, column["decimals"], column["signed"]))
    return Table(title, tuple(data["rows"]), tuple(columns), data["groups"], tuple(data["notes"]))


def number(cell: Mapping[str, Any]) -> str:
    """One cell's data as people read it."""
    return Column("", "", {"": Cell(**cell)}).shown("")


def row_name(row: str) -> str:
    """A row's label for people: "SAM+EMA", "SAM ρ=0.01+EMA"."""
    return row.upper().replace("RHO=", "ρ=")


LATEX = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "ρ": r"$\rho$",
    "σ": r"$\sigma$",
    "ε": r"$\varepsilon$",
    "–": "--",
    "é": r"\'{e}",
    "→": r"$\to$",
}
"""Characters that mean something else to LaTeX, or that it has only in mathematics."""
RAISED = "".join(map(chr, SUPERSCRIPTS.values()))
LOWERED = {raised: character for character, raised in SUPERSCRIPTS.items()}


def markdown(table: Table) -> str:
    """The title, a part for each source, and what explains them, as GitHub reads it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [f"### {table.title}", ""]
    for group, columns, rows in table.parts():
        lines += [line([group, *(column.label for column in columns)]), "|:---|" + "---:|" * len(columns)]
        lines += [line([row_name(row), *(column.shown(row) for column in columns)]) for row in rows]
        lines.append("")
    return "\n".join([*lines, *(f"- {sentence}" for sentence in table.explained())]) + "\n"


def latex(table: Table, label: str) -> str:
    """A table that floats across both columns, for booktabs and graphicx.

    Each source is a part; parts that fit beside each other stand there, as words in a centred paragraph.

    Raises:
        ValueError: a text has a character that LaTeX's standard fonts lack.
    """
    caption = " ".join(sentence.rstrip(".") + "." for sentence in (table.title, *table.explained()))
    lines = [
        r"% needs \usepackage{booktabs} and \usepackage{graphicx}",
        r"\begin{table*}",
        r"\centering\footnotesize\lineskip=\medskipamount",
        rf"\caption{{{escaped(caption)}}}",
        rf"\label{{tab:{label}}}",
        r"\par\medskip",
        *(line for part in table.parts() for line in _tabular(*part)),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _tabular(group: str, columns: Sequence[Column], rows: Sequence[str]) -> list[str]:
    """One source's part, shrunk where it is wider than the text."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cells) + r" \\"

    return [
        r"\resizebox{\ifdim\width>\textwidth \textwidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}[t]{{l{'r' * len(columns)}}}",
        r"\toprule",
        line([escaped(group), *(escaped(column.label) for column in columns)]),
        r"\midrule",
        *(line([escaped(row_name(row)), *(_in_latex(column.shown(row)) for column in columns)]) for row in rows),
        r"\bottomrule",
        r"\end{tabular}}",
    ]


def _in_latex(shown: str) -> str:
    if shown == NOTHING:
        return escaped(NOTHING)
    return "$" + shown.replace("±", r"\pm") + "$"


def escaped(text: str) -> str:
    """A text as LaTeX sets it; what stands between backquotes, as a command.

    Raises:
        ValueError: it has a character beyond ASCII that LATEX does not name.
    """
    unknown = [character for character in text if not character.isascii() and character not in (*LATEX, *RAISED)]
    if unknown:
        raise ValueError(f"text has {unknown[0]!r} ({text!r}); allowed: ASCII and {''.join(LATEX)}{RAISED}")
    powers = re.sub(f"[{RAISED}]+", lambda power: f"\0{power[0].translate(LOWERED)}\0", text)
    parts = []
    for place, part in enumerate(powers.split("\0")):
        plain = "".join(LATEX.get(character, character) for character in part)
        parts.append(f"$^{{{plain}}}$" if place % 2 else plain)
    words = "".join(parts).split("`")
    words[1::2] = [rf"\texttt{{{word.replace('--', '-{}-')}}}" for word in words[1::2]]
    return "".join(words)


def comma_separated(table: Table) -> str:
    """The CSV that `tabular` describes, all sources side by side."""
    heads, cells = ["method"], {row: [row] for row in table.rows}
    for column in table.columns:
        name, width = f"{column.group}{PARTED}{column.heading}", 3 if column.has_intervals else 1
        heads += [name, f"{name} low", f"{name} high"][:width]
        for row in table.rows:
            cells[row] += column.plain(row)[:width]
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([heads, *cells.values()])
    return stream.getvalue()
