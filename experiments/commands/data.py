"""`python -m experiments data NAME`: what is there of a data set, and what is missing fetched or named."""

from __future__ import annotations

import argparse
from pathlib import Path

from experiments.data import DATASETS
from experiments.data.command import run


def main(arguments: list[str]) -> int:
    """Run the command line; 0 where the data set is there, 1 where it is not."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments data",
        description="Say what is there of a data set; fetch what is missing; where that cannot be done, say what to "
        "download by hand.",
    )
    parser.add_argument("name", choices=DATASETS, metavar="NAME", help=", ".join(DATASETS))
    parser.add_argument("--root", type=Path, metavar="DIR", help="the data root (default: FLATNESS_DATA, or ./data)")
    parser.add_argument(
        "--download", action=argparse.BooleanOptionalAction, default=True, help="fetch what is missing (default: yes)"
    )
    options = parser.parse_args(arguments)
    return run(options.name, options.root, options.download)
