"""What README.md says of results: `python -m paper_figs.readme` renews its findings, rows and the bridge's verdicts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from findings import files
from findings import predictions as predicted
from findings.boundary import guarded
from findings.documents import read_document
from findings.estimates import decimals_of, fixed
from findings.ladder_page import Column, columns_of, unfinished
from findings.sentences import sentences
from paper_figs.catalogue import ROOT
from paper_figs.report import claims, findings
from theory.ledger import PLURAL
from theory.proof.statement import Verdict

STUDY = ROOT / "results" / "fashion-mnist-tiny"
README = ROOT / "README.md"
COMMAND = "python -m paper_figs.readme"
FINDINGS = (f"<!-- findings: written by {COMMAND} -->", "<!-- end of findings -->")
ROWS = (f"<!-- trained: written by {COMMAND} -->", "<!-- end of trained -->")
BRIDGE = (f"<!-- bridge: written by {COMMAND} -->", "<!-- end of bridge -->")

THOUSANDTHS = 1000.0
COLUMNS: tuple[tuple[str, str, str, float], ...] = (
    ("flatness", "loss", "held-out loss, 10⁻³", THOUSANDTHS),
    ("flatness", "lpf-absolute-rise", "LPF rise, absolute noise, 10⁻³", THOUSANDTHS),
    ("flatness", "lpf-layer-rise", "LPF rise, layer-relative noise, 10⁻³", THOUSANDTHS),
    ("exposure-bias", "mean_absolute_gap-20", "epsilon-norm gap, T' = 20", 1.0),
    ("distances", "frechet-20", "distance, T' = 20", 1.0),
    ("distances", "frechet-100", "distance, T' = 100", 1.0),
    ("quantisation", "frechet-20-8-change", "change at 8 bits, T' = 20", 1.0),
    ("quantisation", "frechet-20-4-change", "change at 4 bits, T' = 20", 1.0),
)
"""Of tables.json: the table, its column, how the README calls it, and in which unit it is shown."""


def _shown(cell: Mapping[str, Any] | None, factor: float) -> str:
    """A value and its error to the error's two leading digits, both times the factor."""
    if cell is None:
        return ""
    value, error = factor * cell["value"], factor * (cell.get("error") or 0.0)
    if not error:
        return f"{value:.3g}"
    digits = decimals_of(error)
    return f"{fixed(value, digits)} ± {fixed(error, digits)}"


def all_findings(ledger: Sequence[claims.Claim], columns: Sequence[Column]) -> str:
    """The findings, each with the verdicts that the results give it; a verdict's word is never typed here.

    Args:
        ledger: every claim of the theory.
        columns: the ladder's studies.
    """
    counted = findings.theory(ledger)
    verdicts_of_claims = ", ".join(f"{number.value} {PLURAL[Verdict(name)]}" for name, number in counted.counts)
    slips, flaws, consequences = (number.value for _, number in counted.faults)
    theory = (
        f"**The theory.** Of the paper's {counted.total.value} claims: {verdicts_of_claims}. Of those that do "
        f"not simply hold {slips} are slips, which a reader repairs, {flaws} are flaws and {consequences} follow "
        "from other claims. What holds instead is proved here: with frozen features every minimum of the paper's "
        "model is equally flat (T3), and the gap that a model tolerates does not depend on flatness (T4)."
    )
    ladder = [f"**{sentence.title}.** {sentence.text}" for sentence in sentences(columns)]
    lines = [f"{place}. {text}" for place, text in enumerate([theory, *ladder], start=1)]
    return "\n".join([*lines, *(["", unfinished(columns)] if unfinished(columns) else [])])


def rows(tables: Sequence[Mapping[str, Any]]) -> str:
    """The nine rows (more where SAM has several radii): a value ± its standard error.

    Args:
        tables: of tables.json.

    Raises:
        ValueError: a table or a column is not there.
    """
    by_name = {table["name"]: table for table in tables}
    for table, column, *_ in COLUMNS:
        if column not in by_name.get(table, {"columns": {}})["columns"]:
            raise ValueError(f"tables.json has no {table}: {column}; allowed: tables of this version")
    lines = ["| row | " + " | ".join(head for _, _, head, _ in COLUMNS) + " |", "|---" + "|---:" * len(COLUMNS) + "|"]
    for row in by_name["summary"]["rows"]:
        cells = [_shown(by_name[table]["rows"][row].get(column), unit) for table, column, _, unit in COLUMNS]
        lines.append("| " + " | ".join([row, *cells]) + " |")
    return "\n".join(lines)


def verdicts(predictions: Sequence[Mapping[str, Any]]) -> str:
    """The bridge's predictions by group and verdict: how many of each.

    Args:
        predictions: of bridge.json.
    """
    heads = predicted.VERDICTS
    lines = ["| the bridge | " + " | ".join(heads) + " |", "|---" + "|---:" * len(heads) + "|"]
    for group, title in predicted.TITLES.items():
        verdicts = [one["verdict"] for one in predictions if predicted.group(one) == group]
        counts = [str(verdicts.count(verdict) or "") for verdict in heads]
        lines.append(f"| {group}: {title} | " + " | ".join(counts) + " |")
    return "\n".join(lines)


def renewed(page: str) -> str:
    """The README as the results are.

    Raises:
        ValueError: a mark is missing, or a result.
    """
    tables, bridge = read_document(STUDY / "tables.json")["tables"], read_document(STUDY / "bridge.json")["predictions"]
    texts = all_findings(claims.claims(), columns_of())
    for marks, content in ((FINDINGS, texts), (ROWS, rows(tables)), (BRIDGE, verdicts(bridge))):
        page = files.renewed(page, marks, content)
    return page


def main(readme: Path = README) -> int:
    """Renew the page; the exit status."""
    try:
        files.write_whole(readme, renewed(readme.read_text(encoding="utf-8")))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {readme.name}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
