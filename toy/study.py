"""The study: what is trained, what is measured on it, and the table from which the verdicts on P1 to P9 are computed.

A job trains one method at all seeds and measures its rows; jobs run in worker processes of one thread each. Rows:

    learnt/M      W and U learnt; M one of the paper's nine, SAM at another radius, or a cheap schedule
    frozen/M      theta alone learnt
    equal/M       adm and ip (learnt), stopped where their training loss reaches SAM's final one
    gap/a=A       the linear model of `toy.gap_tolerance`
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy import ndarray

from flatness import arguments
from flatness.training.perturbed_optimizer import EveryK, Late
from toy import gap_tolerance
from toy.claims import GAP_ROWS
from toy.data import GaussianMixture, equal_mixture, ring
from toy.models import ScoreModels, random_models
from toy.predictions import COUNTS, SWEEP
from toy.process import cosine_process
from toy.rows import Row, measure_row
from toy.settings import Settings
from toy.training import BLOCK, METHODS, Method, Plan, Run, train

WINDOW = 2
"""Blocks of training steps over which a falling loss is averaged: few, since it falls fast where losses are matched."""
SHIFT_FACTORS = (1.0, 1.05, 1.1, 1.2, 1.4)
"""By how much the rings of the shifted data are wider."""
FINAL_SHARE = 8
"""The final training loss is the mean over the last eighth of the blocks."""


@dataclass(frozen=True)
class Job:
    """A training run and how fully its rows are measured."""

    regime: str
    name: str
    method: Method
    steps: int
    thorough: bool = True

    @property
    def row(self) -> str:
        """The row of the raw weights."""
        return f"{self.regime}/{self.name}"

    @property
    def cost(self) -> float:
        """Of training, in steps of a plain method with learnt features; for the order of jobs and the progress bar."""
        gradients = 1.0 + sum(self.method.schedule(s) for s in range(self.steps)) / self.steps * bool(self.method.rho)
        return self.steps * gradients * (0.5 if self.regime == "frozen" else 1.0) * (1.5 if self.thorough else 1.0)


@dataclass
class Outcome:
    """What a job leaves: rows of measures and what figures need, and the seeds' training losses (S, blocks)."""

    job: Job
    rows: dict[str, Row]
    losses: ndarray


@dataclass
class Study:
    """Everything that was measured; see the module's docstring for the rows."""

    settings: Settings
    table: dict[str, dict[str, ndarray]] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)
    matched: dict[str, Any] = field(default_factory=dict)


def jobs_of(settings: Settings) -> list[Job]:
    """The jobs of the first round, the longest first."""
    steps = settings.steps
    jobs = [Job("learnt", name, method, steps) for name, method in METHODS.items()]
    jobs += [Job("frozen", name, method, settings.frozen_steps) for name, method in METHODS.items()]
    rho = METHODS["sam"].rho
    jobs += [
        Job("learnt", f"sam rho={radius:g}", Method(rho=radius), steps, thorough=False)
        for radius in SWEEP
        if radius != rho
    ]
    cheap = {
        "sam late tenth": Method(rho=rho, schedule=Late.after_share(0.9, steps)),
        "sam every 5": Method(rho=rho, schedule=EveryK(5)),
        "sam quarter batch": Method(rho=rho, ascent_share=0.25),
    }
    jobs += [Job("learnt", name, method, steps, thorough=False) for name, method in cheap.items()]
    return sorted(jobs, key=lambda job: -job.cost)


def initial_models(settings: Settings, learn_features: bool) -> ScoreModels:
    """The models before training: theta an ordinary readout (divisor 1), cosine process of 1,000 steps."""
    return random_models(
        settings.seeds, 2, settings.features, cosine_process(), learn_features=learn_features, divisor=1.0
    )


def shifted_data() -> list[GaussianMixture]:
    """The ring of eight, and rings that are wider, in radius and deviation alike."""
    data = ring()
    deviation = float(data.covariances[0, 0, 0]) ** 0.5
    return [data, *(equal_mixture(data.means * factor, deviation * factor) for factor in SHIFT_FACTORS[1:])]


def divergence_of_shift(shifted: GaussianMixture, points: int = 2**16) -> float:
    """KL(p || p_hat) of the data and shifted data, in nats, by the mean log ratio of the exact densities."""
    data = ring()
    x = data.sample(points, seed=0)
    return float((data.log_density(x) - shifted.log_density(x)).mean())


def run_job(job: Job, settings: Settings) -> Outcome:
    """Train and measure; one thread, since the products are too small to share."""
    torch.set_num_threads(1)
    numbers = range(settings.seeds)
    plan = Plan(steps=job.steps, batch=settings.batch)
    models = initial_models(settings, job.regime != "frozen")
    run: Run = train(models, ring(), job.method, plan, numbers, progress=False)
    chosen = run.rows(job.name) if job.thorough else {job.name: run.models[""]}
    rows = {}
    for name, trained in chosen.items():
        raw = name == job.name
        row = measure_row(
            trained,
            settings,
            shifted_data(),
            counts=() if job.regime == "frozen" else COUNTS if job.thorough else COUNTS[:1],
            quantized_samples=job.regime == "learnt" and job.thorough,
            pictures=job.regime == "learnt" and job.thorough and raw and job.name in ("adm", "sam"),
        )
        row.measures["cost"] = np.full(settings.seeds, run.gradient_points / (job.steps * settings.batch))
        rows[f"{job.regime}/{name}"] = row
    return Outcome(job, rows, run.losses.numpy())


def matched_steps(losses: ndarray, target: float, block: int) -> int:
    """The number of steps after which the loss, over seeds and WINDOW blocks, first is at most the target."""
    mean = losses.mean(0)
    width = min(WINDOW, len(mean))
    smooth = np.convolve(mean, np.full(width, 1.0 / width), mode="valid")
    reached = np.flatnonzero(smooth <= target)
    return int((reached[0] if len(reached) else len(smooth) - 1) + width) * block


def run(settings: Settings, *, workers: int = 2, report: Callable[[str, float], None] | None = None) -> Study:
    """Train and measure everything.

    Args:
        settings: sizes.
        workers: processes; 0 runs everything in this one.
        report: called with (what was done, its share of the whole) after each job.

    Raises:
        ValueError: an argument is not as above.
        FloatingPointError: a training loss is not finite.
    """
    workers = arguments.count("workers", workers)
    tell = report or (lambda what, share: None)
    study = Study(settings)
    jobs = jobs_of(settings)
    total = 1.1 * sum(job.cost for job in jobs)
    outcomes: dict[str, Outcome] = {}
    with _Pool(workers) as pool:
        for outcome in pool.run(jobs, settings):
            outcomes[outcome.job.row] = outcome
            tell(outcome.job.row, outcome.job.cost / total)
        seconds = _equal_loss_jobs(outcomes, settings, study)
        for outcome in pool.run(seconds, settings):
            outcomes[outcome.job.row] = outcome
            tell(outcome.job.row, 0.05 / 1.1)
    for outcome in outcomes.values():
        for name, row in outcome.rows.items():
            study.table[name] = row.measures
            study.series[name] = row.series
    _add_gap_rows(study)
    _add_derived(study)
    return study


def _equal_loss_jobs(outcomes: dict[str, Outcome], settings: Settings, study: Study) -> list[Job]:
    sam = outcomes["learnt/sam"].losses
    target = float(sam[:, -max(sam.shape[1] // FINAL_SHARE, 1) :].mean())
    jobs = []
    for name in ("adm", "ip"):
        steps = min(matched_steps(outcomes[f"learnt/{name}"].losses, target, BLOCK), settings.steps)
        study.matched[name] = {"steps": steps, "sam_training_loss": target}
        jobs.append(Job("equal", name, METHODS[name], steps))
    return jobs


def _add_gap_rows(study: Study) -> None:
    setting = gap_tolerance.Setting()
    for row, scale in zip(GAP_ROWS, gap_tolerance.SCALES, strict=True):
        tolerances = [gap_tolerance.tolerance(seed, scale, setting) for seed in range(study.settings.seeds)]
        study.table[row] = {name: np.array([one[name] for one in tolerances]) for name in tolerances[0]}
        study.series[row] = {"curve": gap_tolerance.curve(0, scale, setting)}


def _add_derived(study: Study) -> None:
    """Measures that take several rows: what a cheap schedule has of full SAM's reduction of the LPF rise."""
    plain, full = (study.table[row]["lpf_rise"] for row in ("learnt/adm", "learnt/sam"))
    for row in (job.row for job in jobs_of(study.settings) if job.regime == "learnt" and not job.thorough):
        rise = study.table[row]["lpf_rise"]
        study.table[row]["share_of_reduction"] = (plain - rise) / (plain - full).mean()
    shifted = [divergence_of_shift(one) for one in shifted_data()]
    study.series["shifts"] = {"factor": list(SHIFT_FACTORS), "kl": shifted}


class _Pool:
    """Jobs in worker processes, or in this one."""

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.executor = ProcessPoolExecutor(workers, mp_context=context) if workers else None

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        if self.executor is not None:
            self.executor.shutdown(wait=True, cancel_futures=True)

    def run(self, jobs: list[Job], settings: Settings) -> Iterator[Outcome]:
        """The outcomes, as they come."""
        if self.executor is None:
            for job in jobs:
                yield run_job(job, settings)
            return
        futures: list[Future[Outcome]] = [self.executor.submit(run_job, job, settings) for job in jobs]
        for future in as_completed(futures):
            yield future.result()
