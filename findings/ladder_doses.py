"""Every row of every rung by dose: how flat, how good its samples, raw and averaged apart, at what cost.

Where `ladder_page` says what is decided, this says what was measured: for each study a line a method and dose, each
number a ratio to plain training with the same weights and seeds, so that no sentence need rest on one radius.

The dimensionless dose of SAM is rho E|grad L_B| / L of the raw weights at the end of training: the share of the loss by
which the ascent climbs, to first order (T12). Of plain training it is given for a radius of 1; a radius for a wanted
dose on another model follows from that model's own E|grad L_B| / L.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from findings.estimates import significant
from findings.ladder import LOSS, RISE, VALUE, LadderError, Measure, RowKey, RunKey, Study
from findings.ladder_claims import AS_WELL, LEVEL, Selection, Weights

WORST = Measure("worst_case_rise")
GRADIENT, TRAINED_LOSS = Measure("gradient_norm"), Measure("trained_loss")
SAMPLES = ("distance-20", "distance-100")
FLATNESS: tuple[Measure, ...] = (VALUE, RISE, WORST)
WEIGHTS: tuple[Weights, ...] = ("raw", "ema")
BEST_RAW = "best raw"
MOST_PASSES = 1.2
"""Gradients a step up to which a method counts as cheaper than SAM, which takes two."""


class Ratio(NamedTuple):
    """To plain training with the same weights: the geometric mean over seeds and its interval at LEVEL."""

    value: float
    low: float
    high: float


class DoseRow(NamedTuple):
    """A method at a dose.

    Attributes:
        method, dose: of the runs; plain training has the dose 0.
        roles: for what the dose was chosen or matched, in words.
        relative_dose: rho E|grad L_B| / L; None where there is no radius, or it was not measured.
        passes: gradients a step, in the mean; None where the results do not say.
        ratios: by weights and measure; what was not measured is left out.
        scatter: standard deviation of log distance at T' = 20 over the late points of a run, in the root mean square
            over seeds, then over seeds of the late points' mean: by space; none where the end alone was measured.
    """

    method: str
    dose: float
    roles: tuple[str, ...]
    relative_dose: float | None
    passes: float | None
    ratios: dict[tuple[Weights, Measure], Ratio]
    scatter: dict[str, tuple[float, float]]

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        numbers = [
            {"weights": weights, "quantity": measure.name, "space": measure.space}
            | {end: significant(getattr(ratio, end)) for end in ratio._fields}
            for (weights, measure), ratio in self.ratios.items()
        ]
        about = {"method": self.method, "dose": self.dose, "roles": list(self.roles), "passes": self.passes}
        relative = None if self.relative_dose is None else significant(self.relative_dose)
        scatter = [
            {"space": space, "within_a_run": significant(within), "between_seeds": significant(between)}
            for space, (within, between) in self.scatter.items()
        ]
        return {**about, "relative_dose": relative, "ratios": numbers, "scatter": scatter}


def dose_rows(study: Study) -> list[DoseRow]:
    """A row for plain training, then one a method and dose, methods as they come in the study."""
    rows = [_row(study, "adm", 0.0, ())]
    for method in study.methods:
        roles = _roles(study, method)
        rows += [_row(study, method, dose, tuple(roles.get(dose, ()))) for dose in study.doses(method)]
    return rows


def _row(study: Study, method: str, dose: float, roles: tuple[str, ...]) -> DoseRow:
    ratios = {}
    for weights in WEIGHTS:
        measures = [LOSS, *(FLATNESS if weights == "raw" else (RISE, WORST))]
        for measure in [*measures, *(one for name in SAMPLES for one in study.measures(name))]:
            ratio = _ratio(study, RowKey(method, dose, weights), measure) if method != "adm" else None
            if ratio is not None:
                ratios[weights, measure] = ratio
    relative, passes = relative_dose(study, method, dose), study.passes(method, dose)
    return DoseRow(method, dose, roles, relative, passes, ratios, _scatter(study, method, dose))


def _ratio(study: Study, row: RowKey, measure: Measure) -> Ratio | None:
    try:
        interval = study.log_ratio(row, row.plain, measure)
    except (LadderError, ValueError):  # not measured, not above zero in every seed, or one seed
        return None
    return Ratio(*(math.exp(end) for end in (interval.mean, interval.low, interval.high)))


def relative_dose(study: Study, method: str, dose: float) -> float | None:
    """rho E|grad L_B| / L of a method's raw weights; None where there is no radius, or it was not measured."""
    radius = 1.0 if method == "adm" else dose
    if method != "adm" and "sam" not in method.split():
        return None  # noise has no gradient in it, and an ASAM radius is in other units
    try:
        norms, losses = (study.numbers(method, dose, "raw", measure) for measure in (GRADIENT, TRAINED_LOSS))
    except LadderError:
        return None
    return radius * float(np.mean(norms / losses))


def _roles(study: Study, method: str) -> dict[float, list[str]]:
    roles: dict[float, list[str]] = {}
    for which, weights, words in (
        ("chosen", "raw", BEST_RAW),
        ("chosen for the average", "ema", "best EMA"),
    ):
        try:
            dose = study.dose_of(Selection(method, weights, which))  # type: ignore[arg-type]
        except LadderError:
            continue
        if isinstance(dose, float):
            roles.setdefault(dose, []).append(words)
    return roles


def _scatter(study: Study, method: str, dose: float) -> dict[str, tuple[float, float]]:
    scatter = {}
    for measure in study.measures(SAMPLES[0]):
        try:
            late = [np.log(study.late(RunKey(method, dose, seed), measure)) for seed in study.seeds]
        except LadderError:
            continue
        if all(len(one) > 1 for one in late) and len(late) > 1:
            within = math.sqrt(float(np.mean([one.var(ddof=1) for one in late])))
            scatter[measure.space] = (within, float(np.std([one.mean() for one in late], ddof=1)))
    return scatter


class StudyRows(NamedTuple):
    """A study's rows, with what it is called."""

    rung: str
    name: str
    seeds: int
    rows: list[DoseRow]

    @property
    def sam(self) -> DoseRow | None:
        """SAM's at the radius whose raw samples are best; None where there is none, or its rise is no ratio."""
        rows = (row for row in self.rows if row.method == "sam" and BEST_RAW in row.roles)
        return next((row for row in rows if ("raw", RISE) in row.ratios), None)

    @property
    def cheaper(self) -> list[DoseRow]:
        """Of each method of few passes the least dose at which its raw weights are as flat as SAM's."""
        least: dict[str, DoseRow] = {}
        if self.sam is None:
            return []
        limit = self.sam.ratios["raw", RISE].value
        for row in sorted(self.rows, key=lambda row: row.dose):
            rise = row.ratios.get(("raw", RISE))
            few = row.passes is not None and row.passes <= MOST_PASSES
            if few and rise is not None and rise.value <= limit:
                least.setdefault(row.method, row)
        return list(least.values())

    def samples_as_well(self, row: DoseRow) -> bool:
        """Whether the raw samples of a row are as good as SAM's, in every space, at T' = 20."""
        keys = [key for key in row.ratios if key[0] == "raw" and key[1].name == SAMPLES[0]]
        if self.sam is None or not keys:
            return False
        return all(math.log(row.ratios[key].value / self.sam.ratios[key].value) < AS_WELL for key in keys)


def document(studies: Iterable[StudyRows]) -> dict[str, Any]:
    """For machines."""
    return {
        "version": 1,
        "what": "every method and dose of the ladder: ratios to plain training with the same weights and seeds",
        "level": LEVEL,
        "studies": [
            {
                "rung": one.rung,
                "name": one.name,
                "seeds": one.seeds,
                "cheaper": [
                    {"method": row.method, "dose": row.dose, "samples_as_well": one.samples_as_well(row)}
                    for row in one.cheaper
                ],
                "rows": [row.entry() for row in one.rows],
            }
            for one in studies
        ],
    }


def page(studies: Sequence[StudyRows]) -> str:
    """For people: a table a study."""
    lines = [
        "# Every dose",
        "",
        "Each number is a ratio to plain training with the same weights and seeds: the geometric mean over seeds and, "
        f"in brackets, Student's interval at {LEVEL:.0%} for that one number (what is decided, with the correction for "
        "many comparisons, is in [claims by rung](claims.md)). Below 1 is flatter, or better. Dose: SAM's radius, or "
        "the standard deviation of the weights' noise, absolute; E|g|/L: SAM's dimensionless dose, of plain training "
        "for a radius of 1; passes: gradients a step. best raw, best EMA: the dose chosen by the samples' distance at "
        "T' = 20, on noise and images apart from those reported here. Written by `python -m findings`.",
        "",
        *_by_pass(studies),
    ]
    for one in studies:
        lines += ["", f"## {one.rung}: {one.name}", "", f"{one.seeds} seeds.", "", *_table(one.rows)]
        lines += _scatter_table(one.rows)
    return "\n".join([*lines, ""])


def _by_pass(studies: Sequence[StudyRows]) -> list[str]:
    """Whether anything has SAM's effect at less than its cost."""
    tried = [
        one for one in studies if one.sam and any(row.dose and (row.passes or 2) <= MOST_PASSES for row in one.rows)
    ]
    well = [one for one in tried if any(one.samples_as_well(row) for row in one.cheaper)]
    return [
        "## What a pass buys",
        "",
        f"SAM takes two gradients a step. Of each method that takes at most {MOST_PASSES:g}, the least dose at which "
        "its raw weights are as flat as SAM's at the radius whose raw samples are best, by the mean rise under weight "
        f"noise: there is one in {sum(bool(one.cheaper) for one in tried)} of {len(tried)} studies, and in {len(well)} "
        f"one that samples as well (less than {AS_WELL:.0%} farther than SAM's, in the mean). Means, without a "
        "correction; a claim on the two that are equally flat is decided in [claims by rung](claims.md).",
        *(line for one in tried for line in ["", f"{one.rung}: {one.name}", "", *_table_by_pass(one)]),
    ]


def _table_by_pass(study: StudyRows) -> list[str]:
    rows = [row for row in (study.sam, *study.cheaper) if row is not None]
    keys = dict.fromkeys(key for row in rows for key in row.ratios)
    return _table(rows, [key for key in keys if key[1].name in (RISE.name, SAMPLES[0])])


def _table(rows: Sequence[DoseRow], keys: Sequence[tuple[Weights, Measure]] = ()) -> list[str]:
    """A line a row.

    Args:
        rows: methods and doses.
        keys: weights and measures that have a column; by default all that a row has.
    """
    keys = keys or list(dict.fromkeys(key for row in rows for key in row.ratios))
    names = [_heading(weights, measure) for weights, measure in keys]
    head = ["method", "dose", "E\\|g\\|/L", "passes", *names]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for row in rows:
        roles = f" ({', '.join(row.roles)})" if row.roles else ""
        relative = "" if row.relative_dose is None else f"{row.relative_dose:.3g}"
        passes = "" if row.passes is None else f"{row.passes:g}"
        cells = [row.method, f"{row.dose:g}{roles}" if row.dose else "", relative, passes]
        lines.append("| " + " | ".join([*cells, *(_shown(row.ratios.get(key)) for key in keys)]) + " |")
    return lines


WORDS = {
    LOSS.name: "held-out loss",
    VALUE.name: "LPF value",
    RISE.name: "LPF rise",
    WORST.name: "worst-case rise",
    "distance-20": "distance, T' = 20",
    "distance-100": "distance, T' = 100",
}


def _heading(weights: Weights, measure: Measure) -> str:
    space = f" ({measure.space})" if measure.space else ""
    return f"{'EMA' if weights == 'ema' else weights}: {WORDS[measure.name]}{space}"


def _shown(ratio: Ratio | None) -> str:
    return "" if ratio is None else f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _scatter_table(rows: Sequence[DoseRow]) -> list[str]:
    with_scatter = [row for row in rows if row.scatter]
    if not with_scatter:
        return []
    lines = [
        "",
        "Scatter of raw rows, as standard deviations of the logarithm of the distance at T' = 20: over the late points "
        "of one run, and over seeds of the runs' means.",
        "",
        "| method | dose | space | within a run | between seeds |",
        "|---|---:|---|---:|---:|",
    ]
    for row in with_scatter:
        for space, (within, between) in row.scatter.items():
            lines.append(f"| {row.method} | {row.dose or ''} | {space} | {within:.2f} | {between:.2f} |")
    return lines
