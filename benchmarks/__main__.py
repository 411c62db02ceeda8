"""`python -m benchmarks`: run the benchmarks and print what they measured; with --out, keep it in a file."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.timing import Row
from findings.boundary import guarded
from findings.files import check_out

# Not torch: the processes whose memory rooms measure begin by importing this module

ROOMS = ("package", "theory", "instruments", "toy", "adm", "data", "training", "frechet", "sampling")
"""Modules of this folder; each lists its benchmarks, functions that return rows of the table, as PARTS."""
OUT = "keep the results in this JSON file, such as results/benchmarks.json; rooms that are not run stay as they are"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)}; all by default")
    parser.add_argument("--out", type=Path, metavar="FILE", help=OUT)
    given = parser.parse_args(arguments)
    rooms = given.rooms or list(ROOMS)
    unknown = [room for room in rooms if room not in ROOMS]
    if unknown:
        parser.error(f"ROOM is {unknown[0]!r}; allowed: {', '.join(ROOMS)}")
    console = Console()
    if given.out is None:
        for room in rooms:
            measured(room, console)
        return 0
    from benchmarks import results

    try:
        check_out(given.out, folder=False)
        entries = results.read(given.out)  # first, so that nothing is measured in vain
    except (OSError, ValueError) as error:
        parser.error(str(error))
    where = results.provenance()
    for room in rooms:
        start = time.perf_counter()
        title, rows = measured(room, console)
        entries[room] = results.entry(title, rows, where, time.perf_counter() - start)
    results.write(given.out, entries, ROOMS)
    console.print(f"results: {given.out}", markup=False, highlight=False, soft_wrap=True)
    return 0


def measured(room: str, console: Console) -> tuple[str, list[Row]]:
    """Run a room's benchmarks and print its table; what the room says it measures, and the rows."""
    module = importlib.import_module(f"benchmarks.{room}")
    table = Table(title=room, title_justify="left")
    for heading in ("measured", "result", "held against"):
        table.add_column(heading, overflow="fold")
    rows: list[Row] = []
    for part in module.PARTS:
        with console.status(part.__name__.replace("_", " ")):
            rows += part()
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
    return str(module.__doc__).partition("\n")[0], rows


if __name__ == "__main__":
    sys.exit(guarded(main))
