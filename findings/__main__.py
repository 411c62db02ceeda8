"""`python -m findings`: write results/ladder/claims.md, doses.md and their .json from the results of all rungs."""

from __future__ import annotations

import argparse
from pathlib import Path

from findings.ladder_page import DOSES_PAGE, FOLDER, PAGE, main


def command() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m findings", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the ladder's results (default %(default)s)")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        parser.error(f"--folder is {folder}; allowed: a folder")
    columns = main(folder)
    print(f"{len(columns)} studies; wrote {folder / PAGE}, {folder / DOSES_PAGE} and their .json")


if __name__ == "__main__":
    command()
