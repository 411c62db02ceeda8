"""Every claim of the ladder by rung: one document and one page, from the results of all rungs that there are.

    results/ladder/ring.json, images.json    rungs 0 and 1, a file each (`python -m toy regimes`, `images`)
    results/ladder/<study>/*.json            rungs 2 to 4, a file a run (`reproduce --at`), a folder a study
    results/ladder/claims.json, claims.md    what is written here
    results/ladder/doses.json, doses.md      every method and dose, by `findings.ladder_doses`

`python -m findings` writes all four anew; they follow from the files, and nothing is computed with weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from findings import ladder_doses
from findings.checksums import ResultError, read_json, with_checksum
from findings.comparisons import FEWEST_SEEDS
from findings.documents import json_text
from findings.estimates import significant
from findings.files import write_whole
from findings.ladder import CANNOT_SAY, DISPUTED, Judged, LadderError, Study, judged
from findings.ladder_claims import CLAIMS, LEVEL, LadderClaim
from findings.ladder_doses import StudyRows, dose_rows
from findings.ladder_printed import in_print
from findings.provenance import ROOT
from findings.toy_ladder import about as toy_about
from findings.toy_ladder import judged_regime, studies_of
from findings.toy_ladder_claims import WITHIN_A_REGIME
from findings.verdicts import MOST_SEEDS

FOLDER = ROOT / "results" / "ladder"
DOCUMENT, PAGE = "claims.json", "claims.md"
DOSES, DOSES_PAGE = "doses.json", "doses.md"
TOY_RUNGS = {"ring": "0", "images": "1"}
STUDIES = {"mini": "2", "mini-300": "2", "tiny": "3", "gpu": "4"}
"""The rung of each folder of runs."""
VERSION = 1
IN_PRINT = "in print"
"""The verdict of the paper's tables, which no seeds stand behind; `why` says in how many comparisons a claim holds."""
MARKS = {"confirmed": "yes", "refuted": "no", "undecided": "open", DISPUTED: "disputed", CANNOT_SAY: "-"}
DECIDABLE = ("confirmed", "refuted", "undecided", DISPUTED)
OWNERS = {"paper": "the paper's", "theory": "our theory's", "question": "open question"}


class Cell(NamedTuple):
    """A claim in a study.

    Attributes:
        verdict: as the judges name it.
        why: what is missing, where it cannot be said.
        comparisons: for JSON.
    """

    verdict: str
    why: str
    comparisons: list[dict[str, Any]]


class Column(NamedTuple):
    """A study, as a column of the table.

    Attributes:
        rung: its number.
        study: the folder's or the file's.
        about: regimes, seeds, and what else says where the numbers are from.
        cells: by the claim's identifier.
        regime: of the toy's studies, which of a file.
        source: the study's numbers; None for what is in print alone.
    """

    rung: str
    study: str
    about: dict[str, Any]
    cells: dict[str, Cell]
    regime: str = ""
    source: Study | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.study}: {self.regime}" if self.regime else self.study


def toy_columns(path: Path, rung: str) -> list[Column]:
    """A column for each regime of a rung of the toy.

    Raises:
        ResultError: the file cannot be read.
    """
    try:
        content = read_json(path)
        studies, complete = studies_of(content["rows"]), bool(content.get("complete", True))
    except (ResultError, KeyError, TypeError) as error:
        raise ResultError(f"{path} holds no rows of the toy: {error!r}") from error
    columns = []
    for name, study in studies.items():
        about = {**toy_about(study), "file": path.name, "complete": complete}
        columns.append(Column(TOY_RUNGS[rung], rung, about, _cells(judged_regime(study, rung)), name, study))
    return columns


def _cells(claims: Iterable[Judged[LadderClaim]]) -> dict[str, Cell]:
    return {
        one.claim.identifier: Cell(one.verdict, one.why, [compared.entry() for compared in one.comparisons])
        for one in claims
    }


def study_column(folder: Path) -> Column:
    """A folder of runs.

    Raises:
        LadderError: it holds no runs that can be judged, or too few seeds.
    """
    study = Study(folder)
    if len(study.seeds) < FEWEST_SEEDS:
        raise LadderError(
            f"{folder} has {len(study.seeds)} seeds so far; {FEWEST_SEEDS} are the fewest that are judged"
        )
    state = study.regime()
    about = {
        "regimes": state["regimes"],
        "step_noise": significant(state["step_noise"].mean),
        "memorised": significant(state["memorised"].mean),
        "seeds": len(study.seeds),
        "doses": {method: study.doses(method) for method in ("sam", "rwp") if study.doses(method)},
        "folder": folder.name,
    }
    return Column(STUDIES.get(folder.name, "2"), folder.name, about, _cells(judged(study)), source=study)


def printed_column() -> Column:
    """The paper's printed numbers: in how many of its comparisons a claim holds."""
    cells = {}
    for identifier, numbers in in_print().items():
        holding = sum(one.holds for one in numbers)
        entries = [
            {"quantity": one.of, "dose": "", "mean": significant(one.value), "holds": one.holds} for one in numbers
        ]
        cells[identifier] = Cell(IN_PRINT, f"{holding} of {len(numbers)}", entries)
    about = {"regimes": ["step noise; memorised or not is not printed"], "step_noise": None, "memorised": None}
    return Column("5", "the paper's tables", about, cells)


def columns_of(folder: Path = FOLDER) -> list[Column]:
    """All that there are results of, from the lowest rung up; folders that do not make a study yet are left out.

    Judged once for the same files: the figures, the report and the pages of one build share the columns.
    """
    states = ((path, path.stat()) for path in sorted(folder.rglob("*.json")))
    return list(_judged_once(folder, tuple((path, state.st_mtime_ns, state.st_size) for path, state in states)))


@lru_cache(maxsize=4)
def _judged_once(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> tuple[Column, ...]:
    """The columns of a folder whose files are in this state."""
    columns: list[Column] = []
    for rung in TOY_RUNGS:
        path = folder / f"{rung}.json"
        if path.exists():
            columns += toy_columns(path, rung)
    for name in STUDIES:
        if (folder / name).is_dir():
            try:
                columns.append(study_column(folder / name))
            except (LadderError, ValueError):
                continue
    return (*columns, printed_column()) if columns else ()


def document(columns: Sequence[Column]) -> dict[str, Any]:
    """For machines: claims with a cell a study, and how the verdicts stand by owner."""
    claims = [
        {
            "identifier": claim.identifier,
            "owner": claim.owner,
            "regime": claim.regime,
            "statement": claim.statement,
            "region": [None if abs(end) == float("inf") else end for end in claim.region],
            "cells": {c.name: c.cells[claim.identifier]._asdict() for c in columns if claim.identifier in c.cells},
        }
        for claim in all_claims()
    ]
    return {
        "version": VERSION,
        "what": "the ladder's claims by study; intervals of logarithms of ratios over seeds unless said otherwise",
        "level": LEVEL,
        "studies": [{"rung": c.rung, "name": c.name, **c.about} for c in columns],
        "counts": counts(columns),
        "claims": claims,
    }


def unfinished(columns: Iterable[Column]) -> str:
    """A sentence on the rungs whose runs are not all made; "" where all are."""
    rungs = list(dict.fromkeys(column.study for column in columns if not column.about.get("complete", True)))
    if not rungs:
        return ""
    return f"Not all runs are made yet of: {', '.join(rungs)}. Its verdicts can change with them."


REACHABLE = 2
"""Times the seeds there are: what as many would decide is called within reach."""


def undecided(columns: Iterable[Column]) -> str:
    """A sentence on how much is open, and what would decide it."""
    cells = [cell for column in columns for cell in column.cells.values() if cell.verdict in DECIDABLE]
    left = [cell for cell in cells if cell.verdict == "undecided"]
    needed = [(most_seeds(cell), max(one["seeds"] for one in cell.comparisons)) for cell in left]
    reachable = sum(seeds is not None and seeds <= REACHABLE * now for seeds, now in needed)
    never = sum(seeds is None for seeds, _ in needed)
    return (
        f"Of {len(cells)} verdicts {len(left)} are open. With {REACHABLE} times the seeds {reachable} of these would "
        f"be decided, were means and scatter to stay as they are; {len(left) - reachable - never} take more, and for "
        f"{never} even {MOST_SEEDS} are not enough, since the mean lies next to the end of what is claimed: the "
        "interval bounds the effect there, and that is all that can be said."
    )


def most_seeds(cell: Cell) -> int | None:
    """How many seeds decide a claim: as many as the comparison that takes the most; None where no number does."""
    needed = [one["deciding_seeds"] for one in cell.comparisons if one["verdict"] == "undecided"]
    return None if None in needed else max(needed, default=None)


def mark(cell: Cell) -> str:
    """A cell of the table: the verdict in a word, and of what is open how many seeds would decide it."""
    if cell.verdict == IN_PRINT:
        return f"{cell.why} {IN_PRINT}"
    word = MARKS.get(cell.verdict, cell.verdict)
    if cell.verdict != "undecided":
        return word
    seeds = most_seeds(cell)
    return f"{word} (>{MOST_SEEDS})" if seeds is None else f"{word} ({seeds})"


def all_claims() -> list[LadderClaim]:
    """Those of every rung, then those of the toy alone."""
    return [*CLAIMS, *WITHIN_A_REGIME]


def counts(columns: Iterable[Column]) -> dict[str, dict[str, int]]:
    """Verdicts over all cells, by owner; what is of another regime, or in print alone, is not counted."""
    claims = {claim.identifier: claim for claim in all_claims()}
    totals: dict[str, dict[str, int]] = {owner: {} for owner in OWNERS}
    for column in columns:
        for identifier, cell in column.cells.items():
            claim = claims[identifier]
            if cell.verdict not in MARKS or not claim.is_of(column.about["regimes"]):
                continue
            of = totals[claim.owner]
            of[cell.verdict] = of.get(cell.verdict, 0) + 1
    return totals


def page(columns: Sequence[Column]) -> str:
    """For people: a table of marks, then each claim's numbers."""
    head = ["claim", "whose", "regime", *(f"{c.rung}: {c.regime or c.study}" for c in columns)]
    lines = [
        "# Claims by rung",
        "",
        f"Intervals are Student's over seeds, {LEVEL:.0%} for all comparisons of a group together. yes: the interval "
        "lies in the claimed region; no: outside; open: neither, with the number of seeds that would decide it; "
        "disputed: the two distances say yes and no; -: the study is in another regime, or lacks the rows. What was "
        "measured at every dose is in [every dose](doses.md). Written by `python -m findings`.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    if unfinished(columns):
        lines[3:3] = ["", unfinished(columns)]
    lines[3:3] = ["", undecided(columns)] if columns else []
    for claim in all_claims():
        marks = [mark(c.cells[claim.identifier]) if claim.identifier in c.cells else "" for c in columns]
        cells = [f"[{claim.identifier}](#{claim.identifier.lower()}) {claim.statement}", OWNERS[claim.owner]]
        lines.append("| " + " | ".join([*cells, claim.regime, *marks]) + " |")
    lines += ["", "| study | regime | step noise | memorised | seeds |", "|---|---|---:|---:|---:|"]
    for c in columns:
        noise, memorised = (
            "" if c.about[key] is None else f"{c.about[key]:.3f}" for key in ("step_noise", "memorised")
        )
        regimes, seeds = " and ".join(c.about["regimes"]), c.about.get("seeds", "")
        lines.append(f"| {c.name} | {regimes} | {noise} | {memorised} | {seeds} |")
    for claim in all_claims():
        lines += ["", f"## {claim.identifier}", "", f"{claim.statement} ({OWNERS[claim.owner]}; {claim.regime})", ""]
        for c in columns:
            if claim.identifier in c.cells:
                lines += _numbers(c.name, c.cells[claim.identifier])
    return "\n".join([*lines, ""])


def _numbers(study: str, cell: Cell) -> list[str]:
    if not cell.comparisons:
        return [f"- {study}: {cell.why}"]
    of = []
    for one in cell.comparisons:
        dose = f" at {one['dose']}" if one["dose"] else ""
        interval = f"{one['mean']:.3g} [{one['low']:.3g}, {one['high']:.3g}]" if "low" in one else f"{one['mean']:.3g}"
        space = f" {one['space']}" if "space" in one else ""
        of.append(f"{one['quantity']}{space}{dose} {interval}")
    verdict = mark(cell) if cell.verdict == IN_PRINT else cell.verdict
    return [f"- {study}: **{verdict}**; " + "; ".join(of) + _what_decides(cell)]


def _what_decides(cell: Cell) -> str:
    if cell.verdict != "undecided":
        return ""
    seeds = most_seeds(cell)
    return f"; no {MOST_SEEDS} seeds would decide" if seeds is None else f"; {seeds} seeds would decide"


def rows_by_dose(columns: Iterable[Column]) -> list[StudyRows]:
    """Every method and dose of the studies that there are numbers of."""
    return [
        StudyRows(c.rung, c.name, len(c.source.seeds), dose_rows(c.source)) for c in columns if c.source is not None
    ]


def written(columns: Sequence[Column]) -> dict[str, bytes]:
    """What is written, by file."""
    rows = rows_by_dose(columns)
    return {
        DOCUMENT: json_text(with_checksum(document(columns))),
        PAGE: page(columns).encode(),
        DOSES: json_text(with_checksum(ladder_doses.document(rows))),
        DOSES_PAGE: ladder_doses.page(rows).encode(),
    }


def main(folder: Path = FOLDER) -> list[Column]:
    """Write all; returns the columns."""
    columns = columns_of(folder)
    for name, content in written(columns).items():
        write_whole(folder / name, content)
    return columns
