"""`python -m findings`: write results/ladder/claims.md, doses.md and their .json from the results of all rungs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from findings.boundary import guarded
from findings.ladder_page import DOSES_PAGE, FOLDER, PAGE, main


def command() -> int:
    """Run the command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m findings", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the ladder's results (default %(default)s)")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        parser.error(f"--folder is {folder}; allowed: a folder")
    columns = main(folder)
    print(f"{len(columns)} studies; wrote {folder / PAGE}, {folder / DOSES_PAGE} and their .json")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(command))
