"""The toy's results as numbers to predict from: rows by method and radius, ratios with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from experiments.bridge.rows import Entry

AVERAGES = {"raw": "", "ema": "+ema", "swa": "+swa"}
PAPERS_RHO = 0.1
"""The radius of the toy's rows that do not name one."""


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
    """The toy's results.

    Attributes:
        document: of `python -m toy`.
    """

    document: Mapping[str, Any]

    def row(self, method: str, rho: float, average: str) -> str:
        """The row of a method; it may not be there, as the toy has averages at one radius alone."""
        name = f"sam rho={rho:g}" if "sam" in method and rho != PAPERS_RHO else method
        return f"learnt/{name}{AVERAGES.get(average, average)}"

    def of(self, entry: Entry) -> str:
        """The row that corresponds to one of a folder."""
        return self.row(entry.method, entry.rho, entry.average)

    def number(self, row: str, measure: str) -> Number | None:
        """A measure, where it is there."""
        found = self.document["measures"].get(row, {}).get(measure)
        return None if found is None else Number(found["mean"], found["low"], found["high"])

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
