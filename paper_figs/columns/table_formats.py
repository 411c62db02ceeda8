"""How a table is written: Markdown, LaTeX (booktabs) and CSV; see `tabular` for what stands in them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from paper_figs.columns.tabular import NOTHING, PARTED, SUPERSCRIPTS, Column, Table, row_name

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
    powers = re.sub(f"[{RAISED}]+", lambda found: f"\0{found[0].translate(LOWERED)}\0", text)
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
