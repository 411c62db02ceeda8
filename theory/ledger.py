"""All statements of the room, found by their files, and the ledger that is written of them."""

from __future__ import annotations

import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from findings import files
from theory.proof import notation
from theory.proof.statement import Fault, Report, Statement, Verdict

ROOM = Path(__file__).parent
LEDGER = ROOM / "README.md"
README = ROOM.parent / "README.md"
MARKS = ("<!-- verdicts: written by python -m theory --write -->", "<!-- end of verdicts -->")

_ORDER = (
    "introduction",
    "section-2.1",
    "algorithm-1",
    *(f"equation-{number}" for number in range(1, 10)),
    "section-3.2-every-timestep",
    "definition-3.1",
    "definition-3.2",
    "theorem-3.3",
    "corollary-3.4",
    "remark-3.5",
    "appendix-corollary-1",
    "equation-39",
    "equation-41",
    "appendix-symmetry",
    "definition-3.6",
    "proposition-3.7",
    "theorem-3.8",
    "corollary-3.9",
    "equation-48",
    "norm-of-delta",
    "remark-3.10",
    "section-3.2-quantisation",
    "section-4.2",
    "section-4.3",
    "figure-4",
    "section-4.4",
    "epsilon-norm",
    "tables-1-and-4",
    "slides",
    "appendix-promises",
    "theorem-t",
)
"""The order of the ledger: the paper's, then ours. A label comes where it is named, or with those that it is the
beginning of, up to a hyphen (or a number, for our own theorems)."""

PLURAL = {
    Verdict.HOLDS: "hold",
    Verdict.CONDITIONAL: "hold under conditions",
    Verdict.FALSE: "are false as printed",
    Verdict.VACUOUS: "are vacuous",
}
"""The verdicts of several claims."""
OURS = "ours"
"""The source of our own theorems."""


def _place(statement: Statement) -> tuple[int, list[tuple[int, str]]]:
    fitting = [
        place
        for place, start in enumerate(_ORDER)
        if statement.label == start or re.match(rf"{re.escape(start)}(-|(?<=theorem-t)\d)", statement.label)
    ]
    if not fitting:
        raise LookupError(f"{statement.label} has no place in the ledger's order")
    # numbers by their size: T2 before T10
    parts = re.findall(r"(\d+)|(\D+)", statement.label)
    return fitting[0], [(int(number or 0), word) for number, word in parts]


def module_names() -> list[str]:
    """The statement modules, by file name."""
    return sorted(path.stem for path in (ROOM / "claims").glob("*.py") if path.stem != "__init__")


def of_module(name: str) -> tuple[Statement, ...]:
    """The statements of a module: its STATEMENTS, or the one STATEMENT that it has.

    Raises:
        LookupError: it has neither, or both.
    """
    module = importlib.import_module(f"theory.claims.{name}")
    if hasattr(module, "STATEMENT") is hasattr(module, "STATEMENTS"):
        raise LookupError(f"theory/claims/{name}.py has not exactly one of STATEMENT and STATEMENTS")
    return tuple(module.STATEMENTS) if hasattr(module, "STATEMENTS") else (module.STATEMENT,)


@cache
def statements() -> dict[str, tuple[str, Statement]]:
    """Module name and statement by label, in the order of the ledger.

    Raises:
        LookupError: a label is taken twice, or has no place in the order.
    """
    pairs = [(name, statement) for name in module_names() for statement in of_module(name)]
    labels = [statement.label for _, statement in pairs]
    if len(set(labels)) < len(labels):
        raise LookupError(f"labels are taken twice: {sorted({label for label in labels if labels.count(label) > 1})}")
    return {statement.label: (name, statement) for name, statement in sorted(pairs, key=lambda pair: _place(pair[1]))}


def of_paper() -> list[Statement]:
    """The paper's claims, without our own theorems."""
    return [statement for _, statement in statements().values() if statement.source != OURS]


def tally(claims: list[Statement]) -> dict[tuple[Verdict, Fault | None], int]:
    """How many claims there are of each verdict and fault; those that there are none of are left out."""
    kinds = [(verdict, fault) for verdict in Verdict for fault in (None, *Fault)]
    counts = {kind: sum((claim.verdict, claim.fault) == kind for claim in claims) for kind in kinds}
    return {kind: number for kind, number in counts.items() if number}


def headline() -> str:
    """The paper's claims by verdict, with slips and flaws apart, in two sentences."""
    claims = of_paper()
    verdicts = ", ".join(
        f"{sum(claim.verdict is verdict for claim in claims)} {plural}" for verdict, plural in PLURAL.items()
    )
    slips, flaws, consequences = (sum(claim.fault is fault for claim in claims) for fault in Fault)
    return (
        f"Of the paper's {len(claims)} claims: {verdicts}. Of those that do not simply hold {slips} are slips, which a "
        f"reader repairs and on which nothing rests, {flaws} are flaws, and {consequences} follow from other claims."
    )


def tally_table() -> str:
    """The paper's claims by verdict and fault in Markdown."""
    counts = tally(of_paper())
    heads = ["verdict", "", *(fault.value for fault in Fault)]
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for verdict in Verdict:
        cells = [str(counts.get((verdict, fault), "")) for fault in (None, *Fault)]
        lines.append("| " + " | ".join([verdict.value, *cells]) + " |")
    return "\n".join(lines)


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
                "fault": None if statement.fault is None else statement.fault.value,
                "rescue": statement.rescue,
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


def verdict_table() -> str:
    """The table of verdicts in Markdown, with links to the modules."""
    lines = ["| claim | verdict | in short |", "|---|---|---|"]
    for label, (module, statement) in statements().items():
        claim = f"[{label}](claims/{module}.py): {statement.title}"
        cells = (cell.replace("|", r"\|") for cell in (claim, statement.standing, statement.reason))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def with_verdicts(page: str) -> str:
    """The project's README with its count of verdicts renewed, between two marks.

    Raises:
        ValueError: a mark is missing.
    """
    return files.renewed(page, MARKS, headline())


def markdown() -> str:
    """theory/README.md: the table of verdicts, then every statement with its formulas, conditions and evidence."""
    parts = [
        "# The ledger",
        "Written by `python -m theory --write`; a test keeps it in step with the modules. "
        "`python -m theory` checks every line, `python -m theory explain corollary-3.9` shows one in full.",
        headline(),
        tally_table(),
        "A slip is repaired by a reader from the paper or from what it cites, and nothing rests on it. A flaw is not. "
        "A consequence is wrong, empty or limited only because another claim is.",
        verdict_table(),
    ]
    for module, statement in statements().values():
        rows = [f"## {statement.label}: {statement.title}", f"{statement.source}. **{statement.standing}.**"]
        if statement.printed is not None:
            rows.append(f"Printed: {_cell(statement.printed)}")
        if statement.holds is not None:
            rows.append(f"Holds: {_cell(statement.holds)}")
        rows.append(statement.reason)
        if statement.conditions:
            rows.append("Conditions: " + "; ".join(statement.conditions) + ".")
        if statement.rescue:
            rows.append(f"What can be saved: {statement.rescue}")
        evidence = "\n".join(f"- {piece.kind.value}: {piece.shows}" for piece in statement.evidence)
        rows.append(f"Evidence in [{module}.py](claims/{module}.py):\n\n{evidence}")
        parts.append("\n\n".join(rows))
    return "\n\n".join(parts) + "\n"
