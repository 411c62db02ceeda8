"""B5: does flatness go with small exposure bias, little damage by rounding, and good samples, over rows and snapshots?

A point is a row or a snapshot; a flatter one has a smaller number, and so has a better outcome, so the paper's claim is
a positive rank correlation. Points of one run are not independent: the interval that resamples points is one of these
points; the one that resamples runs stands where there are runs enough, and then decides. Resampling points says how
much the number depends on which were taken, and nothing of other runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import rankdata

from experiments.bridge.rows import INFINITE, By, Claim, Comparison, Entry, Rows
from findings import names
from findings.estimates import Cell
from findings.names import RowName
from findings.verdicts import LEVEL
from flatness import arguments

POSITIVE = (0.0, INFINITE)
FLATNESS = {
    "absolute-rise": "absolute LPF rise",
    "layer-rise": "layer-relative rise",
    "lpf": "raw LPF",
}
RESAMPLES = 2000
FEWEST_POINTS = 6
"""Fewer have too few different resamples for an interval: of 5 points every fourth leaves three or fewer."""
FEWEST_RUNS = 6


class Outcome(NamedTuple):
    """What a flatter point is said to have less of.

    Attributes:
        kind: "gap" of exposure bias, "rise" of the loss by rounding, "distance" of samples, or its "change" by that.
        steps: T'; None of a rise.
        bits: of the weights; None of a gap and a distance.
    """

    kind: str
    steps: int | None = None
    bits: int | None = None

    @property
    def name(self) -> str:
        """In identifiers."""
        if self.kind == "change":
            return f"distance-{self.steps}-change-{self.bits}"
        return f"{self.kind}-{self.bits if self.steps is None else self.steps}"

    @property
    def words(self) -> str:
        """In statements."""
        return {
            "gap": f"exposure bias (mean absolute gap, T'={self.steps})",
            "rise": f"the loss's rise at {self.bits} bits",
            "distance": f"the distance of samples, T'={self.steps}",
            "change": f"the distance's change at {self.bits} bits, T'={self.steps}",
        }[self.kind]


class Point(NamedTuple):
    """What is correlated.

    Attributes:
        run: to which it belongs.
        flatness: by the names of FLATNESS.
        outcomes: that it has.
    """

    run: str
    flatness: dict[str, float]
    outcomes: dict[Outcome, float]


def _flatness(whole: Mapping[str, Any]) -> dict[str, float]:
    absolute = whole["absolute"]
    return {
        "absolute-rise": absolute["rise"]["value"],
        "layer-rise": whole["layer"]["rise"]["value"],
        "lpf": absolute["loss"]["value"] + absolute["rise"]["value"],
    }


def points(rows: Rows, snapshots: Mapping[str, Mapping[str, Any]]) -> list[Point]:
    """All rows that have flatness, then all snapshots.

    Args:
        rows: of the folder.
        snapshots: documents of the first stage, by run.
    """
    points = []
    for entry in rows.entries:
        whole = entry.layered("whole")
        if whole is not None:
            points.append(Point(entry.run, _flatness(whole), _outcomes(entry)))
    for run, document in snapshots.items():
        for measure in document["measures"].values():
            if "whole" in measure:
                rounded = {
                    Outcome("rise", bits=int(bits)): one["value"] for bits, one in measure["quantization"].items()
                }
                points.append(Point(run, _flatness(measure["whole"]), rounded))
    return points


def _outcomes(entry: Entry) -> dict[Outcome, float]:
    """Whatever the row has of rounding, exposure bias and distances, in the order in which it was measured."""
    if entry.row is None:
        return {}
    options = entry.row["settings"]["evaluation"]
    outcomes: dict[Outcome, float] = {}
    for bits in options["rise_bits"]:
        if (measure := entry.measure(names.quantization(bits))) is not None:
            outcomes[Outcome("rise", bits=bits)] = measure["rise"]["value"]
    for steps in options["sampling_steps"]:
        if (measure := entry.measure(names.exposure(steps))) is not None:
            outcomes[Outcome("gap", steps)] = measure[names.GAP]["value"]
    for steps in options["sampling_steps"]:
        full = entry.measure(names.distance(steps))
        if full is None:
            continue
        outcomes[Outcome("distance", steps)] = full["value"]
        for bits in options["bits"]:
            if (measure := entry.measure(names.distance(steps, bits))) is not None:
                outcomes[Outcome("change", steps, bits)] = measure["value"] - full["value"]
    return outcomes


def claims(rows: Rows, snapshots: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    """One for each pair of a flatness and an outcome."""
    every = points(rows, snapshots)
    outcomes = list(dict.fromkeys(outcome for point in every for outcome in point.outcomes))
    claims = []
    for flat, words in FLATNESS.items():
        for outcome in outcomes:
            there = [point for point in every if outcome in point.outcomes]
            x, y = [point.flatness[flat] for point in there], [point.outcomes[outcome] for point in there]
            statement = f"Flatter rows ({words}) have less of {outcome.words}"
            where = "layers/*.json: measures.whole; layers/*-snapshots.json; rows/*.json"
            claims.append(_claim(f"B5-{flat}-{outcome.name}", statement, x, y, [point.run for point in there], where))
    return claims


def printed(numbers: Mapping[str, Any]) -> list[Claim]:
    """The same of the numbers that the paper prints: its LPF against its FID, and against what rounding does to it.

    Args:
        numbers: the file of the paper's numbers; data sets and tables that it lacks are left out.
    """
    claims = []
    fid, lpf = numbers.get("fid", {}), numbers.get("lpf", {})
    rounded = numbers.get("fid_at_8_bits", {})
    for dataset, flat in lpf.items():
        if not isinstance(flat, Mapping):
            continue
        for steps, distances in fid.get(dataset, {}).items():
            claims.append(
                _of_table(
                    f"B5p-{dataset}-{steps}", f"{dataset}: lower LPF goes with lower FID, T'={steps}", flat, distances
                )
            )
            eight = rounded.get(dataset, {}).get(steps)
            if isinstance(eight, Mapping) and isinstance(distances, Mapping):
                change = {row: value - distances[row] for row, value in eight.items() if row in distances}
                says = f"{dataset}: lower LPF goes with less change of the FID at 8 bits, T'={steps}"
                claims.append(_of_table(f"B5p-{dataset}-{steps}-8", says, flat, change))
    return [claim for claim in claims if claim is not None]


def _of_table(identifier: str, statement: str, flat: Mapping[str, Any], other: Any) -> Claim | None:
    if not isinstance(other, Mapping):
        return None
    shared = [row for row in flat if row in other and all(_number(side[row]) for side in (flat, other))]
    if len(shared) < 2:
        return None
    x, y = ([float(side[row]) for row in shared] for side in (flat, other))
    where = "paper_numbers.json: lpf, fid, fid_at_8_bits (Tables 2 to 5)"
    runs = [RowName.of(row).method for row in shared]
    claim = _claim(identifier, f"{statement} (the paper's {len(shared)} rows)", x, y, runs, where)
    return dataclasses.replace(claim, printed=True)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _claim(
    identifier: str, statement: str, x: Sequence[float], y: Sequence[float], runs: Sequence[str], where: str
) -> Claim:
    """Resampled by runs where there are enough, else by points; without an interval where these are too few too."""
    comparisons: tuple[Comparison, ...] = ()
    note = f"Fewer than two points: {len(x)}."
    if len(x) >= 2:
        by_point = rank_correlation(x, y)
        by_run = rank_correlation(x, y, runs)
        enough = math.isfinite(by_run.low)
        chosen = by_run if enough else by_point
        label = f"Spearman over {by_point.points} points of {by_run.runs} runs"
        if math.isfinite(chosen.value):
            comparisons = (Comparison(label, (Cell(chosen.value),), (chosen.low, chosen.high)),)
        note = _note(by_point, by_run, enough)
    return Claim(
        identifier, statement, By("paper", "paper (Remark 3.10, Section 4)"), POSITIVE, comparisons,
        "Spearman's rank correlation; percentiles of a bootstrap", where, note=note,
    )  # fmt: skip


def _note(by_point: Correlation, by_run: Correlation, enough: bool) -> str:
    if not math.isfinite(by_point.value):
        return "One of the two does not vary."
    if not math.isfinite(by_point.low):
        return f"{by_point.points} points: no interval from fewer than {FEWEST_POINTS}."
    if enough:
        return f"{by_run.runs} runs resampled; over points as if independent [{by_point.low:.2f}, {by_point.high:.2f}]."
    return (
        f"{by_point.points} points of {by_run.runs} runs, resampled as if independent, which those of one run are not: "
        f"an interval over runs needs {FEWEST_RUNS}."
    )


class Correlation(NamedTuple):
    """A rank correlation.

    Attributes:
        value: Spearman's, NaN where one of the two does not vary.
        low, high: percentiles of the bootstrap; NaN where there are too few points, or runs.
        points: how many.
        runs: to which they belong.
    """

    value: float
    low: float
    high: float
    points: int
    runs: int


def spearman(x: Float[ndarray, "*many n"], y: Float[ndarray, "*many n"]) -> Float[ndarray, "*many"]:
    """Spearman's rank correlation along the last axis, ties at their mean rank; NaN where one side does not vary."""
    ranks = [rankdata(side, axis=-1) for side in (x, y)]
    a, b = (side - side.mean(-1, keepdims=True) for side in ranks)
    size = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(size > 0, np.clip((a * b).sum(-1) / size, -1.0, 1.0), np.nan)


def rank_correlation(
    x: Sequence[float],
    y: Sequence[float],
    runs: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Correlation:
    """Spearman's rank correlation with the percentile interval of a bootstrap.

    Args:
        x, y: one number a point.
        runs: the run that each point belongs to, to resample runs; None to resample points.
        resamples: of the bootstrap; those in which one side does not vary are left out.
        level: of the interval.
        seed: of the resamples.

    Raises:
        ValueError: lengths differ, fewer than two points, numbers that are not finite, a level outside (0, 1).
    """
    first, second = (np.asarray(side, dtype=float) for side in (x, y))
    if first.ndim != 1 or len(first) < 2 or not np.isfinite(first).all():
        raise arguments.refuse("x", x, "at least two finite numbers")
    if second.shape != first.shape or not np.isfinite(second).all():
        raise arguments.refuse("y", y, f"{len(first)} finite numbers, as of x")
    if runs is not None and len(runs) != len(first):
        raise arguments.refuse("runs", runs, f"{len(first)} names, as of x")
    level = arguments.number("level", level, above=0.0)
    if level >= 1:
        raise arguments.refuse("level", level, "below 1")
    resamples = arguments.count("resamples", resamples, at_least=1)
    value = float(spearman(first, second))
    number = len(first) if runs is None else len(set(runs))
    fewest = FEWEST_POINTS if runs is None else FEWEST_RUNS
    low = high = float("nan")
    if number >= fewest and np.isfinite(value):
        places = _resampled(len(first), runs, resamples, np.random.default_rng(seed))
        samples = np.concatenate([spearman(first[chosen], second[chosen]) for chosen in places])
        low, high = np.nanquantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return Correlation(value, float(low), float(high), len(first), len(set(runs)) if runs is not None else number)


def _resampled(
    points: int, runs: Sequence[str] | None, resamples: int, generator: np.random.Generator
) -> list[Int[ndarray, "B n"]]:
    """Places of the points of each resample, those of equally many together; of whole runs where runs are given."""
    if runs is None:
        return [generator.integers(points, size=(resamples, points))]
    names = sorted(set(runs))
    places = [np.flatnonzero([run == name for run in runs]) for name in names]
    chosen = generator.integers(len(names), size=(resamples, len(names)))
    lengths = np.array([len(of_run) for of_run in places])[chosen].sum(1)
    return [
        np.stack([np.concatenate([places[run] for run in of_one]) for of_one in chosen[lengths == length]])
        for length in np.unique(lengths)
    ]
