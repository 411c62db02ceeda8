"""The bridge: rows of trained networks against the theory's and the toy's predictions; the one module that sees both.

    out/bridge.json    predictions B1 to B7 with verdicts, all numbers behind them, and where these are from
    out/bridge.md      the same for people

From out/rows, out/layers, the toy's results and the paper's printed numbers, without weights; written anew each time,
as they follow from those files. The rule is the toy's (`findings.verdicts`): a prediction names an open region; a
comparison's interval inside confirms it, outside refutes it, else it is undecided; a prediction is refuted where one of
its comparisons is, confirmed where all are. Intervals are at 99%, corrected for all comparisons of B1, ..., B7
(Bonferroni). With one training seed they are over images, draws and samples, and a verdict is on these networks, not on
the methods; with more they are Student's over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from experiments.bridge import b1_b2_last_layer, b3_b4_layers_and_scale, b5_correlations, b6_tolerance, b7_dose
from experiments.bridge.rows import Claim, Comparison, Rows, read, row_documents
from experiments.measures.layer_rows import Plan
from experiments.provenance import provenance
from findings import predictions, toy_study, verdicts
from findings.documents import document_text
from findings.estimates import over_seeds
from findings.files import write_whole
from findings.toy_study import Toy
from findings.verdicts import LEVEL, Interval, Outcome, Region, interval_of_cells
from theory.claims.corollary_3_9_gaussian_gap import CORRECTED_BOUND, PRINTED_BOUND, numeric_bound
from theory.model.perturbations import flat_radius, gap_radius
from theory.model.worst_case import worst_case_divergence

DOCUMENT, PAGE = "bridge.json", "bridge.md"
ANGLES = 181
RULE = (
    f"A prediction names an open region. A comparison's {LEVEL:.0%} interval (corrected for all comparisons of its "
    "group, but for correlations) inside the region confirms it, outside refutes it, else it is undecided. A "
    "prediction is refuted where one of its comparisons is, confirmed where all are; without a number it is not "
    "measured."
)


def judge(claims: Sequence[Claim]) -> list[Outcome[Claim]]:
    """The outcome of each claim; a correlation's interval is a bootstrap's, and is not corrected."""
    return verdicts.judge(claims, interval_of, lambda comparison: comparison.interval is None)


def interval_of(comparison: Comparison, comparisons: int) -> Interval | None:
    """As it was computed already, or over training seeds or images and draws. None where there is no error.

    Args:
        comparison: with its numbers.
        comparisons: that are meant to hold at once (Bonferroni); an interval that is there already is not corrected.
    """
    if comparison.interval is None:
        return interval_of_cells(comparison.values, comparisons)
    low, high = comparison.interval
    return Interval(comparison.values[0].value, low, high, 1, LEVEL) if math.isfinite(low) else None


def model_of(point: Mapping[str, Any]) -> tuple[ndarray, ndarray]:
    """W (r, r + 1) and b (r + 1,) of a linearised point, in rotated coordinates; m = r + 1 stands for any m."""
    s, b = np.array(point["singular_values"]), np.array(point["bias"])
    return np.hstack([np.diag(s), np.zeros((len(s), 1))]), b


def theory_radius(point: Mapping[str, Any], kappa: float) -> float:
    """eta = Delta_kappa / m of a linearised point (Theorem T3), |K_delta|_F."""
    W, b = model_of(point)
    return flat_radius(W.T @ W + np.outer(b, b), kappa) / len(b)


def bounds(point: Mapping[str, Any], eta: float) -> dict[str, float]:
    """The largest divergence over the ball of radius eta in K: exact (Theorem T2), and Corollary 3.9's closed forms.

    exact, and the largest values over the ball of the corrected and of the printed right side of Eq. (18); infinite
    where the ball reaches perturbations whose density cannot be normalised.
    """
    W, b = model_of(point)
    radius, rho = eta * len(b), eta * float(max(point["singular_values"]))
    if rho >= 1:
        return {"exact": math.inf, "corrected": math.inf, "printed": math.inf}
    tau = np.zeros((len(W), 1))
    tau[0] = -rho  # of both parts of the corrected side the largest
    corrected = float(_right_side(CORRECTED_BOUND, tau, b, radius)[0])
    return {
        "exact": worst_case_divergence(W, b, radius).value,
        "corrected": corrected,
        "printed": _largest_printed(point["singular_values"], W, b, radius),
    }


def _right_side(bound: Any, tau: ndarray, b: ndarray, radius: float) -> ndarray:
    """Of Eq. (18) at eigenvalues tau of A, (d, n) rising along the first axis."""
    counted_from_1 = np.concatenate([np.full_like(tau[:1], np.nan), 1.0 + tau])
    return np.asarray(numeric_bound(bound)(counted_from_1, len(tau), b.size, radius, b @ b))


def _largest_printed(singular: Sequence[float], W: ndarray, b: ndarray, radius: float) -> float:
    """Over the ball: at eigenvalues -t and a on the arc t = eta s_p cos phi, a = eta s_q sin phi, {p, q} = {1, 2}.

    The printed side is a sum of t - log(1 + t), whose negative part is largest in one eigenvalue, and grows with the
    largest eigenvalue, so no more than one of each sign pays.
    """
    s = sorted(singular, reverse=True)
    s = s if len(s) > 1 else [*s, s[0]]
    eta, best = radius / b.size, -math.inf
    for negative, positive in ((s[0], s[1]), (s[1], s[0])):
        phi = np.linspace(0.0, np.pi / 2, ANGLES)
        for _ in range(2):
            tau = np.zeros((max(len(W), 2), ANGLES))
            tau[0], tau[-1] = -eta * negative * np.cos(phi), eta * positive * np.sin(phi)
            if len(W) == 1:
                tau = np.where(np.abs(tau[:1]) >= tau[1:], tau[:1], tau[1:])
            values = _right_side(PRINTED_BOUND, tau, b, radius)
            place = int(values.argmax())
            best = max(best, float(values[place]))
            phi = np.linspace(phi[max(place - 1, 0)], phi[min(place + 1, ANGLES - 1)], ANGLES)
    return best


THEORY = b6_tolerance.Theory(gap_radius, bounds, theory_radius)


def check(plan: Plan, toy: Path, paper: Path) -> None:
    """Whether there is what the predictions need, apart from the first stage's files.

    Raises:
        ResultError: rows are missing, or of another plan.
        ValueError: the toy's results or the paper's numbers cannot be read.
    """
    toy_study.load(toy)
    toy_study.paper(paper)
    row_documents(plan)


def judged(plan: Plan, toy: Path, paper: Path) -> dict[str, Any]:
    """All predictions, judged; writes both files.

    Args:
        plan: of the folder.
        toy: the toy's results.
        paper: the paper's printed numbers.

    Returns:
        The document.

    Raises:
        ResultError: a file is missing, cannot be read, or is of other settings than the others.
        ValueError: the toy's results or the paper's numbers cannot be read.
    """
    (rows, snapshots), toys = read(plan), Toy(toy_study.load(toy))
    every = b6_tolerance.every_tolerated(rows)
    tolerated = b6_tolerance.details(every, THEORY)
    outcomes = judge(
        [
            *b1_b2_last_layer.claims(rows, toys, plan.evaluation.rise_bits),
            *b3_b4_layers_and_scale.claims(rows, toys),
            *b5_correlations.claims(rows, snapshots),
            *b5_correlations.printed(toy_study.paper(paper)),
            *b6_tolerance.claims(rows, every, tolerated, THEORY),
            *b7_dose.claims(rows, toys),
            *b7_dose.of_snapshots(rows, snapshots),
        ]
    )
    document = {
        "what": "predictions of the theory, the toy and the paper on trained networks",
        "rule": RULE,
        "seeds": rows.seeds,
        "runs": list(plan.runs),
        "rows": rows.labels,
        "provenance": provenance() | {"toy": toys.document.get("commit")},
        "predictions": [entry(outcome, rows) for outcome in outcomes],
        "layers": b3_b4_layers_and_scale.layer_table(rows),
        "tolerated": tolerated,
    }
    document["summary"] = predictions.summary(document)
    write_whole(plan.folder / DOCUMENT, document_text(document))
    write_whole(plan.folder / PAGE, predictions.markdown(document))
    return document


def entry(outcome: Outcome[Claim], rows: Rows) -> dict[str, Any]:
    """A prediction in JSON's types; a bound of a region that is infinite is None."""
    claim, place = outcome.claim, outcome.deciding
    deciding = None if place is None else claim.comparisons[place]
    of = {label for comparison in claim.comparisons for label in comparison.rows}
    return {
        "identifier": claim.identifier,
        "statement": claim.statement,
        "owner": claim.source.owner,
        "source": claim.source.words,
        "of": predictions.subject(claim.printed, rows.seeds),
        "rows": [label for label in rows.labels if label in of],
        "predicted": claim.predicted,
        "predicted_interval": None if claim.predicted_interval is None else list(claim.predicted_interval),
        "measured": None if deciding is None else over_seeds(deciding.values).value,
        "interval": None if place is None else _ends(outcome.intervals[place]),
        "deciding": None if deciding is None else deciding.label,
        "verdict": outcome.verdict.value,
        "region": Region(*claim.region).ends,
        "rule": claim.how,
        "where": claim.where,
        "note": claim.note,
        "comparisons": [
            {
                "what": one.label,
                "measured": over_seeds(one.values).value,
                "interval": _ends(interval),
                "level": None if interval is None else interval.level,
                "seeds": len(one.values),
                "verdict": verdict.value,
            }
            for one, interval, verdict in zip(claim.comparisons, outcome.intervals, outcome.verdicts, strict=True)
        ],
    }


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]
