"""The ledger for the report and the site: statements with formulas as MathML, and counterexamples computed anew.

Exact counterexamples and the paper's printed numbers take a second or two for the whole ledger; the other evidence
(proofs, searches, quadrature) is named only, since `pytest theory` is what runs it.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from typing import Any

import sympy
from markupsafe import Markup, escape

from paper_figs.report import prose, sourced, typesetting
from paper_figs.report.sourced import Number, Source
from theory import ledger
from theory.proof import notation
from theory.proof.statement import Comparison, Evidence, Fault, Kind, Statement, Verdict

VERDICTS = tuple(verdict.value for verdict in Verdict)
FAULTS = tuple(fault.value for fault in Fault)
SHOWN_IN_FULL = (Kind.EXACT, Kind.PRINTED)
"""The kinds of evidence whose comparisons are made anew for the page: exact, and quick."""
Place = Callable[[str], str]
"""A page's address of a claim, by the claim's label."""
Prose = Callable[[str], Markup]
"""Sets a text."""


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
    """One statement, ready for a template; `anchor` is its place on a page of all, `address` a link to it."""

    label: Markup
    anchor: Markup
    address: Markup
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
    caption: str
    detail: tuple[Markup, ...]
    evidence: tuple[Piece, ...]
    module: Markup
    command: Markup
    tests: Markup


def own_source(file: str, key: str, command: str) -> Source:
    """The source of what theory computes while the page is written: its commit is the file's content."""
    digest = hashlib.sha256((ledger.ROOM.parent / file).read_bytes()).hexdigest()[:12]
    commit = f"computed with the page from this file, sha256 {digest}"
    return Source(file, key, "none: exact arithmetic", commit, command)


def formula(of: sympy.Basic) -> Markup:
    """A formula as MathML, a long one on several lines; a sentence as text."""
    if isinstance(of, notation.Words):
        return escape(notation.text(of))
    return Markup("").join(prose.formula(line.strip()) for line in typesetting.lines(notation.latex(of)))


def caption(statement: Statement) -> str:
    """What stands above the formula that holds."""
    if statement.printed is None:
        return "The theorem"
    return "What holds instead" if statement.verdict in (Verdict.FALSE, Verdict.VACUOUS) else "What holds"


def linked(text: str, within: str, place: Place) -> Markup:
    """A text without marks, escaped, in which what names another claim links to it.

    Claims are named by their own labels, by the paper's ("Theorem 3.8", "Eq. (18)" or "(18)") and as T1, T2 and so on.

    Args:
        text: out of the ledger.
        within: the label of the claim that it belongs to, to which nothing links.
        place: the page's address of a claim.
    """
    pages = {label: label for label in ledger.statements()}
    for label, (_, statement) in ledger.statements().items():
        pages |= dict.fromkeys(statement.paper_labels, label)
    names = sorted(map(re.escape, pages), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(names)})(?![\w-]|\.\d)|(?<![\w,(])\(\d+\)|\bT\d+\b")
    parts, done = [], 0
    for match in pattern.finditer(text):
        name = match.group()
        named = pages.get(name) or pages.get(f"Eq. {name}") or pages.get(f"theorem-{name.lower()}")
        if named and named != within:
            parts += [escape(text[done : match.start()]), Markup('<a href="{}">{}</a>').format(place(named), name)]
            done = match.end()
    return Markup("").join([*parts, escape(text[done:])])


def _detail(module: str) -> Iterator[str]:
    """What the module's own text says beyond its title and its formulas: what is meant, and how it is proved."""
    text = inspect.getdoc(importlib.import_module(f"theory.claims.{module}")) or ""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")[1:]]
    return (part for part in paragraphs if part and not re.match(r"(Printed|Holds)( \([^)]+\))?:", part))


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


def _piece(evidence: Evidence, module: str, label: str, text: Prose) -> Piece:
    lines: tuple[Line, ...] = ()
    if evidence.kind in SHOWN_IN_FULL:
        source = own_source(f"theory/claims/{module}.py", evidence.shows, f"python -m theory explain {label}")
        lines = tuple(_line(comparison, source) for comparison in evidence.check())
    return Piece(evidence.kind.value, text(evidence.shows), lines)


def claim(module: str, statement: Statement, place: Place, evidence: bool = True) -> Claim:
    """A statement for a page.

    Args:
        module: the name of its module.
        statement: the claim.
        place: the page's address of a claim.
        evidence: whether that is shown; some of it is computed.
    """
    label = statement.label
    text = partial(prose.prose, plain=lambda words: linked(words, label, place))
    return Claim(
        label=prose.prose(label),
        anchor=anchor(label),
        address=escape(place(label)),
        title=prose.prose(statement.title),
        source=text(statement.source),
        ours=statement.source == ledger.OURS,
        verdict=statement.verdict.value,
        fault="" if statement.fault is None else statement.fault.value,
        in_short=prose.prose(ledger.in_short(statement)),
        reason=text(statement.reason),
        rescue=text(statement.rescue) if statement.rescue else None,
        conditions=tuple(map(text, statement.conditions)),
        printed=None if statement.printed is None else formula(statement.printed),
        holds=None if statement.holds is None else formula(statement.holds),
        caption=caption(statement),
        detail=tuple(map(text, _detail(module))),
        evidence=tuple(_piece(piece, module, label, text) for piece in statement.evidence if evidence),
        module=prose.prose(f"theory/claims/{module}.py"),
        command=prose.prose(f"python -m theory explain {label}"),
        tests=prose.prose(f"pytest theory/tests/test_{module}.py"),
    )


def anchor(label: str) -> Markup:
    """A claim's place on the report's page."""
    return sourced.anchor(f"claim-{label}")


@cache
def claims() -> tuple[Claim, ...]:
    """All of the ledger, in its order, for the report."""
    return tuple(claim(*pair, lambda label: f"#{anchor(label)}") for pair in ledger.statements().values())


def count(rows: Sequence[Claim], **wanted: Any) -> Number:
    """How many claims have these attributes."""
    number = sum(all(getattr(one, name) == value for name, value in wanted.items()) for one in rows)
    words = ", ".join(f"{name} {value!r}" for name, value in wanted.items()) or "all"
    return sourced.counted(number, own_source("theory/ledger.py", f"statements(): {words}", "python -m theory"))
