"""The runs of a rung, one after the other: `python -m toy regimes` and `python -m toy images`.

A run's result is kept on disk as it finishes, under a name that is a function of all that it depends on, the code that
computes it included, so that a stopped study goes on where it was and a changed one begins anew.
"""

from __future__ import annotations

import hashlib
import math
import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

import flatness
from findings.checksums import read_json
from toy import report
from toy.ladder import LATE_SHARES, Row, run_arm
from toy.regimes import SHARES, Arm, Rung, arms_of

COMPUTING = (
    "data", "distances", "ladder", "ladder_measures", "measures", "models", "process", "sampling", "training",
    "training_sets",
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
