"""Many runs side by side: each is trained and measured by a process of its own, with its share of the cores.

    out/runs/<run>/            as of one run
    out/points/<run>.json      measured along its way, where points are asked for
    out/logs/<run>.log         what its process said

A process is stopped by SIGTERM, which lets training write its checkpoint; whatever is left is done by the same command
given again. Nothing is trained or measured twice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from experiments.commands.progress import duration
from experiments.configuration import Configuration
from experiments.measures.points import PointOptions, passes_of, plan_of
from experiments.training import planning
from flatness import arguments

LOGS = "logs"
TRAINING_PASSES = 3
"""Of one image forward, for each that training takes forward and backward."""


class Job(NamedTuple):
    """One run.

    Attributes:
        name: of the run.
        cost: passes of one image forward that its training and measuring take.
        done: whether nothing is left of it.
    """

    name: str
    cost: float
    done: bool


def cost_of(configuration: Configuration, points: Sequence[int], options: PointOptions | None) -> tuple[float, float]:
    """Passes of one image forward, of training and of measuring at the points."""
    c = configuration
    training = TRAINING_PASSES * planning.passes_per_step(c) * c.global_batch * c.steps
    if options is None or not points:
        return training, 0.0
    todo = plan_of(c.steps, tuple(points), c.method, options)
    return training, sum(passes_of(measure, options, c) for point in todo for measure in point.measures)


def side_by_side(
    jobs: Sequence[Job],
    command: Callable[[str], Sequence[str]],
    out: Path,
    workers: int,
    say: Callable[[str], None] = print,
) -> list[str]:
    """Carry the jobs out, so many at a time.

    Args:
        jobs: in the order in which they are begun.
        command: the command line of a job's process, by its name.
        out: the study's folder.
        workers: processes at a time; each gets its share of the cores.
        say: is told a line at the beginning and end of each.

    Returns:
        The names of jobs that failed.

    Raises:
        KeyboardInterrupt: SIGINT or SIGTERM came; all processes were asked to stop, and have.
    """
    arguments.count("workers", workers, at_least=1)
    todo = [job for job in jobs if not job.done]
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    (out / LOGS).mkdir(parents=True, exist_ok=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    stopping = False

    def carry_out(job: Job) -> int:
        if stopping:
            return -signal.SIGTERM
        say(f"{job.name}: begins; log: {out / LOGS / f'{job.name}.log'}")
        with (out / LOGS / f"{job.name}.log").open("ab") as log:
            process = subprocess.Popen(list(command(job.name)), stdout=log, stderr=log, env=environment)
            running[job.name] = process
            try:
                return process.wait()
            finally:
                running.pop(job.name, None)

    begin, total, made = time.perf_counter(), sum(job.cost for job in todo), 0.0
    failed: list[str] = []
    with _terminated_as_interrupted(), ThreadPoolExecutor(workers) as pool:
        futures: dict[Future[int], Job] = {pool.submit(carry_out, job): job for job in todo}
        try:
            while futures:
                finished, _ = wait(futures, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = futures.pop(future)
                    made += job.cost
                    seconds = time.perf_counter() - begin
                    left = f"; about {duration(seconds * (total - made) / made)} left of the study" if futures else ""
                    if future.result():
                        failed.append(job.name)
                        say(f"{job.name}: ended with status {future.result()}; its log says why{left}")
                    else:
                        say(f"{job.name}: done{left}")
        except KeyboardInterrupt:
            stopping = True
            for future in futures:
                future.cancel()
            for process in list(running.values()):
                process.send_signal(signal.SIGTERM)
            raise
    return failed


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Within, SIGTERM raises KeyboardInterrupt as SIGINT does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def own_command(arguments: Sequence[str], name: str) -> list[str]:
    """This command again, for one run alone."""
    return [sys.executable, "-m", "experiments", "reproduce", *arguments, "--only", name, "--workers", "1"]
