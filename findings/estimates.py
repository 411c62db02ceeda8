"""Numbers with their standard errors, out of result files: what the columns of the tables show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from findings.documents import FAILED

Result = Mapping[str, Any]
FEWEST = 2
SMALL = -3
"""Powers of ten below which a number is written with its power."""
MOST_DIGITS = 12
SIGNIFICANT = 2
"""Digits of an error that are written."""


class Cell(NamedTuple):
    """A number, and its standard error where it has one.

    Attributes:
        value: NaN where a measure failed.
        error: its standard error.
        degrees: of freedom of the error.
    """

    value: float
    error: float | None = None
    degrees: float = math.inf

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


def exponent(number: float, significant: int) -> int:
    """The power of ten of a number that is not zero, once it is rounded to so many digits: .0996 to two is .10."""
    return int(f"{number:.{significant - 1}e}".partition("e")[2])


def significant(number: float, digits: int = 4) -> float:
    """Rounded to so many digits that count."""
    return float(f"{number:.{digits}g}")


def fixed(number: float, digits: int, power: int = 0, signed: bool = False) -> str:
    """A number over 10^power with the decimals that it has left of `digits`; never a negative zero."""
    rounded = round(number, digits) or 0.0
    return f"{rounded / 10.0**power:{'+' if signed and rounded else ''}.{max(digits + power, 0)}f}"


def decimals_of(error: float) -> int:
    """How many decimals show an error to SIGNIFICANT digits."""
    return SIGNIFICANT - 1 - exponent(error, SIGNIFICANT)


class Replicates(NamedTuple):
    """A number group by group, the groups the same images in every row, so that rows are compared in pairs.

    Attributes:
        values: the jackknife's pseudo-values; the number itself where it is a mean and a group is an image.
        sizes: images in each group.
    """

    values: tuple[float, ...]
    sizes: tuple[int, ...]

    def less(self, other: Replicates) -> Replicates:
        """Of the difference.

        Raises:
            ValueError: the groups are not the same.
        """
        if self.sizes != other.sizes:
            raise ValueError(f"groups have {self.sizes} images; allowed: those of the other, {other.sizes}")
        return Replicates(tuple(a - b for a, b in zip(self.values, other.values, strict=True)), self.sizes)

    def cell(self, value: float) -> Cell:
        """The value with its standard error (Busing et al., 1999: the jackknife that leaves out groups of any size)."""
        number = sum(self.sizes)
        middle = math.fsum(v * size for v, size in zip(self.values, self.sizes, strict=True)) / number
        squares = [(v - middle) ** 2 / (number / size - 1) for v, size in zip(self.values, self.sizes, strict=True)]
        return Cell(value, math.sqrt(math.fsum(squares) / len(squares)), len(squares) - 1)


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: in JSON.
        heading: for people.
        cell: the number of one result.
        needs: the measures that it is computed from.
        replicates: the same group by group; None where only the number was kept.
        entry: of a distance, which entry of its measure is shown.
    """

    name: str
    heading: str
    cell: Callable[[Result], Cell]
    needs: tuple[str, ...]
    replicates: Callable[[Result], Replicates] | None = None
    entry: str = "value"

    def of(self, results: Sequence[Result]) -> Cell | None:
        """Of one row: its result, or its results of several seeds, whose mean and standard error are then shown.

        None where a measure is missing, NaN where one failed.
        """
        if not all(there(result, self.needs) for result in results):
            return None
        if any(failed(result, self.needs) for result in results):
            return Cell(math.nan)
        cells = [self.cell(result) for result in results]
        return cells[0] if len(cells) < FEWEST else mean([cell.value for cell in cells])


def there(result: Result, measures: Iterable[str]) -> bool:
    """Whether a result has all of these measures, failed or not."""
    return all(name in result["measures"] for name in measures)


def failed(result: Result, measures: Iterable[str]) -> bool:
    """Whether one of these measures failed."""
    return any(FAILED in result["measures"][name] for name in measures)


def mean(values: Sequence[float]) -> Cell:
    """Of one number a seed, with its standard error."""
    middle = math.fsum(values) / len(values)
    variance = math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return Cell(middle, math.sqrt(variance / len(values)), len(values) - 1)


def together(value: float, *parts: Cell) -> Cell:
    """The value with the errors of independent parts in quadrature; one that is not known counts as 0.

    Its degrees of freedom are Satterthwaite's (1946).
    """
    squares = [(part.error**2, part.degrees) for part in parts if part.error]
    total = math.fsum(square for square, _ in squares)
    spread = math.fsum(square**2 / degrees for square, degrees in squares)
    return Cell(value, math.sqrt(total), total**2 / spread if spread else math.inf)


def at(result: Result, measure: str, *path: str) -> Any:
    """What stands in a result."""
    outcome = result["measures"][measure]
    for name in path:
        outcome = outcome[name]
    return outcome


def estimate(entry: Mapping[str, Any], settings: Mapping[str, Any] | None = None) -> Cell:
    """A stored estimate: with a standard error of its own, or with those over draws and over images in quadrature.

    Args:
        entry: the estimate.
        settings: of its measure, which say over how many draws and images it is.
    """
    if "group_sizes" in entry:
        return Cell(entry["value"], entry["standard_error"], len(entry["group_sizes"]) - 1)
    if "standard_error" in entry:
        return Cell(entry["value"], entry["standard_error"])
    stated = settings or {}
    draws, images = stated.get("draws", math.inf), stated.get("samples", stated.get("images", math.inf))
    over_draws = Cell(0.0, entry["draw_standard_error"], draws - 1)
    return together(entry["value"], over_draws, Cell(0.0, entry["data_standard_error"], images - 1))


def stored(name: str, heading: str, measure: str, *path: str) -> Column:
    """A column that shows what stands in a measure."""

    def cell(result: Result) -> Cell:
        return estimate(at(result, measure, *path), at(result, measure).get("settings"))

    return Column(name, heading, cell, (measure,))


def bare(name: str, heading: str, measure: str, *path: str) -> Column:
    """The same of a number without an error."""
    return Column(name, heading, lambda result: Cell(float(at(result, measure, *path))), (measure,))


def distance(name: str, heading: str, measure: str, key: str = "value") -> Column:
    """A distance as it is usually stated, or another entry of its measure with the same error."""

    def cell(result: Result) -> Cell:
        return estimate(at(result, measure))._replace(value=at(result, measure, key))

    return Column(name, heading, cell, (measure,), lambda result: _pseudo_values(result, measure), key)


def change(name: str, heading: str, measure: str, against: str) -> Column:
    """The difference of two distances of the same samples, from the same noise, by other weights."""

    def replicates(result: Result) -> Replicates:
        return _pseudo_values(result, measure).less(_pseudo_values(result, against))

    return Column(name, heading, lambda result: change_of(result, measure, against), (measure, against), replicates)


def change_of(result: Result, measure: str, against: str) -> Cell:
    """The difference of two distances of one result, with the jackknife's error over the same groups.

    Raises:
        ValueError: the groups are not the same.
    """
    replicates = _pseudo_values(result, measure).less(_pseudo_values(result, against))
    return replicates.cell(at(result, measure, "value") - at(result, against, "value"))


def _pseudo_values(result: Result, measure: str) -> Replicates:
    values = at(result, measure)
    return Replicates(tuple(values["pseudo_values"]), tuple(values["group_sizes"]))


def by_image(result: Result) -> Replicates:
    """The held-out loss, image by image."""
    values = tuple(at(result, "loss", "by_image"))
    return Replicates(values, (1,) * len(values))


def options_of(results: Iterable[Result]) -> Mapping[str, Any]:
    """The settings of the measures, which all results share."""
    return next(iter(results))["settings"]["evaluation"]


def over_seeds(values: Sequence[Cell]) -> Cell:
    """One number's own error, or the mean over seeds with the error over them."""
    return values[0] if len(values) < FEWEST else mean([value.value for value in values])


def ratio(a: Cell, b: Cell) -> Cell | None:
    """a / b with its error to first order, as if both were independent; None where b is not above 0."""
    if not b.value > 0:
        return None
    value = a.value / b.value
    first = Cell(0.0, (a.error or 0.0) / b.value, a.degrees)
    return together(value, first, Cell(0.0, value * (b.error or 0.0) / b.value, b.degrees))


def paired_ratio(a: Sequence[float], b: Sequence[float], *more: Cell) -> Cell | None:
    """The ratio of two means over the same images, with its error to first order.

    Args:
        a, b: image by image.
        more: further errors of the ratio, independent of the images'.

    Returns:
        None where the mean of b is not above 0.
    """
    import numpy as np  # here, as asking for the state of figures loads this module and needs no numpy

    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if not second.mean() > 0:
        return None
    value = float(first.mean() / second.mean())
    spread = float((first - value * second).std(ddof=1)) / math.sqrt(len(first)) / float(second.mean())
    return together(value, Cell(0.0, spread, len(first) - 1), *more)


def logarithm(cell: Cell | None) -> Cell | None:
    """Of a ratio, with its error to first order; None where it is not above 0."""
    if cell is None or not cell.value > 0:
        return None
    return Cell(math.log(cell.value), None if cell.error is None else cell.error / cell.value, cell.degrees)


def estimated(entry: Mapping[str, Any] | None, settings: Mapping[str, Any] | None = None) -> Cell | None:
    """A stored estimate, where there is one."""
    return None if entry is None else estimate(entry, settings)
