"""What the paper prints in its tables and settings, as exact numbers, and counts over their cells.

The numbers stand in one JSON file, transcribed from the paper. They are read as fractions, so that what is claimed of
them is decided without rounding. The paper gives one number for each run and no spread: a count over its cells says
what the tables say, not what a second run would.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from theory.proof.statement import Comparison, equal

PATH = Path(__file__).parent.parent.parent / "findings" / "paper_numbers.json"
DATASETS = ("cifar10", "lsun-tower", "ffhq")
STEPS = (20, 100)
"""T', the sampler's steps."""
METHODS = ("adm", "ip", "sam")
AVERAGES = ("", "+ema", "+swa")
NAMES = {"cifar10": "CIFAR-10", "lsun-tower": "LSUN Tower", "ffhq": "FFHQ"}


class Cell(NamedTuple):
    """A column of Table 2."""

    dataset: str
    steps: int

    def __str__(self) -> str:
        """As it is called in a sentence."""
        return f"{NAMES[self.dataset]} at {self.steps}"


CELLS = tuple(Cell(dataset, steps) for dataset in DATASETS for steps in STEPS)


@cache
def numbers() -> dict[str, Any]:
    """Every printed number, fractions for decimals.

    Raises:
        OSError: the file is not there.
    """
    parsed: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"), parse_float=Fraction)
    return parsed


def fid(cell: Cell, row: str) -> Fraction:
    """Table 2: the FID of a row ("sam+ema") in a column."""
    return Fraction(numbers()["fid"][cell.dataset][str(cell.steps)][row])


def fid_at_8_bits(cell: Cell) -> dict[str, Fraction]:
    """Table 4: the FIDs after rounding to 8 bits, by row; of CIFAR-10, and without SWA and IP."""
    return {row: Fraction(value) for row, value in numbers()["fid_at_8_bits"][cell.dataset][str(cell.steps)].items()}


def lpf(dataset: str, row: str) -> Fraction:
    """Tables 3 (CIFAR-10) and 5 (LSUN Tower): the LPF flatness of a row."""
    return Fraction(numbers()["lpf"][dataset][row])


class Outcome(NamedTuple):
    """A comparison of two rows in one column of Table 2."""

    better: str
    worse: str
    cell: Cell

    @property
    def holds(self) -> bool:
        """Whether the first row's FID is the smaller."""
        return fid(self.cell, self.better) < fid(self.cell, self.worse)

    def __str__(self) -> str:
        """Both numbers and where they stand."""
        left, right = (float(fid(self.cell, row)) for row in (self.better, self.worse))
        return f"{self.better} {left:.2f} against {self.worse} {right:.2f}, {self.cell}"


def outcomes(pairs: Iterable[tuple[str, str]]) -> list[Outcome]:
    """Whether the first row of each pair has the smaller FID, in every column of Table 2."""
    return [Outcome(better, worse, cell) for better, worse in pairs for cell in CELLS]


def counted(what: str, pairs: Iterable[tuple[str, str]], expected: int) -> Comparison:
    """In how many cells the first row of each pair has the smaller FID; those where it has not are named."""
    tried = outcomes(pairs)
    held = sum(outcome.holds for outcome in tried)
    return equal(f"{what}, of {len(tried)} cells (not: {exceptions(tried)})", held, expected)


def exceptions(of: Iterable[Outcome]) -> str:
    """The comparisons that fail, in words."""
    return "; ".join(str(outcome) for outcome in of if not outcome.holds) or "none"
