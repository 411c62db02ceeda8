"""The ledger as pages: one for each claim, made of the report's fragment of it, and one that lists them all.

They are written before Sphinx looks for sources, and only where their text differs from what is on disk, so that a
second build reads nothing anew.
"""

from __future__ import annotations

import os
import re
import string
from pathlib import Path

from paper_figs.report import claims, fragments
from theory import ledger
from theory.proof.machine_checked import PROOFS, MachineChecked
from theory.proof.statement import Statement

FOLDER = "theory/claims"
"""Of the pages, beneath the site's sources; git ignores it."""
NOTATION, EVIDENCE = "theory/notation", "theory/how_sure_we_are"
"""The pages that explain the symbols and the kinds of evidence; linked to where they exist."""
_MARKS = re.compile(f"([{re.escape(string.punctuation)}])")


def escaped(text: str) -> str:
    """A text that MyST shows letter by letter, whatever mathematics is in it."""
    return _MARKS.sub(r"\\\1", text)


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
    shown = fragments.claim(claims.claim(module, statement, lambda label: f"{label}.html"))
    parts = [
        f"# {escaped(f'{statement.label}: {statement.title}')}",
        f'```{{raw}} html\n<div class="fragment">\n{shown}\n</div>\n```',
    ]
    if (sources / f"{NOTATION}.md").exists():
        parts.append(f"[The symbols](/{NOTATION}.md) and [kinds of evidence](/{EVIDENCE}.md) have their own pages.")
    parts += ["The module:", _source(ledger.ROOM / "claims" / f"{module}.py", sources / FOLDER, "python")]
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
