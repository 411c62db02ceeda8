"""What the rows say against each other: differences with standard errors, and a statement of them in words.

Rows share images, timesteps, noise and weight noise. The loss is compared image by image; of all other measures the
two rows' standard errors are added in quadrature as if they were independent, which errs on the large side. With
several training seeds a difference is one number a seed, and its error is over seeds. Only then does it say anything of
the method; with one seed it says something of two networks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.evaluation import cells
from experiments.evaluation.cells import Cell, Column, Result
from experiments.evaluation.tables import FULL, grouped

CRITERION = 3.0
"""Standard errors beyond which a difference is called one."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One measure of one row less that of another.

    Attributes:
        measure: its name.
        words: the same for people.
        row, against: labels.
        difference: with its standard error.
    """

    measure: str
    words: str
    row: str
    against: str
    difference: Cell

    @property
    def verdict(self) -> str:
        """Lower or higher where the difference is beyond the criterion; undecided otherwise."""
        if not abs(self.difference.value) > CRITERION * (self.difference.error or math.inf):
            return "undecided"
        return "lower" if self.difference.value < 0 else "higher"

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        about = {"measure": self.measure, "row": self.row, "against": self.against, "verdict": self.verdict}
        return about | {"difference": self.difference.value, "error": self.difference.error}

    def said(self) -> str:
        """In words."""
        size = Cell(abs(self.difference.value), self.difference.error).shown()
        if self.verdict == "undecided":
            signed = ("-" if self.difference.value < 0 else "+") + size
            return f"{self.row} and {self.against} cannot be told apart ({signed})"
        return f"{self.row}'s is {self.verdict} than {self.against}'s by {size}"


def compared(results: Sequence[Result]) -> list[Comparison]:
    """Each method against adm with the same average, and adm's averages against its raw weights."""
    rows, columns = grouped(results), _columns(cells.options_of(results))
    found = []
    for column in columns:
        for row, against in _pairs(rows):
            difference = _difference(column, rows[row], rows[against])
            if difference is not None:
                found.append(Comparison(column.name, column.heading, row, against, difference))
    return found


def _pairs(rows: Mapping[str, Sequence[Result]]) -> list[tuple[str, str]]:
    by_kind = {(found[0]["method"], found[0]["average"]): label for label, found in rows.items()}
    pairs = []
    for label, found in rows.items():
        method, average = found[0]["method"], found[0]["average"]
        against = by_kind.get(("adm", "raw" if method == "adm" else average))
        if against is not None and against != label:
            pairs.append((label, against))
    return pairs


def _columns(options: Mapping[str, Any]) -> list[Column]:
    found = [
        cells.stored("loss", "held-out loss", "lpf-absolute", "loss"),
        cells.stored("lpf", f"LPF (absolute noise, sigma {options['sigma']:g})", "lpf-absolute", "value"),
        cells.stored("lpf-absolute-rise", "LPF's rise over the loss", "lpf-absolute", "rise"),
        cells.stored(
            "lpf-layer-rise", f"rise under noise of {options['relative_sigma']:g} of each layer's size",
            "lpf-layer", "rise",
        ),
    ]  # fmt: skip
    for steps in options["sampling_steps"]:
        found.append(
            cells.stored(
                f"gap-{steps}", f"mean absolute gap of the noise's norm, T'={steps}", f"exposure-{steps}",
                "mean_absolute_gap",
            )
        )  # fmt: skip
        found.append(cells.stored(f"frechet-{steps}", f"distance of samples, T'={steps}", f"frechet-{steps}-{FULL}"))
        for bits in options["bits"]:
            words = f"change of that distance at {bits} bits"
            found.append(
                cells.change(
                    f"frechet-{steps}-{bits}-change", words, f"frechet-{steps}-{bits}", f"frechet-{steps}-{FULL}"
                )
            )
    found += [
        cells.stored(f"rise-{bits}", f"loss's rise at {bits} bits", f"quantization-{bits}", "rise")
        for bits in options["rise_bits"]
    ]
    found.append(cells.stored("feature-energy", "feature energy of the last layer", "readout", "feature_energy"))
    return found


def _difference(column: Column, ours: Sequence[Result], theirs: Sequence[Result]) -> Cell | None:
    """Over the seeds that both rows have; None where a measure is missing."""
    pairs = _by_seed(ours, theirs)
    if not pairs or any(name not in r["measures"] for pair in pairs for r in pair for name in column.needs):
        return None
    cellpairs = [(column.cell(a), column.cell(b)) for a, b in pairs]
    values = [a.value - b.value for a, b in cellpairs]
    if len(values) >= cells.FEWEST:
        return cells.mean(values)
    (a, b), (first, second) = pairs[0], cellpairs[0]
    if column.name not in ("loss", "lpf"):
        return Cell(values[0], cells.together(first.error, second.error))
    error = _paired_error(a, b)
    if column.name == "lpf":  # the loss, in pairs, and the rises
        error = cells.together(error, *(cells.estimate(cells.at(r, "lpf-absolute", "rise")).error for r in (a, b)))
    return Cell(values[0], error)


def _by_seed(ours: Sequence[Result], theirs: Sequence[Result]) -> list[tuple[Result, Result]]:
    def seed(result: Result) -> int:
        return int(result["settings"]["configuration"]["seed"])

    others = {seed(result): result for result in theirs}
    return [(result, others[seed(result)]) for result in ours if seed(result) in others]


def _paired_error(a: Result, b: Result) -> float:
    """The standard error of the mean difference of the losses, image by image."""
    pairs = zip(cells.at(a, "loss", "by_image"), cells.at(b, "loss", "by_image"), strict=True)
    return cells.mean([x - y for x, y in pairs]).error or 0.0


def statement(results: Sequence[Result], found: Sequence[Comparison]) -> list[str]:
    """What came out, one line a measure, of the raw weights against adm's and of adm's EMA against its raw weights.

    Computed from the numbers; nothing in it is written beforehand but the words.
    """
    rows = grouped(results)
    seeds = min(len(of) for of in rows.values())
    errors = "over images and samples, not over training seeds: of two networks, not of two methods"
    if seeds >= cells.FEWEST:
        errors = f"over {seeds} training seeds"
    lines = [f"Differences are called lower or higher beyond {CRITERION:g} standard errors ({errors})."]
    for words in dict.fromkeys(one.words for one in found):
        ours = [one for one in found if one.words == words and _is_told(rows, one)]
        if ours:
            lines.append(f"{words[0].upper()}{words[1:]}: {'; '.join(one.said() for one in ours)}.")
    return lines


def _is_told(rows: Mapping[str, Sequence[Result]], one: Comparison) -> bool:
    return rows[one.row][0]["average"] == "raw" or one.row == "adm+ema"
