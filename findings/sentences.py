"""What the ladder says, in plain sentences: written once, for the README, the report and the site.

A sentence counts verdicts over studies, under one condition a claim: that of the claim. Sizes are medians over the same
studies, whatever their verdict, so that no study is picked. A title is chosen by the counts, never typed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from findings.ladder import DISTANCES
from findings.ladder_claims import SAME, STEP_NOISE
from findings.ladder_page import DECIDABLE, STUDIES, TOY_RUNGS, Cell, Column, all_claims

RUNGS = {
    "0": "points in the plane (toy)",
    "1": "8 × 8 images (toy)",
    "2": "8 × 8 images (ADM)",
    "3": "16 × 16 images (ADM)",
    "4": "images (ADM, on a GPU)",
    "5": "the paper's tables",
}
"""What is learnt on a rung, and by what: ADM is the paper's network."""
DATA = {"mini": "all images", "mini-300": "300 images", "tiny": "all images"}
"""What a trained network's study trains on."""


class Sentence(NamedTuple):
    """A finding: its title, and its text in Markdown."""

    title: str
    text: str


class Tally(NamedTuple):
    """A claim over the studies that can say something.

    Attributes:
        confirmed, refuted, other: how many studies say so; other: undecided or disputed.
        changes: of every study the logarithm of the ratio that the claim compares first.
        closer: whether the ratio is of distances of samples, less of which is closer to the data.
        rungs: those of all studies.
        confirming: those of the studies that confirm.
        level: how many of the others have all their intervals within SAME of no change: open, and bounded.
    """

    confirmed: int
    refuted: int
    other: int
    changes: tuple[float, ...] = ()
    closer: bool = False
    rungs: frozenset[str] = frozenset()
    confirming: frozenset[str] = frozenset()
    level: int = 0

    @property
    def studies(self) -> int:
        """All that can say something."""
        return self.confirmed + self.refuted + self.other

    def words(self, *, size: bool = False) -> str:
        """For "it does so ...": in 3 of 4 studies (1 contradicted), in all 4 studies, for certain in none of 2 studies
        (2 open, 1 of them within 5%), not for certain in the one study (open).

        Args:
            size: whether the median of the changes is said too.
        """
        if not self.studies:
            return "in no study so far (not measured)"
        counts = ((self.refuted, "contradicted"), (self.other, "open"))
        single = self.studies == 1
        verdicts = ", ".join(word if single else f"{number} {word}" for number, word in counts if number)
        all_open = self.other == self.studies
        if single:
            counted = f"{'' if self.confirmed else 'not for certain ' if all_open else 'not '}in the one study"
        elif self.confirmed == self.studies:
            counted = f"in all {self.studies} studies"
        else:
            counted = f"{'for certain ' if all_open else ''}in {self.confirmed or 'none'} of {self.studies} studies"
        median = f"{'' if single else 'median '}{self.median()}" if size and self.changes else ""
        if self.level:
            all_ = self.level == self.other
            verdicts += f", {'' if single else 'all ' if all_ else f'{self.level} of them '}within {SAME:.0%}"
        notes = "; ".join(note for note in (verdicts, median) if note)
        return counted + (f" ({notes})" if notes else "")

    def median(self) -> str:
        """The median of the changes: "6.3% closer"."""
        return self._change(statistics.median(self.changes))

    def spread(self) -> str:
        """From the least change to the largest: "from 39% closer to 3.6% farther"."""
        return f"from {self._change(min(self.changes))} to {self._change(max(self.changes))}"

    def _change(self, log_ratio: float) -> str:
        less, more = ("closer", "farther") if self.closer else ("lower", "higher")
        return f"{percent(math.expm1(log_ratio))} {less if log_ratio < 0 else more}"

    def only_of(self) -> str:
        """The rung of all studies that confirm, where others are judged on other rungs; empty elsewhere."""
        if len(self.confirming) == 1 and len(self.rungs) > 1:
            return RUNGS[next(iter(self.confirming))]
        return ""

    def chosen(self, yes: str, no: str, mixed: str) -> str:
        """One of three titles: more than half of the studies confirm, more than half refute, or neither."""
        if 2 * self.confirmed > self.studies:
            return yes
        return no if 2 * self.refuted > self.studies else mixed


def study_words(study: str, regime: str = "") -> str:
    """A study for people who do not know its folder: "points in the plane (toy): fresh data, batch 16"."""
    rung = RUNGS[(TOY_RUNGS | STUDIES)[study]]
    of = regime.replace("fresh", "fresh data") or DATA.get(study, "")
    return f"{rung}: {of}" if of else rung


def tally(columns: Sequence[Column], identifier: str) -> Tally:
    """A claim's verdicts over the studies that can say something, and what they measured."""
    judged = [(c.rung, c.cells[identifier]) for c in columns if c.rung != "5" and identifier in c.cells]
    judged = [(rung, cell) for rung, cell in judged if cell.verdict in DECIDABLE]
    verdicts = [cell.verdict for _, cell in judged]
    confirmed, refuted = verdicts.count("confirmed"), verdicts.count("refuted")
    open_ = [cell for _, cell in judged if cell.verdict not in ("confirmed", "refuted")]
    first = [cell.comparisons[0] for _, cell in judged if cell.comparisons and "mean" in cell.comparisons[0]]
    return Tally(
        confirmed,
        refuted,
        len(open_),
        tuple(float(one["mean"]) for one in first),
        any(one["quantity"] in DISTANCES for one in first),
        frozenset(rung for rung, _ in judged),
        frozenset(rung for rung, cell in judged if cell.verdict == "confirmed"),
        sum(_level(cell) for cell in open_) if _of_ratios(identifier) else 0,
    )


def _of_ratios(identifier: str) -> bool:
    """Whether a claim compares logarithms of ratios."""
    return any(claim.identifier == identifier and claim.form == "log ratio" for claim in all_claims())


def _level(cell: Cell) -> bool:
    """Whether all intervals lie within SAME of no change."""
    ends = [end for one in cell.comparisons for end in (one.get("low", math.inf), one.get("high", math.inf))]
    return bool(ends) and all(abs(end) < SAME for end in ends)


def percent(share: float) -> str:
    """A share, without its sign, to two digits: 6.3%, 39%, 146%."""
    return f"{abs(share):.0%}" if abs(share) >= 0.0995 else f"{abs(share):.1%}"


def sentences(columns: Sequence[Column]) -> list[Sentence]:
    """The findings of the ladder, raw weights' second and averaged ones' third; none where no rung has results."""
    studies = [column for column in columns if column.rung != "5"]
    return [one(studies) for one in (_flatter, _raw, _averaged, _robust)] if studies else []


def _size(of: Tally, what: str) -> str:
    """The changes of a quantity as a sentence of their own, with a space before it."""
    if not of.changes:
        return ""
    if of.studies == 1:
        return f" {what} there: {of.median()}."
    return f" {what} in the median study: {of.median()}; over studies, {of.spread()}."


def _flatter(studies: Sequence[Column]) -> Sentence:
    sam, ema, worst = (tally(studies, name) for name in ("L7a", "L7b", "L7c"))
    return Sentence(
        sam.chosen("SAM finds flatter minima", "SAM does not flatten", "Whether SAM flattens depends on the study"),
        f"Random noise on the weights raises SAM's loss less {sam.words()}.{_size(sam, 'The rise')} An average of "
        f"the weights (EMA) leaves that rise as it is, within {SAME:.0%}, {ema.words()}, and lowers the rise in the "
        f"worst direction {worst.words(size=True)}.",
    )


def _raw(studies: Sequence[Column]) -> Sentence:
    better, turns = tally(studies, "L1a"), tally(studies, "L1b")
    which = "that one is" if better.confirmed == 1 else f"these {better.confirmed} are"
    where = f"; {which} of {better.only_of()}" if better.only_of() else ""
    return Sentence(
        f"Without averaging, SAM's samples are better {better.words()}{where}",
        "These are the studies with large step noise: the held-out loss of the weights as trained (raw) lies over "
        f"{STEP_NOISE:.0%} above that of their average. SAM's radius is chosen by its samples, as in the "
        f"paper.{_size(better, 'Their distance to the data')}"
        f" The largest radius samples worse than the chosen one {turns.words(size=True)}.",
    )


def _averaged(studies: Sequence[Column]) -> Sentence:
    theirs, best, again, alone, enough = (tally(studies, name) for name in ("L2a", "L2b", "L3b", "L2d", "L2e"))
    return Sentence(
        f"With averaging (EMA), SAM's samples are better {theirs.words()}",
        f"The same studies, at the same radius.{_size(theirs, 'Their distance to the data')} Even at the radius that "
        f"suits the average best they are level or worse {best.words()}. Where the training set is memorised they are "
        f"better at that radius {again.words(size=True)}. EMA alone improves plain training's samples "
        f"{alone.words(size=True)}, and samples better than SAM without averaging {enough.words(size=True)}.",
    )


def rounding(worse: Tally) -> str:
    """What most studies say of 8 bits, of the claim that plain training's samples then get visibly worse."""
    none = worse.studies and not worse.confirmed
    return worse.chosen(
        "rounding to 8 bits harms plain training",
        "rounding to 8 bits needs no SAM",
        f"{'no study shows that' if none else 'it is open whether'} rounding to 8 bits harms plain training",
    )


def _robust(studies: Sequence[Column]) -> Sentence:
    bias, as_before, worse, at_4 = (tally(studies, name) for name in ("L6a", "L8a", "L8b", "L8c"))
    return Sentence(
        f"Without averaging, SAM's exposure bias is lower {bias.words()}; {rounding(worse)}",
        f"Exposure bias is what errors made while sampling add up to.{_size(bias, 'Its size')} Rounded to 8 bits, "
        f"SAM's weights sample as before, within {SAME:.0%}, {as_before.words()}; plain training's sample visibly "
        f"worse, by more than {SAME:.0%}, {worse.words(size=True)}. Rounding to 4 bits raises SAM's loss less "
        f"{at_4.words(size=True)}.",
    )
