"""Training and measuring the regimes of a rung, run by run: `python -m toy regimes` and `python -m toy images`.

A run trains one method at one dose at all seeds and measures its rows: in full at its end, the raw weights and every
average; in brief on the way. Its result is kept on disk as it finishes, under a name that is a function of all that it
depends on, this package's code included, so that a stopped study goes on where it was and a changed one begins anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import flatness
from toy import ladder_measures, report
from toy.ladder_measures import PerSeed
from toy.models import ScoreModels, random_models
from toy.process import cosine_process
from toy.regimes import SHARES, Arm, Regime, Rung, arms_of, data_of
from toy.training import Plan, train

COMPUTING = (
    "data", "distances", "images", "ladder", "ladder_measures", "measures", "minibatches", "models", "process",
    "sampling", "training", "training_sets",
)  # fmt: skip
"""Modules of this package on which a run's numbers depend."""
LATE_SHARES = (0.8, 0.85, 0.9, 0.95)
"""Of a run's steps, where raw weights are measured besides: a raw row is the mean over these and the end, as the
ladder's claims have it (`findings.ladder_claims.SHARES_OF_THE_RUN`)."""
DIGITS = 5
"""Significant ones that are kept of each number."""
THOROUGH = ("", "ema")
"""Weights of which the readout and rounding are measured too."""
FLOPS = 2.5e10
SECONDS_A_ROW = 1.8
"""What one core of the machine on which plans were made does: floating-point operations a second in training, and the
measures of a row on 128 features. For the plan alone."""


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


class Kept:
    """Results of runs on disk.

    Args:
        folder: where; made when the first result is kept.
        rung: settings.
    """

    def __init__(self, folder: Path, rung: Rung) -> None:
        """Nothing is read or written yet."""
        self.rung = rung
        self.folder = folder
        here = Path(__file__).parent
        code = hashlib.sha256()
        for name in COMPUTING:
            code.update((here / f"{name}.py").read_bytes())
        self.code = code.hexdigest()

    def path(self, arm: Arm) -> Path:
        """Of a run's result."""
        alone = replace(arm, regime=replace(arm.regime, radii=(), deviations=(), others=False))  # whatever else is run
        settings = (alone, self.rung.measuring, self.rung.seeds, flatness.__version__, torch.__version__, self.code)
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
        plain = "".join(c if c.isalnum() or c == "." else "-" for c in arm.label)
        return self.folder / f"{plain}-{digest}.json"

    def get(self, arm: Arm) -> list[Row] | None:
        """A run's rows; None where they are not there."""
        try:
            content = json.loads(self.path(arm).read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            return None
        return [Row(**row) for row in content["rows"]]

    def put(self, arm: Arm, rows: Sequence[Row], seconds: float) -> None:
        """Keep a run's rows, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"what": arm.label, "seconds": round(seconds, 1), "rows": [asdict(row) for row in rows]}
        report.write_whole(self.path(arm), content)


@dataclass(frozen=True)
class Work:
    """What a study has still to do.

    Attributes:
        arms: all runs.
        missing: those without a result.
        seconds: an estimate of what these take on one core.
    """

    arms: list[Arm]
    missing: list[Arm]
    seconds: float

    def words(self, workers: int) -> str:
        """For people."""
        minutes = math.ceil(self.seconds / max(workers, 1) / 60)
        done = len(self.arms) - len(self.missing)
        return (
            f"{len(self.arms)} runs, {done} of them done; about {minutes} minutes more on {max(workers, 1)} idle cores"
        )


def seconds_of(arm: Arm, rung: Rung) -> float:
    """An estimate for one core."""
    rows = 2.5 + (len(SHARES) * 2) / 8.0 + len(LATE_SHARES) / 4.0
    wider = arm.regime.features / 128 * (1.0 if arm.regime.source == "ring" else 3.0)
    size = rung.seeds / 20 * rung.measuring.chains / 2048
    return 2.0 * arm.cost * rung.seeds / FLOPS + rows * SECONDS_A_ROW * wider * size


def work_of(rung: Rung, stored: Kept) -> Work:
    """All runs of a rung and those to do."""
    arms = [arm for regime in rung.regimes for arm in arms_of(regime)]
    missing = [arm for arm in arms if stored.get(arm) is None]
    return Work(arms, missing, sum(seconds_of(arm, rung) for arm in missing))


def run(
    rung: Rung, stored: Kept, *, workers: int = 2, tell: Callable[[str, float], None] = lambda what, share: None
) -> list[Row]:
    """All rows of a rung, in order; runs without a result are made and kept.

    Args:
        rung: what.
        stored: where results are.
        workers: processes of one thread each; 0 runs everything in this one.
        tell: called with (what was done, its share of the time of what was to do).

    Raises:
        ValueError: images cannot be read.
        FloatingPointError: a loss or measure is not finite.
    """
    work = work_of(rung, stored)
    for arm in _made(work.missing, rung, stored, workers):
        tell(arm.label, seconds_of(arm, rung) / work.seconds)
    return kept_rows(work, stored)


def kept_rows(work: Work, stored: Kept) -> list[Row]:
    """The rows of all runs that have a result, in order."""
    return [row for arm in work.arms for row in stored.get(arm) or []]


def _made(arms: Sequence[Arm], rung: Rung, stored: Kept, workers: int) -> Iterator[Arm]:
    if not workers:
        for arm in arms:
            make(arm, rung, stored)
            yield arm
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        futures: dict[Future[None], Arm] = {executor.submit(make, arm, rung, stored): arm for arm in arms}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def make(arm: Arm, rung: Rung, stored: Kept) -> None:
    """One run, kept as it finishes."""
    start = time.monotonic()
    rows = run_arm(arm, rung)
    stored.put(arm, rows, time.monotonic() - start)


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
