"""What the ladder says, in plain sentences: written once, for the README, the report and the site.

A sentence counts verdicts over studies and quotes one study's number; a title is chosen by the counts, never typed. A
study of another regime, or without the rows, is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from findings.ladder_page import Column

OPEN = "undecided"


class Sentence(NamedTuple):
    """A finding: its title, and its text in Markdown."""

    title: str
    text: str


class Tally(NamedTuple):
    """A claim over studies.

    Attributes:
        confirmed, refuted, other: how many studies say so; other: undecided or disputed.
        example: a ratio with its interval and study, of the study that decides; "" where none does.
    """

    confirmed: int
    refuted: int
    other: int
    example: str

    @property
    def studies(self) -> int:
        """All that can say something."""
        return self.confirmed + self.refuted + self.other

    def words(self) -> str:
        """Confirmed in 3 of 4 studies, refuted in 1."""
        if not self.studies:
            return "not measured"
        parts = [f"confirmed in {self.confirmed} of {self.studies}"] if self.confirmed else []
        parts += [f"refuted in {self.refuted} of {self.studies}"] if self.refuted else []
        parts += [f"undecided in {self.other} of {self.studies}"] if self.other else []
        return ", ".join(parts)

    def chosen(self, yes: str, no: str, mixed: str) -> str:
        """One of three titles: more than half of the studies confirm, more than half refute, or neither."""
        if 2 * self.confirmed > self.studies:
            return yes
        return no if 2 * self.refuted > self.studies else mixed


def tally(columns: Sequence[Column], identifier: str) -> Tally:
    """A claim's verdicts over the studies that can say something, and the clearest number among them."""
    verdicts: list[str] = []
    examples: list[tuple[float, str]] = []
    for column in columns:
        cell = column.cells.get(identifier)
        if cell is None or cell.verdict not in ("confirmed", "refuted", OPEN, "disputed"):
            continue
        verdicts.append(cell.verdict)
        for one in cell.comparisons:
            if one.get("verdict") == cell.verdict and "low" in one:
                width = one["high"] - one["low"]
                examples.append((abs(one["mean"]) / max(width, 1e-9), _ratio(one, column.name)))
                break
    confirmed, refuted = verdicts.count("confirmed"), verdicts.count("refuted")
    example = max(examples)[1] if examples else ""
    return Tally(confirmed, refuted, len(verdicts) - confirmed - refuted, example)


def _ratio(one: Mapping[str, Any], study: str) -> str:
    mean, low, high = (math.exp(one[key]) for key in ("mean", "low", "high"))
    dose = f" at {one['dose']}" if one["dose"] else ""
    return f"{one['quantity']}{dose} times {mean:.2f} [{low:.2f}, {high:.2f}] in {study}"


def sentences(columns: Sequence[Column]) -> list[Sentence]:
    """The findings of the ladder; none where no rung has results."""
    studies = [column for column in columns if column.rung != "5"]
    if not studies:
        return []
    t = {
        name: tally(studies, name)
        for name in ("L1a", "L1b", "L2a", "L2b", "L2d", "L3a", "L3b", "L5a", "L7a", "L7b", "L7c")
    }
    noisy = sum("step noise" in column.about["regimes"] for column in studies)
    memorised = sum("memorised" in column.about["regimes"] for column in studies)
    return [
        Sentence(
            t["L7a"].chosen("SAM finds flatter minima", "SAM does not flatten", "Whether SAM flattens depends"),
            f"At a radius chosen by the samples' quality, that it lowers the loss's rise under random weight noise is "
            f"{t['L7a'].words()} studies ({t['L7a'].example}). That EMA leaves that rise as it is: {t['L7b'].words()}; "
            f"that EMA lowers the rise in the worst direction, which random ones do not show: {t['L7c'].words()}.",
        ),
        Sentence(
            t["L1a"].chosen(
                "Where step noise is large, flatness helps raw weights",
                "Flatness does not help raw weights",
                "Whether flatness helps raw weights is mixed",
            ),
            f"In {noisy} studies the raw weights' loss is well above that of their average. There, the paper's claim "
            f"that SAM's raw weights sample better at a radius chosen by result is {t['L1a'].words()}"
            f"{_quoted(t['L1a'])}; that a larger radius undoes it: {t['L1b'].words()} of all.",
        ),
        Sentence(
            t["L2b"].chosen(
                "Averaging takes the gain away",
                "Averaged weights gain too",
                "Whether averaged weights gain is mixed",
            ),
            f"In the same studies, the paper's claim that SAM with EMA samples better than plain training with EMA is "
            f"{t['L2a'].words()}; ours that no radius helps there, not even the one chosen for the averaged rows, is "
            f"{t['L2b'].words()}{_quoted(t['L2b'])}. That averaging alone improves samples is {t['L2d'].words()}.",
        ),
        Sentence(
            t["L3b"].chosen(
                "Where a training set is memorised, flatness helps averaged weights too",
                "Where a training set is memorised, flatness does not help averaged weights",
                "Whether flatness helps where a training set is memorised is open",
            ),
            f"In {memorised} studies the EMA's held-out loss is well above its training loss. There, that flatness "
            f"lowers the held-out loss of averaged weights is {t['L3a'].words()}{_quoted(t['L3a'])}, and that it "
            f"improves their samples {t['L3b'].words()}{_quoted(t['L3b'])}.",
        ),
        Sentence(
            t["L5a"].chosen(
                "One pass with random weight noise does what SAM's two do",
                "Random weight noise does not replace SAM",
                "Whether random weight noise replaces SAM is mixed",
            ),
            f"At an equal fall of the rise its raw samples are within a tenth of SAM's: {t['L5a'].words()} studies.",
        ),
    ]


def _quoted(of: Tally) -> str:
    return f" ({of.example})" if of.example else ""
