"""Evidence that Coq has checked: proofs/ holds the proofs, and its record, checked.json, what Coq has accepted.

`make proofs` has Coq check them anew and compares the record. Here nothing is proved: the evidence holds while the
files are those of the record, to the byte, and the record has the lemmas.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from theory.proof.statement import Comparison, Evidence, Kind, equal

PROOFS = Path(__file__).parents[2] / "proofs"
RECORD = "checked.json"


@cache
def record(folder: Path = PROOFS) -> dict[str, dict[str, Any]]:
    """What Coq has checked: by file its SHA-256, the axioms it rests on, and the kind of each lemma by name."""
    files: dict[str, dict[str, Any]] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return files


def changed(folder: Path = PROOFS) -> list[str]:
    """The files that are not those of the record: other, gone or new."""
    here = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.v")}
    then = {name: entry["sha256"] for name, entry in record(folder).items()}
    return sorted(name for name in here.keys() | then.keys() if here.get(name) != then.get(name))


@dataclass(frozen=True)
class MachineChecked(Evidence):
    """Lemmas of one file of proofs/.

    Args:
        file: its name, with its ending.
        lemmas: their names.
    """

    file: str
    lemmas: tuple[str, ...]


def machine_checked(shows: str, file: str, *lemmas: str) -> MachineChecked:
    """Evidence that Coq has checked, for every d and m.

    Args:
        shows: what the lemmas say, taken together.
        file: the file of proofs/ that they stand in, e.g. "quadratic_rise.v".
        lemmas: their names, at least one.

    Raises:
        ValueError: no lemma is named.
    """
    if not lemmas:
        raise ValueError("lemmas are empty; allowed: the names of lemmas that proofs/ holds")

    def check() -> Iterable[Comparison]:
        names = record().get(file, {}).get("names", {})
        for lemma in lemmas:
            yield equal(f"{file}: {lemma}, times in the record of what Coq accepts", int(lemma in names), 1)
        yield equal("files that were changed since", len(changed()), 0)

    return MachineChecked(Kind.MACHINE, f"{shows} ({file}: {', '.join(lemmas)})", check, file, lemmas)
