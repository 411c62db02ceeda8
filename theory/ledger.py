"""All statements of the room, found by their files, and the ledger that is written of them."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from findings import files
from theory.proof import notation
from theory.proof.statement import Report, Statement, Verdict

ROOM = Path(__file__).parent
LEDGER = ROOM / "README.md"
README = ROOM.parent / "README.md"
MARKS = ("<!-- verdicts: written by python -m theory --write -->", "<!-- end of verdicts -->")

_ORDER = (
    "equation-9",
    "definition-3.1",
    "definition-3.2",
    "theorem-3.3",
    "corollary-3.4",
    "remark-3.5",
    "equation-41",
    "appendix-symmetry",
    "definition-3.6",
    "proposition-3.7",
    "theorem-3.8",
    "corollary-3.9",
    "equation-48",
    "norm-of-delta",
    "remark-3.10",
    "tables-1-and-4",
    "theorem-t",
)
"""The order of the ledger: the paper's, then ours. A label comes with those that it is the beginning of."""


def _place(statement: Statement) -> tuple[int, int, str]:
    fitting = [place for place, label in enumerate(_ORDER) if statement.label.startswith(label)]
    if not fitting:
        raise LookupError(f"{statement.label} has no place in the ledger's order")
    number = re.fullmatch(r"theorem-t(\d+)", statement.label)  # T10 comes after T9
    return fitting[0], int(number.group(1)) if number else 0, statement.label


def module_names() -> list[str]:
    """The statement modules, by file name."""
    return sorted(path.stem for path in (ROOM / "claims").glob("*.py") if path.stem != "__init__")


@cache
def statements() -> dict[str, tuple[str, Statement]]:
    """Module name and statement by label, in the order of the ledger."""
    found = [(name, importlib.import_module(f"theory.claims.{name}").STATEMENT) for name in module_names()]
    return {statement.label: (name, statement) for name, statement in sorted(found, key=lambda pair: _place(pair[1]))}


def in_short(statement: Statement) -> str:
    """The first sentence of the statement's reason."""
    return re.split(r"(?<=[^ A-Z])\. (?=[A-Z])", statement.reason)[0].rstrip(".")


def as_json(reports: dict[str, list[Report]]) -> list[dict[str, Any]]:
    """The rows of the ledger that there are reports for: whether each piece of evidence held, and its numbers."""
    rows = []
    for label, run in reports.items():
        module, statement = statements()[label]
        rows.append(
            {
                "label": label,
                "title": statement.title,
                "source": statement.source,
                "paper_labels": list(statement.paper_labels),
                "verdict": statement.verdict.value,
                "conditions": list(statement.conditions),
                "reason": statement.reason,
                "printed": _shown(statement.printed),
                "holds": _shown(statement.holds),
                "module": f"theory/claims/{module}.py",
                "evidence": [
                    {
                        "kind": evidence.kind.value,
                        "shows": evidence.shows,
                        "holds": report.holds,
                        "lines": list(report.lines),
                    }
                    for evidence, report in zip(statement.evidence, run, strict=True)
                ],
            }
        )
    return rows


def _shown(formula: Any) -> dict[str, str] | None:
    return None if formula is None else {"text": notation.text(formula), "latex": notation.latex(formula)}


def _cell(formula: Any) -> str:
    return "" if formula is None else f"$`{notation.latex(formula)}`$"


def verdict_table(link: str = "claims/", brief: bool = False) -> str:
    """The table of verdicts in Markdown, with links to the modules, which lie under `link`.

    Args:
        link: the folder, with its last slash.
        brief: only the first sentence of each reason.
    """
    lines = ["| claim | verdict | in short |", "|---|---|---|"]
    for module, statement in statements().values():
        claim = f"[{statement.label}]({link}{module}.py): {statement.title}"
        reason = in_short(statement) if brief else statement.reason
        cells = (cell.replace("|", r"\|") for cell in (claim, statement.verdict.value, reason))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_verdicts(page: str) -> str:
    """The project's README with its table of verdicts renewed, between the two marks that hold it.

    Raises:
        ValueError: a mark is missing.
    """
    return files.renewed(page, MARKS, verdict_table("theory/claims/", brief=True))


def markdown() -> str:
    """theory/README.md: the table of verdicts, then every statement with its formulas, conditions and evidence."""
    counts = {verdict: sum(s.verdict is verdict for _, s in statements().values()) for verdict in Verdict}
    summary = ", ".join(f"{number} {verdict.value}" for verdict, number in counts.items())
    parts = [
        "# The ledger",
        "Written by `python -m theory --write`; a test keeps it in step with the modules. "
        "`python -m theory` checks every line, `python -m theory explain corollary-3.9` shows one in full.",
        f"{len(statements())} claims: {summary}.",
        verdict_table(),
    ]
    for module, statement in statements().values():
        rows = [f"## {statement.label}: {statement.title}", f"{statement.source}. **{statement.verdict.value}.**"]
        if statement.printed is not None:
            rows.append(f"Printed: {_cell(statement.printed)}")
        if statement.holds is not None:
            rows.append(f"Holds: {_cell(statement.holds)}")
        rows.append(statement.reason)
        if statement.conditions:
            rows.append("Conditions: " + "; ".join(statement.conditions) + ".")
        evidence = "\n".join(f"- {piece.kind.value}: {piece.shows}" for piece in statement.evidence)
        rows.append(f"Evidence in [{module}.py](claims/{module}.py):\n\n{evidence}")
        parts.append("\n\n".join(rows))
    return "\n\n".join(parts) + "\n"
