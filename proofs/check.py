"""Check the proofs with Coq: `make proofs`, or `python3 proofs/check.py`; `--write` renews the record, checked.json.

Every file is compiled from scratch, in a folder of its own, and Coq is asked what each lemma rests on: no axiom but
those of its libraries that are named here. Needs Coq and the packages in NEEDED, which it installs none of, and no
Python package. The record holds what was checked, so that who lacks Coq can see whether it was these files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
RECORD = FOLDER / "checked.json"
NEEDED = {
    "mathcomp/ssreflect/ssreflect.vo": "libcoq-mathcomp-ssreflect",
    "mathcomp/algebra/ssralg.vo": "libcoq-mathcomp-algebra",
    "mathcomp/algebra_tactics/ring.vo": "libcoq-mathcomp-algebra-tactics",
    "mathcomp/real_closed/complex.vo": "libcoq-mathcomp-real-closed",
    "mathcomp/analysis/Rstruct.vo": "libcoq-mathcomp-analysis",
    "Coquelicot/Coquelicot.vo": "libcoq-coquelicot",
    "Interval/Tactic.vo": "libcoq-interval",
}
"""What is compiled into Coq's user-contrib, and the Debian package that brings it; besides `coq` itself."""

AXIOMS = {
    # Coq's real numbers
    "ClassicalDedekindReals.sig_forall_dec",
    "ClassicalDedekindReals.sig_not_dec",
    "FunctionalExtensionality.functional_extensionality_dep",
    # classical logic, in Coq's library of analysis and in Coquelicot
    "Classical_Prop.classic",
    # choice, in mathcomp's structure of the real numbers
    "Epsilon.epsilon_statement",
}
"""The axioms of the libraries that a lemma may rest on."""
MACHINE_INTEGERS = ("Uint63.", "PrimInt63.")
"""Beginnings of what Coq takes for granted of its own 63-bit integers, with which `interval` computes."""

FORBIDDEN = (
    *("Admitted", "admit", "give_up", "Abort", "Axiom", "Axioms", "Conjecture", "Conjectures"),
    *("Parameter", "Parameters", "Declare", "Unset Guard Checking", "Unset Positivity Checking"),
    *("Unset Universe Checking", "bypass_check"),
)
"""What leaves a gap, or takes something for granted."""
_SECTIONS = re.compile(r"^\s*(?:Section\s+(\w+)|End\s+(\w+))\s*\.", re.MULTILINE)
_ASSUMED = re.compile(r"^\s*(?:Variables?|Hypothes[ie]s|Context|Local\s+Axiom)\b", re.MULTILINE)
_NAMED = re.compile(r"^\s*(?:Program\s+)?(Theorem|Lemma|Corollary|Fact|Definition|Record)\s+(\w+)", re.MULTILINE)
_FLAGS = ("-q", "-noglob", "-w", "-notation-overridden,-ambiguous-paths")


class ProofsError(Exception):
    """The proofs do not stand, or cannot be checked here; the text says why."""


def without_comments(text: str) -> str:
    """A Coq text with its comments, which nest, taken out."""
    parts, depth = [], 0
    for piece in re.split(r"(\(\*|\*\))", text):
        if piece == "(*":
            depth += 1
        elif piece == "*)":
            depth -= 1
        elif not depth:
            parts.append(piece)
    return "".join(parts)


def gaps(text: str) -> list[str]:
    """What in a Coq text leaves a gap: a word of FORBIDDEN, or something assumed outside of every section."""
    code = without_comments(text)
    forbidden = [word for word in FORBIDDEN if re.search(rf"(?<![\w.']){re.escape(word)}(?![\w'])", code)]
    marks = sorted([*_SECTIONS.finditer(code), *_ASSUMED.finditer(code)], key=lambda mark: mark.start())
    open_sections = 0
    for mark in marks:
        if mark.re is _SECTIONS:
            open_sections += 1 if mark.group(1) else -1
        elif open_sections == 0:
            forbidden.append(f"{mark.group().strip()} outside of a section")
    return forbidden


def named(text: str) -> dict[str, str]:
    """The kind of everything that a Coq text names, by name: Theorem, Lemma, Corollary, Fact, Definition or Record."""
    return {name: kind for kind, name in _NAMED.findall(without_comments(text))}


def sources(folder: Path = FOLDER) -> list[Path]:
    """The Coq files of a folder, each after those that it requires.

    Raises:
        ProofsError: there is none, or they require each other in a circle.
    """
    remaining = {path.stem: path for path in sorted(folder.glob("*.v"))}
    if not remaining:
        raise ProofsError(f"no Coq file in {folder}")
    required = {}
    for name, path in remaining.items():
        statements = re.findall(
            r"From Flatness Require (?:Import )?([\w\s]+)\.", without_comments(path.read_text("utf-8"))
        )
        required[name] = {word for statement in statements for word in statement.split()}
    ordered: list[Path] = []
    while remaining:
        ready = [name for name in remaining if not required[name] & remaining.keys()]
        if not ready:
            raise ProofsError(f"these files require each other: {', '.join(remaining)}")
        ordered += [remaining.pop(name) for name in ready]
    return ordered


def missing_packages() -> list[str]:
    """The Debian packages that are still to be installed."""
    if shutil.which("coqc") is None:
        return ["coq", *NEEDED.values()]
    where = subprocess.run(["coqc", "-where"], check=True, capture_output=True, text=True).stdout.strip()
    folders = [Path(where) / "user-contrib", *map(Path, filter(None, os.environ.get("COQPATH", "").split(os.pathsep)))]
    return [package for file, package in NEEDED.items() if not any((folder / file).exists() for folder in folders)]


def _run(folder: Path, file: str) -> str:
    """Compile a file of the folder and return what it prints."""
    command = ["coqc", *_FLAGS, "-Q", ".", "Flatness", file]
    outcome = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True)
    if outcome.returncode:
        raise ProofsError(f"coqc fails on {file}:\n{outcome.stderr.strip() or outcome.stdout.strip()}")
    return outcome.stdout


def _axioms(printed: str) -> list[str]:
    """The names in what `Print Assumptions` prints: each begins a line, its type is indented or follows a colon."""
    if printed.strip() == "Closed under the global context":
        return []
    lines = printed.splitlines()
    if not lines or lines[0] != "Axioms:":
        raise ProofsError(f"Print Assumptions printed something else than axioms: {printed!r}")
    return sorted({line.split()[0] for line in lines[1:] if line and not line[0].isspace()})


def assumptions(folder: Path, files: list[Path]) -> dict[str, list[str]]:
    """What the compiled files rest on: by file, the axioms of everything that it names, taken together.

    Coq is asked once a file, of all its lemmas as one tuple: it follows each proof down into the libraries, and does so
    once for what they share.
    """
    lines = ["Require Import ssreflect.", *(f"From Flatness Require {path.stem}." for path in files)]
    for path in files:
        everything = ", ".join(f"@{path.stem}.{name}" for name in named(path.read_text("utf-8")))
        lines += [
            f"Definition all_of_{path.stem} := ({everything}).",
            f'Goal True. idtac "### {path.stem}". exact I. Qed.',
        ]
        lines.append(f"Print Assumptions all_of_{path.stem}.")
    (folder / "print_assumptions.v").write_text("\n".join(lines) + "\n", encoding="utf-8")
    blocks = re.split(r"^### (\w+)$\n?", _run(folder, "print_assumptions.v"), flags=re.MULTILINE)
    rests = {stem: _axioms(printed.strip()) for stem, printed in zip(blocks[1::2], blocks[2::2], strict=True)}
    if list(rests) != [path.stem for path in files]:
        raise ProofsError("Print Assumptions did not answer for every file")
    return rests


def beyond(axioms: list[str]) -> list[str]:
    """Of axioms, those that are not the libraries'."""
    return [axiom for axiom in axioms if axiom not in AXIOMS and not axiom.startswith(MACHINE_INTEGERS)]


def fingerprint(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checked(folder: Path = FOLDER, verbose: bool = True) -> dict[str, dict[str, object]]:
    """Compile every file of the folder, and what is to be recorded of them.

    Raises:
        ProofsError: a gap, a proof that Coq rejects, or an axiom beyond the libraries'.
    """
    files = sources(folder)
    for path in files:
        if flaws := gaps(path.read_text("utf-8")):
            raise ProofsError(f"{path.name} has a gap: {', '.join(flaws)}")
    with tempfile.TemporaryDirectory() as name:
        build = Path(name)
        for path in files:
            shutil.copy(path, build)
            start = time.monotonic()
            _run(build, path.name)
            if verbose:
                print(f"{path.name:20} {time.monotonic() - start:5.1f} s", flush=True)
        rests = assumptions(build, files)
    for stem, axioms in rests.items():
        if others := beyond(axioms):
            raise ProofsError(f"{stem}.v rests on {', '.join(others)}")
    return {
        path.name: {
            "sha256": fingerprint(path),
            "axioms": _short(rests[path.stem]),
            "names": named(path.read_text("utf-8")),
        }
        for path in sorted(files)
    }


def _short(axioms: list[str]) -> list[str]:
    """Axioms for the record: those of machine integers as one."""
    shown = [axiom for axiom in axioms if not axiom.startswith(MACHINE_INTEGERS)]
    return [*shown, "Coq's 63-bit integers"] if len(shown) < len(axioms) else shown


def main(arguments: list[str] | None = None) -> int:
    """Run the check; the exit status."""
    parser = argparse.ArgumentParser(prog="python3 proofs/check.py", description="Check the proofs with Coq.")
    parser.add_argument("--write", action="store_true", help="renew the record of what was checked, checked.json")
    parser.add_argument("--missing", action="store_true", help="print the Debian packages to be installed, and no more")
    options = parser.parse_args(arguments)
    if options.missing:
        print(*missing_packages())
        return 0
    if packages := missing_packages():
        print(f"to check the proofs, first: apt-get install {' '.join(packages)}", file=sys.stderr)
        return 1
    start = time.monotonic()
    try:
        record = checked()
    except ProofsError as error:
        print(error, file=sys.stderr)
        return 1
    text = json.dumps(record, indent=1, sort_keys=True) + "\n"
    if options.write:
        RECORD.write_text(text, encoding="utf-8")
    elif not RECORD.exists() or RECORD.read_text("utf-8") != text:
        print(
            "the proofs stand, but checked.json is of others: renew it, python3 proofs/check.py --write",
            file=sys.stderr,
        )
        return 1
    print(f"{len(record)} files, no gap, no axiom beyond the libraries': {time.monotonic() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
