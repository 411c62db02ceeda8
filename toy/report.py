"""The study as one JSON document: every number with its interval, and all that it was computed with."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from numpy import ndarray

import flatness
from findings import files
from findings.checksums import with_checksum
from findings.estimates import significant
from findings.provenance import commit, versions
from findings.verdicts import FEWEST_SEEDS, LEVEL, Interval, Outcome, Verdict, mean_interval
from toy import gap_tolerance
from toy.claims import CHEAP
from toy.data import ring
from toy.measures import distance_floor
from toy.predictions import BITS, COUNTS, SWEEP, Comparison, Prediction, Table
from toy.rows import DISTANCES, RELATIVE_SIGMA, SIGMA
from toy.settings import Settings
from toy.study import SHIFT_FACTORS, Study, jobs_of
from toy.training import METHODS, Plan, default_averages

PAIRS = (
    ("readout_rise_t3", "readout_rise"),
    *((f"quantized_readout_rise_{bits}_t5", f"quantized_readout_rise_{bits}") for bits in BITS),
    *((f"quantized_readout_rise_{bits}_t5", f"quantized_readout_even_{bits}") for bits in BITS),
    *((f"quantized_readout_rise_{bits}_t5", f"dithered_readout_rise_{bits}") for bits in BITS),
)
"""What is predicted and measured, P3 and P4."""
DIGITS = 6
"""Significant ones, of numbers in the document."""


def document(
    study: Study, outcomes: Sequence[Outcome[Prediction]], *, quick: bool, command: str, wall_seconds: float
) -> dict[str, Any]:
    """Everything, in plain lists and numbers."""
    return {
        "what": "the toy study: predictions P1 to P9, their verdicts, and what they were computed from",
        "quick": quick,
        "verdicts_may_be_quoted": not quick and study.settings.seeds >= FEWEST_SEEDS,
        "command": command,
        "configuration": configuration(study.settings),
        "versions": versions(torch, np, scipy, flatness),
        "device": f"cpu, {platform.machine()}",
        "commit": commit(),
        "wall_seconds": round(wall_seconds, 1),
        "interval": f"mean over seeds with Student's t interval; {LEVEL:.0%} in measures and series, Bonferroni within "
        "P1, ..., P9 in predictions",
        "predictions": [verdict_entry(outcome, study.table) for outcome in outcomes],
        "measures": {row: {name: entry(v) for name, v in measures.items()} for row, measures in study.table.items()},
        "pairs": pairs(study),
        "series": {row: plain(series) for row, series in study.series.items() if series},
        "sweep": [{"rho": rho, "row": "learnt/sam" if rho == 0.1 else f"learnt/sam rho={rho:g}"} for rho in SWEEP],
        "cheap": {f"learnt/{row}": name for row, name in CHEAP.items()},
        "equal_loss": study.matched,
        "distance_floor": entry(
            distance_floor(ring(), range(study.settings.seeds), study.settings.sample_points).numpy()
        ),
    }


def configuration(settings: Settings) -> dict[str, Any]:
    """The resolved configuration."""
    plan = Plan(steps=settings.steps, batch=settings.batch)
    return asdict(settings) | {
        "seed_numbers": list(range(settings.seeds)),
        "data": "ring of eight normals of deviation .1, means of radius sqrt(2)",
        "process": "cosine, T = 1000",
        "model": "random-feature noise prediction, d = 2, ReLU, k = 32, divisor 1",
        "learning_rate": plan.learning_rate,
        "methods": {
            name: {"input_perturbation": method.input_perturbation, "rho": method.rho}
            for name, method in METHODS.items()
        },
        "averages": {name: repr(rule) for name, rule in default_averages(settings.steps).items()},
        "cheap_schedules": {job.row: repr(job.method) for job in jobs_of(settings) if job.name in CHEAP},
        "rhos": list(SWEEP),
        "bits": list(BITS),
        "sampling_steps": list(COUNTS),
        "shift_factors": list(SHIFT_FACTORS),
        "gap_tolerance": asdict(gap_tolerance.Setting()) | {"scales": list(gap_tolerance.SCALES)},
        "sigma": SIGMA,
        "relative_sigma": RELATIVE_SIGMA,
        "distances": list(DISTANCES),
    }


def verdict_entry(outcome: Outcome[Prediction], table: Table) -> dict[str, Any]:
    """A prediction with its verdict, the interval of each comparison and, only if it was revised, how."""
    prediction = outcome.claim
    revised = {"revised": prediction.revised} if prediction.revised else {}
    return {
        "identifier": prediction.identifier,
        "statement": prediction.statement,
        "source": prediction.source,
        "expected": prediction.expected,
        "measured": prediction.measured,
        "verdict": outcome.verdict.value,
        "comparisons": [
            compared(comparison, interval, verdict, table)
            for comparison, interval, verdict in zip(
                prediction.comparisons, outcome.intervals, outcome.verdicts, strict=True
            )
            if interval is not None  # as it always is: the toy has several seeds
        ],
    } | revised


def compared(comparison: Comparison, interval: Interval, verdict: Verdict, table: Table) -> dict[str, Any]:
    """One comparison."""
    return {
        "what": comparison.label,
        "form": comparison.form_in(table),
        "region": comparison.region.ends,
        "verdict": verdict.value,
    } | interval_entry(interval)


def interval_entry(interval: Interval) -> dict[str, Any]:
    """The interval, rounded."""
    return {
        "mean": significant(interval.mean, DIGITS),
        "low": significant(interval.low, DIGITS),
        "high": significant(interval.high, DIGITS),
        "seeds": interval.seeds,
        "level": round(interval.level, 6),
    }


def entry(values: ndarray) -> dict[str, Any]:
    """The interval of a measure."""
    return interval_entry(mean_interval(values))


def plain(value: Any) -> Any:
    """Arrays (S, ...) become means with bounds over seeds; everything else stays, mapping by mapping."""
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, ndarray):
        intervals = [mean_interval(column) for column in value.T]
        return {
            bound: [significant(getattr(one, bound), DIGITS) for one in intervals] for bound in ("mean", "low", "high")
        }
    if isinstance(value, list):
        return [plain(one) for one in value]
    return significant(value, DIGITS) if isinstance(value, float) else value


def pairs(study: Study) -> dict[str, Any]:
    """Predicted against measured, by row, one pair of lists a measure, a number a seed."""
    return {
        row: {
            measured: {
                "predicted": [significant(v, 5) for v in measures[predicted]],
                "measured": [significant(v, 5) for v in measures[measured]],
            }
            for predicted, measured in PAIRS
        }
        for row, measures in study.table.items()
        if "readout_rise" in measures
    }


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write the results with their checksum, whole or not at all.

    Raises:
        ValueError: a number that is not finite.
        OSError: the folder cannot be written to.
    """
    text = json.dumps(with_checksum(content), allow_nan=False, indent=None, separators=(",", ":")) + "\n"
    files.write_whole(path, text)
