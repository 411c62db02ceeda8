"""The toy study's result file, and the paper's printed numbers beside it: read, checked, and its numbers by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from findings.checksums import ResultError, read_json
from findings.names import PAPER_RADIUS, Average, RowName
from findings.provenance import ROOT
from findings.verdicts import FEWEST_SEEDS

RESULTS = ROOT / "results" / "toy.json"
COMMAND = "python -m toy"
PAPER_NUMBERS = ROOT / "findings" / "paper_numbers.json"
PARTS = ("predictions", "configuration", "measures", "pairs", "series", "sweep", "quick")
"""What a result file has to have for whatever reads it."""

Interval = dict[str, Any]


def load(path: Path = RESULTS) -> dict[str, Any]:
    """The result file.

    Raises:
        ValueError: there is none, it is cut short, or it lacks a part.
    """
    results = _read(path, f"a file that {COMMAND} wrote")
    missing = [part for part in PARTS if part not in results]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; `{COMMAND}` makes it anew")
    return results


def paper(path: Path = PAPER_NUMBERS) -> dict[str, Any]:
    """The numbers printed in the paper, each table with its name.

    Raises:
        ValueError: they cannot be read.
    """
    return _read(path, "the paper's printed numbers")


def _read(path: Path, allowed: str) -> dict[str, Any]:
    try:
        return read_json(path)
    except ResultError as error:
        raise ValueError(f"{path} cannot be read ({error}); allowed: {allowed}") from None


def number(results: dict[str, Any], row: str, measure: str) -> Interval:
    """A measure's mean over seeds, its interval, the number of seeds and the level.

    Raises:
        ValueError: the file has no such row or measure.
    """
    try:
        entry = results["measures"][row][measure]
    except KeyError as error:
        raise ValueError(f"the results have no {row}: {measure} (no {error}); `{COMMAND}` makes them anew") from None
    return {key: entry[key] for key in ("mean", "low", "high", "seeds", "level")}


def face(results: dict[str, Any]) -> dict[str, Any]:
    """What every figure says of its data: the data set, the number of seeds, the level, and whether it is a trial."""
    seeds = results["configuration"]["seeds"]
    level = results["measures"]["learnt/adm"]["loss"]["level"]
    return {
        "data": results["configuration"]["data"],
        "seeds": seeds,
        "level": level,
        "trial": bool(results["quick"]) or seeds < FEWEST_SEEDS,
    }


def sentence(face: dict[str, Any], *, intervals: bool = True) -> str:
    """The face in words, for a title."""
    words = f"toy, ring of eight Gaussians in the plane, {counted(face['seeds'])}"
    words += f"; {face['level']:.0%} intervals" if intervals else ""
    return words + (" (trial)" if face["trial"] else "")


def short(face: dict[str, Any]) -> str:
    """The face in the width of half a column."""
    return f"toy ring, {counted(face['seeds'])}" + (" (trial)" if face["trial"] else "")


def counted(seeds: int) -> str:
    """How many seeds, in words."""
    return f"{seeds} seed" + ("" if seeds == 1 else "s")


class Number(NamedTuple):
    """A number of the toy with its interval over seeds."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """Its ends."""
        return self.low, self.high


class Toy(NamedTuple):
    """The toy's results as numbers to predict from.

    Attributes:
        document: of `python -m toy`.
    """

    document: Mapping[str, Any]

    def row(self, method: str, rho: float, average: Average) -> str:
        """The row of a method; it may not be there, as the toy has averages at one radius alone."""
        named = None if "sam" not in method or rho == PAPER_RADIUS else rho
        return f"learnt/{RowName(method, average, named)}"

    def number(self, row: str, measure: str) -> Number | None:
        """A measure, where it is there."""
        entry = self.document["measures"].get(row, {}).get(measure)
        return None if entry is None else Number(entry["mean"], entry["low"], entry["high"])

    def ratio(self, row: str, against: str, measure: str) -> Number | None:
        """Of two rows' means; the interval takes both intervals' ends, so it errs on the wide side."""
        return divided(self.number(row, measure), self.number(against, measure))

    def share(self, row: str, against: str, measure: str, whole: str) -> float | None:
        """log of the ratio of one measure over log of the ratio of another."""
        part, total = self.ratio(row, against, measure), self.ratio(row, against, whole)
        if part is None or total is None or part.value <= 0 or total.value <= 0 or total.value == 1:
            return None
        return math.log(part.value) / math.log(total.value)


def divided(a: Number | None, b: Number | None) -> Number | None:
    """a / b; None where one is missing or b's interval holds 0."""
    if a is None or b is None or not b.low > 0:
        return None
    ends = [x / y for x in a.interval for y in b.interval]
    return Number(a.value / b.value, min(ends), max(ends))
