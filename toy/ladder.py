"""Training and measuring a run of a rung: one method at one dose, at all seeds.

Its rows are measured in full at its end, the raw weights and every average; in brief on the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from toy import ladder_measures
from toy.ladder_measures import PerSeed
from toy.models import ScoreModels, random_models
from toy.process import cosine_process
from toy.regimes import SHARES, Arm, Regime, Rung, arms_of, data_of
from toy.training import Plan, train

LATE_SHARES = (0.8, 0.85, 0.9, 0.95)
"""Of a run's steps, where raw weights are measured besides: a raw row is the mean over these and the end, as the
ladder's claims have it (`findings.ladder_claims.SHARES_OF_THE_RUN`)."""
DIGITS = 5
"""Significant ones that are kept of each number."""
THOROUGH = ("", "ema")
"""Weights of which the readout and rounding are measured too."""


@dataclass(frozen=True)
class Row:
    """Measures of one kind of weights of a run, a number a seed each.

    Attributes:
        regime, method, dose: of the run.
        weights: "raw", or the average's name.
        step: of training, at which they are taken; the last one's rows are measured in full.
        last: whether it is the run's last step.
        measures: by name.
    """

    regime: str
    method: str
    dose: float
    weights: str
    step: int
    last: bool
    measures: dict[str, list[float]]


def initial_models(regime: Regime, seeds: int) -> ScoreModels:
    """The models before training: learnt features, theta an ordinary readout, the cosine process of 1,000 steps."""
    dimension = 2 if regime.source == "ring" else 64
    return random_models(seeds, dimension, regime.features, cosine_process(), learn_features=True, divisor=1.0)


def run_arm(arm: Arm, rung: Rung) -> list[Row]:
    """Train and measure; one thread, since the products are too small to share.

    Raises:
        ValueError: images cannot be read.
        FloatingPointError: a loss is not finite.
    """
    torch.set_num_threads(1)
    regime, seeds = arm.regime, range(rung.seeds)
    held_out, data = data_of(regime, seeds, rung.images)
    plan = Plan(arm.steps, regime.batch, regime.learning_rate, regime.averages(arm.method, arm.steps))
    early, late = ({max(round(share * arm.steps), 1) for share in shares} for shares in (SHARES, LATE_SHARES))
    at = sorted(early | late)
    run = train(initial_models(regime, rung.seeds), data, arm.how, plan, seeds, at=at, progress=False)
    cost = torch.full((rung.seeds,), run.gradient_points / (regime.batch * regime.steps), dtype=torch.float64)
    rows = []
    for step, models in run.points.items():
        if step in late:
            measured = ladder_measures.late_measures(models[""], held_out, data, seeds, rung.measuring)
            rows.append(_row(arm, "", step, measured))
            continue
        for name in ("", "ema"):
            measured = ladder_measures.brief_measures(models[name], held_out, data, seeds, rung.measuring)
            rows.append(_row(arm, name, step, measured))
    for name, trained in run.models.items():
        measured = ladder_measures.all_measures(
            trained, held_out, data, seeds, regime.batch, rung.measuring, thorough=name in THOROUGH
        )
        if arm.how.rho:
            measured["dose"] = arm.dose * measured["gradient_norm"] / measured["held_out_loss"]
        rows.append(_row(arm, name, arm.steps, measured | {"cost": cost}))
    return rows


def _row(arm: Arm, average: str, step: int, measured: Mapping[str, PerSeed]) -> Row:
    numbers = {name: [_short(value) for value in values.tolist()] for name, values in measured.items()}
    return Row(arm.regime.name, arm.method, arm.dose, average or "raw", step, step == arm.steps, numbers)


def _short(value: float) -> float:
    if not math.isfinite(value):
        raise FloatingPointError(f"a measure is {value}")
    return float(f"{value:.{DIGITS}g}")


def configuration(rung: Rung) -> dict[str, Any]:
    """All settings, for the result."""
    return {
        "seeds": rung.seeds,
        "measuring": asdict(rung.measuring),
        "regimes": {
            regime.name: asdict(regime)
            | {"averages": {name: repr(rule) for name, rule in regime.averages("adm", regime.steps).items()}}
            for regime in rung.regimes
        },
        "runs": {arm.label: repr(arm.how) for regime in rung.regimes for arm in arms_of(regime)},
        "model": "random-feature noise prediction (Eq. 9), learnt features, ReLU, k = 32, divisor 1",
        "process": "cosine, T = 1000",
    }
