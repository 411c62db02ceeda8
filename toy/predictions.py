"""P1 to P9 as data: what is claimed, by whom, how it is measured, and in which region the numbers must lie.

A comparison takes a measure of one row (a regime and a method, see `toy.study`) and, where given, of a baseline row or
of a second measure; its number a seed is

    "change"      log(a / b), of which mean and interval are given as a / b - 1: -0.2 is a fifth less, and no interval
                  reaches -1; of measures that are above zero, and the form of these where none is named
    "excess"      (a - b) / mean of b over seeds: the same for measures that may be negative
    "difference"  a - b
    "ratio"       a / b
    "value"       a

The verdicts are computed by `findings.verdicts` and nowhere else. A claim that comes out refuted is a result.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from findings import verdicts
from findings.names import PAPER_METHODS, PAPER_RADIUS, SUFFIXES, group_of
from findings.verdicts import Interval, Outcome, Region, mean_interval
from flatness import arguments

Table = Mapping[str, Mapping[str, ndarray]]
"""Measures by row and name, one number a seed."""
REVISED = ("added", "restated")
FORMS = ("change", "excess", "difference", "ratio", "value")
POSITIVE = (
    "absolute_gap_20", "absolute_gap_100", "balanced_rise", "energy_times_norm", "feature_energy", "lpf", "lpf_rise",
    "relative_rise", "sw_20", "sw_100",
)  # fmt: skip
"""Measures that are above zero in every seed, so that their change is a ratio."""
SWEEP = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""SAM's radii of P2; the paper's are 1e-3, 1e-2 and 1e-1."""
BITS = (8, 4, 3)
COUNTS = (20, 100)
LARGEST = 100.0
"""A logarithm beyond this is written as this: with two seeds an interval may end anywhere."""
SAME = 0.05
"""Margin within which a method that "does not flatten" must leave a measure; SAM changes it by a factor of several."""


@dataclass(frozen=True)
class Comparison:
    """One number a seed, and where its mean must lie."""

    row: str
    measure: str
    region: Region
    baseline: str = ""
    against: str = ""
    form: str = ""

    def __post_init__(self) -> None:
        """Check the form; the measure's own where none is named."""
        if not self.form:
            object.__setattr__(self, "form", "change" if self.measure in POSITIVE and not self.against else "excess")
        arguments.choice("form", self.form, FORMS)

    @property
    def label(self) -> str:
        """What is compared with what."""
        other = f"{self.baseline or self.row}: {self.against or self.measure}"
        return f"{self.row}: {self.measure}" + ("" if self.form == "value" else f" against {other}")

    def interval(self, table: Table, comparisons: int) -> Interval:
        """Of the mean over seeds, where so many are meant to hold at once.

        Raises:
            KeyError: a row or measure that the table lacks.
            ValueError: numbers that are not finite, fewer than two seeds.
        """
        interval = mean_interval(self.numbers(table), comparisons)
        if self.form_in(table) != "change":
            return interval
        mean, low, high = (math.expm1(min(value, LARGEST)) for value in (interval.mean, interval.low, interval.high))
        return dataclasses.replace(interval, mean=mean, low=low, high=high)

    def form_in(self, table: Table) -> str:
        """The form, "excess" for a change where a number is not above zero: a model that is far from any minimum.

        Raises:
            KeyError: a row or measure that the table lacks.
        """
        both = [table[self.row][self.measure], table[self.baseline or self.row][self.against or self.measure]]
        return "excess" if self.form == "change" and min(np.min(one) for one in both) <= 0 else self.form

    def numbers(self, table: Table) -> ndarray:
        """One number a seed.

        Raises:
            KeyError: a row or measure that the table lacks.
        """
        form = self.form_in(table)
        first = np.asarray(table[self.row][self.measure], dtype=float)
        if form == "value":
            return first
        second = np.asarray(table[self.baseline or self.row][self.against or self.measure], dtype=float)
        if form == "change":
            return np.log(first / second)
        if form == "ratio":
            return first / second
        return first - second if form == "difference" else (first - second) / second.mean()


@dataclass(frozen=True)
class Prediction:
    """A claim.

    Attributes:
        identifier: P and a number, and a letter.
        statement: what is claimed.
        source: "theory" (proved for the model, to be seen in numbers), "paper" or "question".
        expected: what theory says, a number or a sign.
        measured: how it is measured.
        comparisons: all must lie in their regions.
        revised: "added" or "restated", of what was so after the results of a first run had been seen; "" otherwise.

    Raises:
        ValueError: revised is none of these.
    """

    identifier: str
    statement: str
    source: str
    expected: str
    measured: str
    comparisons: tuple[Comparison, ...]
    revised: str = ""

    def __post_init__(self) -> None:
        """Check what was revised."""
        arguments.choice("revised", self.revised, ("", *REVISED))

    @property
    def group(self) -> str:
        """P1, ..., P9: the comparisons of a group are corrected together."""
        return group_of(self.identifier)

    @property
    def regions(self) -> tuple[Region, ...]:
        """Of the comparisons."""
        return tuple(comparison.region for comparison in self.comparisons)


def judge(table: Table, predictions: Sequence[Prediction]) -> list[Outcome[Prediction]]:
    """The outcome of each prediction.

    Raises:
        KeyError: a row or measure that the table lacks.
        ValueError: numbers that are not finite, fewer than two seeds.
    """
    return verdicts.judge(predictions, lambda one, comparisons: one.interval(table, comparisons))


def learnt(method: str) -> str:
    """The row of a method whose features are learnt."""
    return f"learnt/{method}"


def frozen(method: str) -> str:
    """The row of a method whose features are frozen."""
    return f"frozen/{method}"


def at_radius(rho: float) -> str:
    """The row of SAM at a radius; that of the nine methods where it is theirs."""
    return learnt("sam" if rho == PAPER_RADIUS else f"sam rho={rho:g}")


def sam_against_adm(measure: str, region: Region, form: str = "") -> tuple[Comparison, ...]:
    """SAM against ADM, each pair with the same averaging."""
    return tuple(Comparison(learnt("sam" + a), measure, region, learnt("adm" + a), form=form) for a in SUFFIXES)


def stopped(method: str) -> str:
    """The row of a method with learnt features, stopped where its training loss reaches SAM's final one."""
    return f"equal/{method}"


def averaging(measure: str, region: Region, average: str) -> tuple[Comparison, ...]:
    """An average against the raw weights of the same run."""
    return tuple(Comparison(learnt(f"{m}+{average}"), measure, region, learnt(m)) for m in PAPER_METHODS)
