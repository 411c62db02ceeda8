"""Runs a rung of the ladder for the command line, and writes its rows."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from rich.console import Console

import flatness
from findings import toy_ladder
from findings.estimates import significant
from findings.provenance import ROOT, commit, versions
from findings.verdicts import FEWEST_SEEDS
from toy import ladder, ladder_measures, ladder_runs, regimes, report
from toy.regimes import Rung

KEPT = ROOT / "runs" / "toy"
OUT = ROOT / "results" / "ladder"


def chosen(name: str, quick: bool, seeds: int | None, images: Path) -> Rung:
    """The rung's settings.

    Raises:
        ValueError: fewer than two seeds.
    """
    rung = replace(regimes.RUNGS[name], images=images)
    rung = regimes.quick(rung) if quick else rung
    if seeds is not None and seeds < 2:
        raise ValueError(f"seeds is {seeds}; allowed: a whole number of at least 2")
    return rung if seeds is None else replace(rung, seeds=seeds)


def make(
    rung: Rung,
    *,
    quick: bool,
    workers: int,
    so_far: bool,
    out: Path | None,
    command: str,
    console: Console,
    reported: Callable[[], Any],
) -> None:
    """Make the runs that are missing, or none with so_far, and write the rows.

    Args:
        rung: what.
        quick: whether results are thrown away.
        workers: processes.
        so_far: whether to write what there is, and to run nothing.
        out: where to write; None for nowhere.
        command: for the document.
        console: for the plan and what was written.
        reported: gives a context whose value is told of each run.

    Raises:
        ValueError, FloatingPointError, OSError: as `toy.ladder_runs.run`.
    """
    with _folder(quick) as folder:
        store = ladder_runs.Kept(folder, rung)
        work = ladder_runs.work_of(store)
        console.print(f"{rung.name}: {work.words(workers)}", markup=False, highlight=False)
        if not so_far:
            with reported() as tell:
                work = ladder_runs.run(work, store, workers=workers, tell=tell)
        rows = work.rows
        content = document(rung, rows, quick=quick, complete=not work.missing, command=command)
        content["code"] = store.code  # the runs', whenever they were made; the commit is that of the writing
    if out is None:
        console.print("nothing written (--quick without --out)", markup=False)
        return
    report.write_whole(out, content)
    console.print(f"wrote {out}: {len(rows)} rows", markup=False, highlight=False)


@contextmanager
def _folder(quick: bool) -> Iterator[Path]:
    if not quick:
        yield KEPT
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def document(rung: Rung, rows: list[ladder.Row], *, quick: bool, complete: bool, command: str) -> dict[str, Any]:
    """Everything, in plain lists and numbers."""
    plain = [asdict(row) for row in rows]
    held_out = {one.source: regimes.data_of(one, range(rung.seeds), rung.images)[0] for one in rung.regimes}
    floors = {
        source: ladder_measures.floors(data, range(rung.seeds), rung.measuring).tolist()
        for source, data in held_out.items()
    }
    return {
        "what": f"the toy's regimes, rung {rung.name}: every row's measures, a number a seed",
        "quick": quick,
        "complete": complete,
        "verdicts_may_be_quoted": complete and not quick and rung.seeds >= FEWEST_SEEDS,
        "command": command,
        "configuration": ladder.configuration(rung),
        "versions": versions(torch, np, scipy, flatness),
        "commit": commit(),
        "distance_floor": {
            source: [significant(value, report.DIGITS) for value in values] for source, values in floors.items()
        },
        "verdicts": toy_ladder.verdicts(plain, rung.name),
        "rows": plain,
    }
