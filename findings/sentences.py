"""What the ladder says, in plain sentences: written once, for the README, the report and the site.

A sentence counts verdicts over studies and quotes one study's number; a title is chosen by the counts, never typed. A
study of another regime, or without the rows, is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from findings.ladder_page import DECIDABLE, Column

OPEN = "undecided"
RUNGS = {
    "0": "points in the plane (toy)",
    "1": "8 × 8 images (toy)",
    "2": "8 × 8 images (ADM)",
    "3": "16 × 16 images (ADM)",
    "4": "images (ADM, on a GPU)",
    "5": "the paper's tables",
}
"""What is learnt on a rung, and by what."""


class Sentence(NamedTuple):
    """A finding: its title, and its text in Markdown."""

    title: str
    text: str


class Tally(NamedTuple):
    """A claim over studies.

    Attributes:
        confirmed, refuted, other: how many studies say so; other: undecided or disputed.
        example: a change with its interval and study, of the study that decides most clearly; "" where none does.
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
        """For "it does so ...": in 3 of 4 studies (contradicted in 1), in none of 2 studies (open in 2)."""
        if not self.studies:
            return "in no study so far (not measured)"
        rest = [f"contradicted in {self.refuted}"] if self.refuted else []
        rest += [f"open in {self.other}"] if self.other else []
        plural = "study" if self.studies == 1 else "studies"
        within = f" ({', '.join(rest)})" if rest else ""
        return f"in {self.confirmed or 'none'} of {self.studies} {plural}{within}"

    def either_way(self, yes: str, no: str) -> str:
        """How a claim with a direction stands: "better in 3 of 10 studies, worse in 2, open in 5"."""
        if not self.studies:
            return "not measured so far"
        counts = ((yes, self.confirmed), (no, self.refuted), ("open", self.other))
        first, *rest = [(name, number) for name, number in counts if number]
        of = f"{first[0]} in {first[1]} of {self.studies} {'study' if self.studies == 1 else 'studies'}"
        return ", ".join([of, *(f"{name} in {number}" for name, number in rest)])

    def chosen(self, yes: str, no: str, mixed: str) -> str:
        """One of three titles: more than half of the studies confirm, more than half refute, or neither."""
        if 2 * self.confirmed > self.studies:
            return yes
        return no if 2 * self.refuted > self.studies else mixed


def tally(columns: Sequence[Column], identifier: str) -> Tally:
    """A claim's verdicts over the studies that can say something, and the clearest number among them.

    The example is of a study that confirms, where one does, else of one that refutes.
    """
    verdicts: list[str] = []
    examples: list[tuple[bool, float, str]] = []
    for column in columns:
        cell = column.cells.get(identifier)
        if cell is None or cell.verdict not in DECIDABLE:
            continue
        verdicts.append(cell.verdict)
        if cell.verdict not in ("confirmed", "refuted"):
            continue
        for one in cell.comparisons:
            if one.get("verdict") == cell.verdict and "low" in one:
                width = one["high"] - one["low"]
                clear = abs(one["mean"]) / max(width, 1e-9)
                examples.append((cell.verdict == "confirmed", clear, f"{changed(one)}, for {study_words(column)}"))
                break
    confirmed, refuted = verdicts.count("confirmed"), verdicts.count("refuted")
    example = max(examples)[2] if examples else ""
    return Tally(confirmed, refuted, len(verdicts) - confirmed - refuted, example)


def study_words(column: Column) -> str:
    """A study for people who do not know its folder."""
    rung = RUNGS.get(column.rung, column.study)
    regime = column.regime.replace("fresh", "fresh data")
    return f"{rung.removesuffix(')')}; {regime})" if regime else rung


CHANGES = {
    "distance-20": ("samples lie", "closer to the data", "farther from the data"),
    "distance-100": ("samples of 100 steps lie", "closer to the data", "farther from the data"),
    "held_out_loss": ("the held-out loss is", "lower", "higher"),
    "lpf_rise": ("the rise is", "lower", "higher"),
    "worst_case_rise": ("the rise in the worst direction is", "lower", "higher"),
    "mean_absolute_gap-20": ("exposure bias is", "lower", "higher"),
    "mean_absolute_gap-100": ("exposure bias over 100 steps is", "lower", "higher"),
}
"""Of a quantity, what it does, and the words for less and for more of it."""


def changed(one: Mapping[str, Any]) -> str:
    """A comparison's log ratio as a change in percent, with its interval.

    "samples lie 39% (29 to 47%) closer to the data"; an interval on both sides of no change says both ends.
    """
    what, less, more = CHANGES.get(one["quantity"], (f"{one['quantity']} is", "lower", "higher"))
    mean, low, high = (100 * math.expm1(one[key]) for key in ("mean", "low", "high"))
    if low < 0 < high:
        return f"{what} between {_percent(low)} {less} and {_percent(high)} {more}"
    ends = sorted((abs(low), abs(high)))
    interval = f"{_percent(ends[0]).removesuffix('%')} to {_percent(ends[1])}"
    return f"{what} {_percent(mean)} ({interval}) {less if mean < 0 else more}"


def _percent(of: float) -> str:
    return f"{abs(of):.0f}%" if abs(of) >= 9.95 else f"{abs(of):.1f}%"


def regimes(columns: Sequence[Column]) -> tuple[list[Column], list[Column], list[Column]]:
    """The studies whose step noise is large, those of them in which nothing is memorised, and those where a set is."""
    studies = [column for column in columns if column.rung != "5"]
    noisy = [c for c in studies if "step noise" in c.about["regimes"]]
    fresh = [c for c in noisy if "memorised" not in c.about["regimes"]]
    return noisy, fresh, [c for c in studies if "memorised" in c.about["regimes"]]


def sentences(columns: Sequence[Column]) -> list[Sentence]:
    """The findings of the ladder, raw weights' second and averaged ones' third; none where no rung has results."""
    studies = [column for column in columns if column.rung != "5"]
    if not studies:
        return []
    noisy, fresh, memorised = regimes(studies)
    return [_flatter(studies), _raw(noisy), _averaged(fresh, memorised), _robust(studies)]


def _quoted(of: Tally) -> str:
    """The example as a sentence of its own, with a space before it."""
    return f" Clearest: {of.example}." if of.example else ""


def _flatter(studies: Sequence[Column]) -> Sentence:
    sam, ema, worst = (tally(studies, name) for name in ("L7a", "L7b", "L7c"))
    return Sentence(
        sam.chosen("SAM finds flatter minima", "SAM does not flatten", "Whether SAM flattens depends on the study"),
        f"The paper's claim that random noise on the weights raises SAM's loss less holds {sam.words()}.{_quoted(sam)} "
        f"An average of the weights (EMA) leaves that rise as it is {ema.words()}, and lowers the rise in the worst "
        f"direction {worst.words()}.",
    )


def _raw(studies: Sequence[Column]) -> Sentence:
    better, turns = tally(studies, "L1a"), tally(studies, "L1b")
    how = better.either_way("better", "worse")
    return Sentence(
        f"Without averaging, SAM's samples are {how}" if better.studies else "SAM without averaging is not measured",
        "These are the studies with large step noise: the loss of the weights as trained (raw) lies well above that "
        f"of their average. SAM's radius is chosen by its samples, as in the paper.{_quoted(better)} The largest "
        f"radius samples worse than the chosen one {turns.words()}.",
    )


def _averaged(fresh: Sequence[Column], memorised: Sequence[Column]) -> Sentence:
    theirs, best, alone, enough = (tally(fresh, name) for name in ("L2a", "L2b", "L2d", "L2e"))
    again = tally(memorised, "L3b")
    how = theirs.either_way("better", "worse")
    return Sentence(
        f"With averaging (EMA), SAM's samples are {how}" if theirs.studies else "SAM with averaging is not measured",
        f"That is where step noise is large and nothing is memorised.{_quoted(theirs)} Even the radius that suits the "
        f"average best leaves samples level or worse {best.words()}. EMA alone improves samples {alone.words()}, and "
        f"beats SAM's raw weights at their best {enough.words()}. Where the training set is memorised, SAM with EMA at "
        f"its best radius is {again.either_way('better', 'worse')}.",
    )


def _robust(studies: Sequence[Column]) -> Sentence:
    bias, as_before, worse, at_4 = (tally(studies, name) for name in ("L6a", "L8a", "L8b", "L8c"))
    rounding = worse.chosen(
        "rounding to 8 bits harms plain training",
        "rounding to 8 bits needs no SAM",
        "whether rounding to 8 bits harms plain training is open",
    )
    return Sentence(
        f"SAM's exposure bias is {bias.either_way('lower', 'higher')}; {rounding}",
        f"Exposure bias is what errors made while sampling add up to.{_quoted(bias)} Rounded to 8 bits, SAM's weights "
        f"sample as before {as_before.words()}; the paper's claim that plain training's then sample visibly worse "
        f"holds {worse.words()}. At 4 bits SAM's loss rises less {at_4.words()}.",
    )
