"""What the rows say against each other: differences with standard errors, and a statement of them in words.

Rows share images, timesteps, noise and weight noise. The loss is compared image by image, and distances by the
jackknife's pseudo-values of the same groups of samples, which are made from the same noise. Of all other measures the
two rows' standard errors are added in quadrature as if they were independent, which errs on the large side. With
several training seeds a difference is one number a seed, and its error is over seeds. Only then does it say anything of
the method; with one seed it says something of two networks.

A difference is called one beyond the standard errors that a normal one passes with probability LEVEL, or one of
Student's distribution where the error is of few degrees of freedom. Over two seeds nothing is called a difference.
Nothing is corrected for the number of comparisons, which the statement says instead.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import ndtr, stdtrit

from findings import columns, estimates
from findings.documents import FAILED
from findings.estimates import Cell, Column, Result
from findings.tables import grouped

CRITERION = 3.0
"""Standard errors beyond which a difference is called one, where the error itself is known."""
LEVEL = 2 * float(ndtr(-CRITERION))
"""How often that happens where there is no difference: 0.27%."""
FEWEST_SEEDS = 3


@functools.cache
def criterion(degrees: float) -> float:
    """The same for an error of so many degrees of freedom: Student's two-sided quantile at LEVEL."""
    return CRITERION if math.isinf(degrees) else -float(stdtrit(degrees, LEVEL / 2))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One measure of one row less that of another.

    Attributes:
        measure: its name.
        words: the same for people.
        row, against: labels.
        difference: with its standard error.
        seeds: of training that both rows have.
    """

    measure: str
    words: str
    row: str
    against: str
    difference: Cell
    seeds: int = 1

    @property
    def verdict(self) -> str:
        """Lower or higher where the difference is beyond the criterion; undecided otherwise."""
        value, error, degrees = self.difference
        few = estimates.FEWEST <= self.seeds < FEWEST_SEEDS
        if few or not error or not abs(value) > criterion(degrees) * error:
            return "undecided"
        return "lower" if value < 0 else "higher"

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        about = {"measure": self.measure, "row": self.row, "against": self.against, "verdict": self.verdict}
        value, error, degrees = self.difference
        known = None if math.isinf(degrees) else degrees
        return about | {"difference": value, "error": error, "degrees_of_freedom": known, "seeds": self.seeds}

    def in_words(self) -> str:
        """In words."""
        size = self.difference._replace(value=abs(self.difference.value)).shown()
        if self.verdict == "undecided":
            signed = ("-" if self.difference.value < 0 else "+") + size
            return f"{self.row} and {self.against} cannot be told apart ({signed})"
        return f"{self.row}'s is {self.verdict} than {self.against}'s by {size}"


def compared(results: Sequence[Result]) -> list[Comparison]:
    """Each method against adm with the same average, and adm's averages against its raw weights."""
    rows = grouped(results)
    comparisons = []
    for column in columns.compared(results[0]["settings"]):
        for row, against in _pairs(rows):
            pairs = _by_seed(rows[row], rows[against])
            difference = _difference(column, pairs)
            if difference is not None:
                comparisons.append(Comparison(column.name, column.heading, row, against, difference, len(pairs)))
    return comparisons


def _pairs(rows: Mapping[str, Sequence[Result]]) -> list[tuple[str, str]]:
    by_kind = {(alike[0]["method"], alike[0]["average"]): label for label, alike in rows.items()}
    pairs = []
    for label, results in rows.items():
        method, average = results[0]["method"], results[0]["average"]
        against = by_kind.get(("adm", "raw" if method == "adm" else average))
        if against is not None and against != label:
            pairs.append((label, against))
    return pairs


def _difference(column: Column, pairs: Sequence[tuple[Result, Result]]) -> Cell | None:
    """Over the seeds that both rows have; None where a measure is missing or failed."""
    every = [result for pair in pairs for result in pair]
    if not pairs or not all(estimates.there(result, column.needs) for result in every):
        return None
    if any(estimates.failed(result, column.needs) for result in every):
        return None
    cellpairs = [(column.cell(a), column.cell(b)) for a, b in pairs]
    values = [a.value - b.value for a, b in cellpairs]
    if len(values) >= estimates.FEWEST:
        return estimates.mean(values)
    (a, b), (first, second) = pairs[0], cellpairs[0]
    if column.replicates is not None:
        return column.replicates(a).less(column.replicates(b)).cell(values[0])
    if column.name == "lpf":
        return _of_filter(values[0], a, b)
    return estimates.together(values[0], first, second)


def _of_filter(value: float, a: Result, b: Result) -> Cell:
    """The difference of two LPFs: of the losses, in pairs, and of the rises."""
    losses = estimates.by_image(a).less(estimates.by_image(b)).cell(0.0)
    rises = (
        estimates.estimate(estimates.at(r, columns.ABSOLUTE, "rise"), estimates.at(r, columns.ABSOLUTE, "settings"))
        for r in (a, b)
    )
    return estimates.together(value, losses, *rises)


def _by_seed(ours: Sequence[Result], theirs: Sequence[Result]) -> list[tuple[Result, Result]]:
    def seed(result: Result) -> int:
        return int(result["settings"]["configuration"]["seed"])

    others = {seed(result): result for result in theirs}
    return [(result, others[seed(result)]) for result in ours if seed(result) in others]


def statement(results: Sequence[Result], compared: Sequence[Comparison]) -> list[str]:
    """What came out, one line a measure, of the raw weights against adm's and of adm's EMA against its raw weights.

    Computed from the numbers; nothing in it is written beforehand but the words.
    """
    rows = grouped(results)
    worth_telling = [one for one in compared if _is_told(rows, one)]
    lines = [_how(min(len(of) for of in rows.values()), len(worth_telling))]
    for words in dict.fromkeys(one.words for one in worth_telling):
        ours = [one for one in worth_telling if one.words == words]
        lines.append(f"{words[0].upper()}{words[1:]}: {'; '.join(one.in_words() for one in ours)}.")
    return lines + failures(results)


def _how(seeds: int, number: int) -> str:
    errors = "over images and samples, not over training seeds: of two networks, not of two methods"
    if seeds >= estimates.FEWEST:
        errors = f"over {seeds} training seeds"
    if estimates.FEWEST <= seeds < FEWEST_SEEDS:
        errors += f", of which verdicts need {FEWEST_SEEDS}"
    return (
        f"Differences are called lower or higher beyond {CRITERION:g} standard errors ({errors}), more where an error "
        f"is of few degrees of freedom (Student). Of {number} comparisons without any difference that calls "
        f"{LEVEL * number:.2g} one in the mean."
    )


def failures(results: Sequence[Result]) -> list[str]:
    """A line for each measure that failed, which no table has a number of."""
    return [
        f"{label} (seed {result['settings']['configuration']['seed']}): {name} failed: {measure[FAILED]}."
        for label, alike in grouped(results).items()
        for result in alike
        for name, measure in result["measures"].items()
        if FAILED in measure
    ]


def _is_told(rows: Mapping[str, Sequence[Result]], one: Comparison) -> bool:
    return rows[one.row][0]["average"] == "raw" or one.row == "adm+ema"
