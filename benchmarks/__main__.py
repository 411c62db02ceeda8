"""`python -m benchmarks`: run the benchmarks and print what they measured."""

from __future__ import annotations

import argparse
import importlib

from rich.console import Console
from rich.table import Table

ROOMS = ("theory", "instruments", "toy", "adm", "data", "training", "frechet", "sampling")
"""Modules of this folder; each lists its benchmarks, functions that return rows of the table, as PARTS."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rooms", nargs="*", metavar="ROOM", help=f"of {', '.join(ROOMS)}; all by default")
    rooms = parser.parse_args().rooms or list(ROOMS)
    unknown = [room for room in rooms if room not in ROOMS]
    if unknown:
        parser.error(f"ROOM is {unknown[0]!r}; allowed: {', '.join(ROOMS)}")
    console = Console()
    for room in rooms:
        table = Table(title=room, title_justify="left")
        for heading in ("measured", "result", "held against"):
            table.add_column(heading, overflow="fold")
        for part in importlib.import_module(f"benchmarks.{room}").PARTS:
            with console.status(part.__name__.replace("_", " ")):
                rows = part()
            for row in rows:
                table.add_row(*row)
        console.print(table)


if __name__ == "__main__":
    main()
