"""Numbers with their standard errors, out of result files: what the columns of the tables show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Result = Mapping[str, Any]
FEWEST = 2
SMALL = -3
"""Powers of ten below which a number is written with its power."""
MOST_DIGITS = 12


class Cell(NamedTuple):
    """A number, and its standard error where it has one."""

    value: float
    error: float | None = None

    def shown(self) -> str:
        """Rounded to two digits of the error; to four where there is none."""
        if self.error is None or not self.error > 0:
            return f"{self.value:.4g}"
        power = math.floor(math.log10(max(abs(self.value), self.error)))
        if power >= SMALL:
            power = 0
        value, error = self.value / 10.0**power, self.error / 10.0**power
        digits = min(max(0, 1 - math.floor(math.log10(error))), MOST_DIGITS)
        text = f"{value:.{digits}f} ± {error:.{digits}f}"
        return f"({text})e{power}" if power else text


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: in JSON.
        heading: for people.
        cell: the number of one result.
        needs: the measures that it is computed from.
    """

    name: str
    heading: str
    cell: Callable[[Result], Cell]
    needs: tuple[str, ...]

    def of(self, results: Sequence[Result]) -> Cell | None:
        """Of one row: its result, or its results of several seeds, whose mean and standard error are then shown.

        None where a measure is missing.
        """
        if any(name not in result["measures"] for result in results for name in self.needs):
            return None
        cells = [self.cell(result) for result in results]
        return cells[0] if len(cells) < FEWEST else mean([cell.value for cell in cells])


def mean(values: Sequence[float]) -> Cell:
    """Of one number a seed, with its standard error."""
    middle = math.fsum(values) / len(values)
    variance = math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return Cell(middle, math.sqrt(variance / len(values)))


def together(*errors: float | None) -> float:
    """The standard error of a sum or difference of independent numbers; one that is not known counts as 0."""
    return math.hypot(*(error or 0.0 for error in errors))


def at(result: Result, measure: str, *path: str) -> Any:
    """What stands in a result."""
    found = result["measures"][measure]
    for name in path:
        found = found[name]
    return found


def estimate(found: Mapping[str, Any]) -> Cell:
    """A stored estimate: with a standard error of its own, or with those over draws and over images in quadrature."""
    if "standard_error" in found:
        return Cell(found["value"], found["standard_error"])
    return Cell(found["value"], together(found["draw_standard_error"], found["data_standard_error"]))


def stored(name: str, heading: str, measure: str, *path: str) -> Column:
    """A column that shows what stands in a measure."""
    return Column(name, heading, lambda result: estimate(at(result, measure, *path)), (measure,))


def bare(name: str, heading: str, measure: str, *path: str) -> Column:
    """The same of a number without an error."""
    return Column(name, heading, lambda result: Cell(float(at(result, measure, *path))), (measure,))


def change(name: str, heading: str, measure: str, against: str) -> Column:
    """The difference of two measures' values."""

    def cell(result: Result) -> Cell:
        ours, theirs = estimate(at(result, measure)), estimate(at(result, against))
        return Cell(ours.value - theirs.value, together(ours.error, theirs.error))

    return Column(name, heading, cell, (measure, against))


def options_of(results: Iterable[Result]) -> Mapping[str, Any]:
    """The settings of the measures, which all results share."""
    return next(iter(results))["settings"]["evaluation"]
