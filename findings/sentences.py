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

    def words(self, quote: bool = False) -> str:
        """For "it does so ...": in 3 of 4 studies (1 refuted), in none of 2 studies (2 undecided).

        Args:
            quote: also the example, in the same brackets.
        """
        if not self.studies:
            return "in no study so far (not measured)"
        rest = [f"{self.refuted} refuted"] if self.refuted else []
        rest += [f"{self.other} undecided"] if self.other else []
        plural = "study" if self.studies == 1 else "studies"
        inside = "; ".join([*([", ".join(rest)] if rest else []), *([self.example] if quote and self.example else [])])
        within = f" ({inside})" if inside else ""
        return f"in {self.confirmed or 'none'} of {self.studies} {plural}{within}"

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


WORDS = {
    "distance-20": "the distance of samples at T' = 20",
    "distance-100": "the distance of samples at T' = 100",
    "held_out_loss": "the held-out loss",
    "lpf_rise": "the rise",
    "worst_case_rise": "the rise in the worst direction",
}


def _ratio(one: Mapping[str, Any], study: str) -> str:
    mean, low, high = (math.exp(one[key]) for key in ("mean", "low", "high"))
    quantity = WORDS.get(one["quantity"], one["quantity"]) + (f" ({one['space']})" if "space" in one else "")
    dose = f", at the dose {one['dose']}," if one["dose"] else ""
    return f"{study}: {quantity}{dose} times {mean:.2f} [{low:.2f}, {high:.2f}]"


def sentences(columns: Sequence[Column]) -> list[Sentence]:
    """The findings of the ladder; none where no rung has results."""
    studies = [column for column in columns if column.rung != "5"]
    if not studies:
        return []
    memorised = [column for column in studies if "memorised" in column.about["regimes"]]
    noisy = [c for c in studies if "step noise" in c.about["regimes"]]
    fresh = [c for c in noisy if "memorised" not in c.about["regimes"]]
    return [_flatter(studies), _raw(noisy), _averaged(fresh), _memorised(memorised), _one_pass(studies)]


def _flatter(studies: Sequence[Column]) -> Sentence:
    sam, ema, worst = (tally(studies, name) for name in ("L7a", "L7b", "L7c"))
    return Sentence(
        sam.chosen("SAM finds flatter minima", "SAM does not flatten", "Whether SAM flattens depends"),
        "At the radius that its samples choose, SAM lowers the loss's rise under random weight noise "
        f"{sam.words(quote=True)}. EMA leaves that rise as it is {ema.words()}, and lowers the rise in the worst "
        f"direction, which random ones miss, {worst.words()}.",
    )


def _raw(studies: Sequence[Column]) -> Sentence:
    better, turns = tally(studies, "L1a"), tally(studies, "L1b")
    return Sentence(
        better.chosen(
            "Where step noise is large, flatness helps raw weights",
            "Flatness does not help raw weights",
            "Flatness helps raw weights in some studies"
            if better.confirmed and not better.refuted
            else "Whether flatness helps raw weights is mixed",
        ),
        "Step noise is large where the raw weights' loss lies well above that of their average, here in "
        f"{len(studies)} studies. SAM's raw weights, at a radius chosen by result as in the paper, sample better than "
        "plain training's "
        f"{better.words(quote=True)}; a larger radius undoes it {turns.words()}.",
    )


def _averaged(studies: Sequence[Column]) -> Sentence:
    theirs, ours, alone, enough = (tally(studies, name) for name in ("L2a", "L2b", "L2d", "L2e"))
    return Sentence(
        ours.chosen(
            "Averaging takes the gain away",
            "Averaged weights gain too",
            "Whether averaged weights gain is mixed",
        ),
        f"In the {len(studies)} of these in which nothing is memorised, SAM with EMA samples better than plain "
        f"training with EMA, as the paper claims, {theirs.words()}; no radius helps, not even the one that averaged "
        f"samples choose, {ours.words(quote=True)}. EMA alone improves samples {alone.words()}, and beats SAM's raw "
        f"weights at their best {enough.words()}.",
    )


def _memorised(studies: Sequence[Column]) -> Sentence:
    loss, samples = tally(studies, "L3a"), tally(studies, "L3b")
    where = "Where a training set is memorised, flatness"
    better = f"{where} improves averaged samples" + (", not held-out loss" if 2 * loss.refuted > loss.studies else "")
    return Sentence(
        samples.chosen(
            better,
            f"{where} does not help averaged weights",
            "Whether flatness helps where a training set is memorised is open",
        ),
        f"It is where the EMA's held-out loss lies well above its training loss, here in {len(studies)} studies. SAM "
        f"with EMA, at the radius that averaged samples choose, samples better {samples.words(quote=True)}; it "
        f"lowers the held-out loss {loss.words(quote=True)}.",
    )


def _one_pass(studies: Sequence[Column]) -> Sentence:
    same, better = tally(studies, "L5a"), tally(studies, "L5b")
    return Sentence(
        same.chosen(
            "One pass with random weight noise does what SAM's two do",
            "Random weight noise does not replace SAM",
            "Whether random weight noise replaces SAM is not settled",
        ),
        f"At an equal fall of the rise its raw samples are within a tenth of SAM's {same.words()}; at its chosen noise "
        f"they are better than plain training's {better.words(quote=True)}.",
    )
