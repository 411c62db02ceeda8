"""The ledger for the page: every statement with its formulas as MathML, and its counterexamples computed anew.

Exact counterexamples and the paper's printed numbers take a second or two for the whole ledger; the other evidence
(proofs, searches, quadrature) is named only, since `pytest theory` is what runs it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

import sympy
from markupsafe import Markup

from paper_figs.report import prose, sourced
from paper_figs.report.sourced import Number, Source
from theory import ledger
from theory.proof import notation
from theory.proof.statement import Comparison, Evidence, Fault, Kind, Statement, Verdict

VERDICTS = tuple(verdict.value for verdict in Verdict)
FAULTS = tuple(fault.value for fault in Fault)
SHOWN_IN_FULL = (Kind.EXACT, Kind.PRINTED)
"""The kinds of evidence whose comparisons are made anew for the page: exact, and quick."""


@dataclass(frozen=True)
class Line:
    """One comparison of a counterexample: what is compared, the formula, and both sides in decimals where they help."""

    what: Markup
    formula: Markup
    decimals: tuple[Number, ...]
    holds: bool


@dataclass(frozen=True)
class Piece:
    """One piece of evidence; lines for exact counterexamples and printed numbers only."""

    kind: str
    shows: Markup
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Claim:
    """One statement, ready for a template."""

    label: Markup
    anchor: Markup
    title: Markup
    source: Markup
    ours: bool
    verdict: str
    fault: str
    in_short: Markup
    reason: Markup
    rescue: Markup | None
    conditions: tuple[Markup, ...]
    printed: Markup | None
    holds: Markup | None
    evidence: tuple[Piece, ...]
    module: Markup
    command: Markup


def own_source(file: str, key: str, command: str) -> Source:
    """The source of what theory computes while the page is written: its commit is the file's content."""
    digest = hashlib.sha256((ledger.ROOM.parent / file).read_bytes()).hexdigest()[:12]
    commit = f"computed with the page from this file, sha256 {digest}"
    return Source(file, key, "none: exact arithmetic", commit, command)


def _formula(formula: sympy.Basic | None) -> Markup | None:
    return None if formula is None else prose.formula(notation.latex(formula))


def _decimals(comparison: Comparison, source: Source) -> Iterator[Number]:
    """Both sides in decimals where they are exact numbers but not whole, once if they are equal."""
    seen = set()
    for side in (comparison.left, comparison.right):
        value = sympy.sympify(side)
        if isinstance(value, sympy.Expr) and value.is_number and not value.is_Integer and value not in seen:
            seen.add(value)
            yield Number(sourced.shown(float(value), 5), float(value), source)


_RELATIONS = {"!=": r"\neq", "<=": r"\leq", ">=": r"\geq"}


def _line(comparison: Comparison, source: Source) -> Line:
    kinds = (sympy.Basic, sympy.MatrixBase, Fraction, int)
    sides = (comparison.left, comparison.right)
    if not all(isinstance(side, kinds) for side in sides):
        return Line(prose.prose(str(comparison)), Markup(""), (), comparison.holds())
    left, right = (notation.latex(sympy.sympify(side)) for side in sides)
    relation = _RELATIONS.get(comparison.relation.value, comparison.relation.value)
    return Line(
        prose.prose(comparison.what),
        prose.formula(f"{left} {relation} {right}"),
        tuple(_decimals(comparison, source)),
        comparison.holds(),
    )


def _piece(evidence: Evidence, module: str, label: str) -> Piece:
    lines: tuple[Line, ...] = ()
    if evidence.kind in SHOWN_IN_FULL:
        source = own_source(f"theory/claims/{module}.py", evidence.shows, f"python -m theory explain {label}")
        lines = tuple(_line(comparison, source) for comparison in evidence.check())
    return Piece(evidence.kind.value, prose.prose(evidence.shows), lines)


def claim(module: str, statement: Statement, evidence: bool = True) -> Claim:
    """A statement for the page; without its evidence, of which some is computed, where that is not shown."""
    return Claim(
        label=prose.prose(statement.label),
        anchor=sourced.anchor(f"claim-{statement.label}"),
        title=prose.prose(statement.title),
        source=prose.prose(statement.source),
        ours=statement.source == "ours",
        verdict=statement.verdict.value,
        fault="" if statement.fault is None else statement.fault.value,
        in_short=prose.prose(ledger.in_short(statement)),
        reason=prose.prose(statement.reason),
        rescue=prose.prose(statement.rescue) if statement.rescue else None,
        conditions=tuple(prose.prose(condition) for condition in statement.conditions),
        printed=_formula(statement.printed),
        holds=_formula(statement.holds),
        evidence=tuple(_piece(piece, module, statement.label) for piece in statement.evidence if evidence),
        module=prose.prose(f"theory/claims/{module}.py"),
        command=prose.prose(f"python -m theory explain {statement.label}"),
    )


@cache
def claims() -> tuple[Claim, ...]:
    """All of the ledger, in its order."""
    return tuple(claim(module, statement) for module, statement in ledger.statements().values())


def count(rows: Sequence[Claim], **wanted: Any) -> Number:
    """How many claims have these attributes."""
    number = sum(all(getattr(one, name) == value for name, value in wanted.items()) for one in rows)
    words = ", ".join(f"{name} {value!r}" for name, value in wanted.items()) or "all"
    return sourced.counted(number, own_source("theory/ledger.py", f"statements(): {words}", "python -m theory"))
