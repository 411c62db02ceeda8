"""What a written table must fulfil, whatever its numbers are."""

from __future__ import annotations

import re
from itertools import pairwise

ENVIRONMENTS = re.compile(r"\\(begin|end)\{([a-z*]+)\}")
TABULAR = re.compile(r"\\begin\{tabular\}\[t\]\{([lcr]+)\}(.*?)\\end\{tabular\}", re.DOTALL)
RULES = (r"\toprule", r"\midrule", r"\bottomrule")


def latex_flaws(text: str) -> list[str]:
    """What LaTeX would stumble over: braces, environments, mathematics and columns that do not pair."""
    flaws = []
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    bare = re.sub(r"\\[{}$&%#_]", "", "\n".join(lines))
    depths = [0]
    for character in bare:
        depths.append(depths[-1] + {"{": 1, "}": -1}.get(character, 0))
    if min(depths) < 0 or depths[-1]:
        flaws.append("braces do not pair")
    if bare.count("$") % 2:
        flaws.append("mathematics is left open")
    if "$$" in bare:
        flaws.append("displayed mathematics")
    if any(mark in bare for mark in ("%\n%", "#", "~")) or re.search(r"%(?!\n)", bare):
        flaws.append("a character that LaTeX takes for its own")
    outside = "".join(part for place, part in enumerate(bare.split("$")) if place % 2 == 0)
    if "_" in re.sub(r"\\label\{[^}]*\}", "", outside) or "^" in outside:
        flaws.append("an index outside mathematics")
    if not bare.isascii():
        flaws.append("a character beyond ASCII")
    opened: list[str] = []
    for kind, name in ENVIRONMENTS.findall(bare):
        if kind == "begin":
            opened.append(name)
        elif not opened or opened.pop() != name:
            flaws.append(f"{name} is closed and not open")
    return flaws + [f"{name} is left open" for name in opened] + tabular_flaws("\n".join(lines))


def tabular_flaws(text: str) -> list[str]:
    """Tabulars with rows of another number of cells than columns, or without booktabs' three rules in order."""
    flaws = []
    for columns, body in TABULAR.findall(text):
        rows = [line for line in body.splitlines() if line and line not in RULES]
        places = [body.find(rule) for rule in RULES]
        if min(places) < 0 or any(a >= b for a, b in pairwise(places)):
            flaws.append("rules are not as booktabs has them")
        for row in rows:
            if not row.endswith(r" \\"):
                flaws.append(f"no end of the row: {row}")
            if len(re.findall(r"(?<!\\)&", row)) != len(columns) - 1:
                flaws.append(f"{columns} has no room for: {row}")
    return flaws


def markdown_flaws(text: str) -> list[str]:
    """Lines of a table that have another number of cells than the line before them."""
    counts = [len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0 for line in text.splitlines()]
    return [f"{a} and then {b} bars" for a, b in pairwise(counts) if a and b and a != b]
