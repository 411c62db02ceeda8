"""The runs of a rung, one after the other: `python -m toy regimes` and `python -m toy images`.

A run is one method at one dose, at all seeds. Its rows, the raw weights and every average, are measured in full at its
end, in brief on the way. Its result is kept on disk as it finishes, under a name that is a function of all that it
depends on, the code that computes it included, so that a stopped study goes on where it was and a changed one begins
anew.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

import flatness
from findings.checksums import read_json
from toy import ladder_measures, report
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


COMPUTING = (
    "data", "distances", "images", "ladder", "ladder_measures", "measures", "minibatches", "models", "process",
    "sampling", "training", "training_sets",
)  # fmt: skip
"""Modules of this package on which a run's numbers depend."""
FLOPS = 8e9
SECONDS_A_ROW = 5.4
"""What one core of the machine on which plans were made does: floating-point operations a second in training, and the
measures of a row on 128 features. For the plan alone."""


@dataclass(frozen=True)
class Run:
    """What is kept of a run.

    Attributes:
        rows: its measures.
        seconds: how long it took.
    """

    rows: list[Row]
    seconds: float


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

    def get(self, arm: Arm) -> Run | None:
        """A run; None where it is not there, or is not as it was written: then with a warning."""
        path = self.path(arm)
        if not path.exists():
            return None
        try:
            content = read_json(path)
            run = Run([Row(**row) for row in content["rows"]], float(content["seconds"]))
            fits = all(isinstance(row.measures, dict) and row.regime == arm.regime.name for row in run.rows)
            if not run.rows or not fits:
                raise ValueError(f"{path} holds no rows of {arm.label}")
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{arm.label} is made anew: {error}", stacklevel=2)
            return None
        return run

    def put(self, arm: Arm, rows: Sequence[Row], seconds: float) -> None:
        """Keep a run's rows, whole or not at all."""
        content = {"what": arm.label, "seconds": round(seconds, 1), "rows": [asdict(row) for row in rows]}
        report.write_whole(self.path(arm), content)


@dataclass(frozen=True)
class Work:
    """What a study has still to do.

    Attributes:
        runs: all, each with its result or None.
        seconds: an estimate of what those without one take on one core, at the pace of those that have one.
    """

    runs: list[tuple[Arm, Run | None]]
    seconds: float

    @property
    def missing(self) -> list[Arm]:
        """Those without a result."""
        return [arm for arm, result in self.runs if result is None]

    @property
    def rows(self) -> list[Row]:
        """Of all runs that have a result, in order."""
        return [row for _, result in self.runs if result is not None for row in result.rows]

    def words(self, workers: int) -> str:
        """For people."""
        minutes = math.ceil(self.seconds / max(workers, 1) / 60)
        done = len(self.runs) - len(self.missing)
        cores = max(workers, 1)
        return (
            f"{len(self.runs)} runs, {done} of them done; about {minutes} minute{'s'[: minutes != 1]} more on "
            f"{cores} core{'s'[: cores != 1]}, {'as fast as for these' if done else 'idle'}"
        )


def seconds_of(arm: Arm, rung: Rung) -> float:
    """An estimate for one idle core."""
    rows = 2.5 + (len(SHARES) * 2) / 8.0 + len(LATE_SHARES) / 4.0
    wider = arm.regime.features / 128 * (1.0 if arm.regime.source == "ring" else 3.0)
    size = rung.seeds / 20 * rung.measuring.chains / 2048
    return 2.0 * arm.cost * rung.seeds / FLOPS + rows * SECONDS_A_ROW * wider * size


def work_of(stored: Kept) -> Work:
    """All runs of a rung, with the results that there are."""
    rung = stored.rung
    runs = [(arm, stored.get(arm)) for regime in rung.regimes for arm in arms_of(regime)]
    done = [(seconds_of(arm, rung), result.seconds) for arm, result in runs if result is not None]
    pace = math.fsum(took for _, took in done) / math.fsum(estimate for estimate, _ in done) if done else 1.0
    return Work(runs, pace * math.fsum(seconds_of(arm, rung) for arm, result in runs if result is None))


def run(
    work: Work, stored: Kept, *, workers: int, tell: Callable[[str, float], None] = lambda what, share: None
) -> Work:
    """Make and keep the runs without a result; the work with theirs.

    Args:
        work: of the rung.
        stored: where results are.
        workers: processes of one thread each; 0 runs everything in this one.
        tell: called with (what was done, its share of the time of what was to do).

    Raises:
        ValueError: images cannot be read.
        FloatingPointError: a loss or measure is not finite.
    """
    whole = math.fsum(seconds_of(arm, stored.rung) for arm in work.missing)
    for arm in _made(work.missing, stored, workers):
        tell(arm.label, seconds_of(arm, stored.rung) / whole)
    return Work([(arm, stored.get(arm) if result is None else result) for arm, result in work.runs], 0.0)


def _made(arms: Sequence[Arm], stored: Kept, workers: int) -> Iterator[Arm]:
    if not workers:
        for arm in arms:
            make(arm, stored)
            yield arm
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as executor:
        futures: dict[Future[None], Arm] = {executor.submit(make, arm, stored): arm for arm in arms}
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        finally:
            executor.shutdown(wait=False, cancel_futures=True)


def make(arm: Arm, stored: Kept) -> None:
    """One run, kept as it finishes."""
    start = time.monotonic()
    rows = run_arm(arm, stored.rung)
    stored.put(arm, rows, time.monotonic() - start)
