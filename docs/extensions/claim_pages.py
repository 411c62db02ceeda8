"""The ledger as pages: one for each claim, in MyST Markdown, and one that lists them all.

They are written before Sphinx looks for sources, and only where their text differs from what is on disk, so that a
second build reads nothing anew. Nothing is typed here that the ledger knows: formulas are `theory.proof.notation.latex`
of its expressions, and its sentences are set letter by letter. The evidence is named, not run.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import string
from collections.abc import Iterator
from pathlib import Path

import sympy

from docs.extensions import line_breaks
from theory import ledger
from theory.proof import notation
from theory.proof.machine_checked import PROOFS, MachineChecked
from theory.proof.statement import Evidence, Falsifier, Fault, Kind, Statement, Verdict

FOLDER = "theory/claims"
"""Of the pages, beneath the site's sources; git ignores it."""
NOTATION = "theory/notation"
"""The page that explains the symbols; linked to where it exists."""
KINDS = {
    Kind.MACHINE: "checked by Coq, a proof assistant; for every d and m, or for those that its lines name",
    Kind.SYMBOLIC: "derived by a computer algebra system; for every d and m, or for those that its lines name",
    Kind.EXACT: "in exact arithmetic, with signs certified by ball arithmetic",
    Kind.ENCLOSURE: "over a whole range at once, by interval arithmetic or series with rigorous remainders",
    Kind.PROPERTY: "a search over generated instances that finds no failure",
    Kind.FALSIFIER: "a search that must succeed: without this assumption it finds a violation",
    Kind.OPTIMISATION: "constrained optimisation from many random starts, which knows nothing of the theorem",
    Kind.QUADRATURE: "numerical integration with an error estimate",
    Kind.PRINTED: "computed exactly from the numbers that the paper prints",
    Kind.ALGORITHM: "the paper's algorithm, run line by line in exact arithmetic",
}
"""What each kind of evidence is, in the order in which they are shown."""

FAULTS = {
    Fault.SLIP: "A reader repairs it from the paper or from what it cites, and nothing rests on it.",
    Fault.FLAW: "It does not say or do what it is meant to, and no repair is at hand in the paper.",
    Fault.CONSEQUENCE: "It is wrong, empty or limited only because another claim is.",
}
"""How much is wrong, in a sentence."""

_MARKS = re.compile(f"([{re.escape(string.punctuation)}])")


def escaped(text: str) -> str:
    """A text that MyST shows letter by letter, whatever mathematics is in it."""
    return _MARKS.sub(r"\\\1", text)


def linked(text: str, within: str) -> str:
    """A text, escaped, in which what names another claim links to its page.

    Claims are named by their own labels, by the paper's ("Theorem 3.8", "Eq. (18)" or "(18)") and as T1, T2 and so on.

    Args:
        text: plain, out of the ledger.
        within: the label of the claim on whose page it stands, to which nothing links.
    """
    pages = {label: label for label in ledger.statements()}
    for label, (_, statement) in ledger.statements().items():
        pages |= dict.fromkeys(statement.paper_labels, label)
    names = sorted(map(re.escape, pages), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(names)})(?![\w-]|\.\d)|(?<![\w,(])\(\d+\)|\bT\d+\b")
    parts, done = [], 0
    for match in pattern.finditer(text):
        name = match.group()
        page = pages.get(name) or pages.get(f"Eq. {name}") or pages.get(f"theorem-{name.lower()}")
        if page and page != within:
            parts += [escaped(text[done : match.start()]), f"[{escaped(name)}]({page}.md)"]
            done = match.end()
    return "".join([*parts, escaped(text[done:])])


def css_class(verdict: Verdict) -> str:
    """What a verdict is called in the style sheet."""
    return f"verdict-{verdict.name.lower()}"


def formula_lines(formula: sympy.Basic) -> list[str] | None:
    """A formula in LaTeX, line by line; None where it is a sentence, which `theory.proof.notation.text` has."""
    return None if isinstance(formula, notation.Words) else line_breaks.lines(notation.latex(formula))


def caption(statement: Statement, which: str) -> str:
    """What stands above a claim's formula.

    Args:
        statement: the claim.
        which: of its formulas, "printed" or "holds".
    """
    if which == "printed":
        return "As printed"
    if statement.printed is None:
        return "The theorem"
    return "What holds instead" if statement.verdict in (Verdict.FALSE, Verdict.VACUOUS) else "What holds"


def _formula(heading: str, formula: sympy.Basic | None) -> Iterator[str]:
    if formula is None:
        return
    yield f"## {heading}"
    lines = formula_lines(formula)
    if lines is None:
        yield f"> {escaped(notation.text(formula))}"
    else:
        yield "\n".join(["```{math}", "\n\n".join(lines), "```"])


def _argument(module: str) -> Iterator[str]:
    """What the module's own text says beyond its title and its formulas: what is meant, and how it is proved."""
    text = inspect.getdoc(importlib.import_module(f"theory.claims.{module}")) or ""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")[1:]]
    return (part for part in paragraphs if part and not re.match(r"(Printed|Holds)( \([^)]+\))?:", part))


def _fault(statement: Statement) -> Iterator[str]:
    if statement.fault is not None:
        yield f"**A {statement.fault.value}.** {FAULTS[statement.fault]}"


def _shows(piece: Evidence) -> str:
    return piece.dropped if isinstance(piece, Falsifier) else piece.shows


def _evidence(statement: Statement) -> Iterator[str]:
    yield "## Evidence"
    for kind, meaning in KINDS.items():
        pieces = [piece for piece in statement.evidence if piece.kind is kind]
        if pieces:
            yield f"**{kind.value.capitalize()}**: {meaning}."
            yield "\n".join(f"- {linked(_shows(piece), statement.label)}" for piece in pieces)


def _proofs(statement: Statement) -> list[str]:
    """The files of proofs/ that a claim's evidence names, in its order."""
    return list(dict.fromkeys(piece.file for piece in statement.evidence if isinstance(piece, MachineChecked)))


def _source(path: Path, folder: Path, language: str) -> str:
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return "\n".join(
        [
            f"::::{{admonition}} {path.relative_to(ledger.ROOM.parent).as_posix()}",
            ":class: source",
            ":collapsible: closed",
            "",
            f":::{{literalinclude}} {relative}",
            f":language: {language}",
            ":::",
            "::::",
        ]
    )


def page(module: str, statement: Statement, sources: Path) -> str:
    """The page of one claim.

    Args:
        module: the name of its module.
        statement: the claim.
        sources: the folder of the site's sources.
    """
    label = statement.label
    ours = statement.source == "ours"
    commands = [f"python -m theory explain {label}"]
    if (ledger.ROOM / "tests" / f"test_{module}.py").exists():
        commands.append(f"pytest theory/tests/test_{module}.py")
    parts = [
        f"# {escaped(f'{label}: {statement.title}')}",
        f"{{verdict}}`{label}`",
        *_fault(statement),
        "Ours: the paper does not have it." if ours else f"In the paper: {linked(statement.source, label)}.",
        *_formula(caption(statement, "printed"), statement.printed),
        *_formula(caption(statement, "holds"), statement.holds),
        "## Why" if statement.printed is not None else "## In words",
        linked(statement.reason, label),
    ]
    if statement.conditions:
        parts += ["## Conditions", "\n".join(f"- {linked(condition, label)}" for condition in statement.conditions)]
    if statement.rescue:
        parts += ["## What can be saved", linked(statement.rescue, label)]
    if argument := [linked(part, label) for part in _argument(module)]:
        parts += ["## In detail", *argument]
    if (sources / f"{NOTATION}.md").exists():
        parts.append(f"The symbols are explained under [](/{NOTATION}.md).")
    parts += [*_evidence(statement), "## Check it", "\n".join(["```sh", *commands, "```"])]
    parts.append("The first prints the numbers of every piece of evidence. The module:")
    parts.append(_source(ledger.ROOM / "claims" / f"{module}.py", sources / FOLDER, "python"))
    if proofs := _proofs(statement):
        parts.append("The proofs that Coq checks, with `make proofs`:")
        parts += [_source(PROOFS / file, sources / FOLDER, "coq") for file in proofs]
    return "\n\n".join(parts) + "\n"


def index() -> str:
    """The page of all claims, which gives theirs their order."""
    toctree = [":::{toctree}", ":hidden:", "", *(f"{label} <{label}>" for label in ledger.statements()), ":::"]
    parts = [
        "# Claim by claim",
        ":::{tally}\n:::",
        f"Beside them stand {len(ledger.statements()) - len(ledger.of_paper())} theorems of ours. Each claim has a "
        "page with its formulas, the reason for its verdict, what can be saved, its evidence and its source.",
        ":::{verdicts}\n:filter:\n:::",
        "\n".join(toctree),
    ]
    return "\n\n".join(parts) + "\n"


def write(sources: Path) -> list[Path]:
    """Write what has changed and remove the pages of claims that are no more.

    Args:
        sources: the folder of the site's sources.

    Returns:
        The files that were written or removed.
    """
    folder = sources / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / "index.md": index()}
    for label, (module, statement) in ledger.statements().items():
        texts[folder / f"{label}.md"] = page(module, statement, sources)
    changed = []
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    for path in set(folder.glob("*.md")) - set(texts):
        path.unlink()
        changed.append(path)
    return changed
