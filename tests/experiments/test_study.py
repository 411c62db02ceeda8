"""Runs side by side: all are done, few at a time, failures are named, and a signal stops every process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiments.configuration import PRESETS, Configuration
from experiments.measures.points import QUICK, plan_of
from experiments.study import LOGS, TRAINING_PASSES, Job, cost_of, side_by_side

JOBS = [Job(f"run-{number}", 1.0, False) for number in range(5)]
ROOT = Path(__file__).parents[2]
CHILD = """
import os, pathlib, signal, time
here = pathlib.Path(__file__).parent

def stop(number, frame):
    (here / f"stopped-{os.getpid()}").touch()
    raise SystemExit

signal.signal(signal.SIGTERM, stop)
(here / f"begun-{os.getpid()}").touch()
time.sleep(60)
"""
PARENT = """
import pathlib, sys
from experiments.study import Job, side_by_side
here = pathlib.Path(__file__).parent
jobs = [Job(str(number), 1.0, False) for number in range(4)]
try:
    side_by_side(jobs, lambda name: [sys.executable, str(here / "child.py")], here, 2, lambda line: None)
except KeyboardInterrupt:
    raise SystemExit(7)
"""


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_all_are_carried_out_and_no_more_than_asked_for_at_a_time(tmp_path: Path) -> None:
    code = f"""
import os, pathlib, time
here = pathlib.Path({str(tmp_path)!r})
mine = here / ("running-" + str(os.getpid()))
mine.touch()
time.sleep(0.2)
(here / ("seen-" + str(os.getpid()))).write_text(str(len(list(here.glob("running-*")))))
print(os.environ["OMP_NUM_THREADS"])
mine.unlink()
"""
    lines: list[str] = []
    assert side_by_side(JOBS, lambda name: python(code), tmp_path, 2, lines.append) == []
    seen = [int(path.read_text()) for path in tmp_path.glob("seen-*")]
    assert len(seen) == len(JOBS)
    assert max(seen) <= 2
    assert sum("done" in line for line in lines) == len(JOBS)
    assert sum("left of the study" in line for line in lines) == len(JOBS) - 1
    share = str(max(1, (os.cpu_count() or 1) // 2))
    assert (tmp_path / LOGS / "run-0.log").read_text().split() == [share]


def test_what_is_done_is_not_begun(tmp_path: Path) -> None:
    jobs = [JOBS[0]._replace(done=True), JOBS[1]]
    side_by_side(jobs, lambda name: python("pass"), tmp_path, 2, lambda line: None)
    assert [path.name for path in (tmp_path / LOGS).iterdir()] == ["run-1.log"]


def test_failures_are_named_and_do_not_end_the_others(tmp_path: Path) -> None:
    lines: list[str] = []
    failed = side_by_side(
        JOBS, lambda name: python(f"print('why'); raise SystemExit({name == 'run-2'})"), tmp_path, 2, lines.append
    )
    assert failed == ["run-2"]
    assert "why" in (tmp_path / LOGS / "run-2.log").read_text()
    assert sum("done" in line for line in lines) == len(JOBS) - 1


def test_a_signal_stops_every_process_and_is_told(tmp_path: Path) -> None:
    """The parent is a process of its own here, as a signal is a process's."""
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "parent.py").write_text(PARENT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")], env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        for _ in range(600):
            if len(list(tmp_path.glob("begun-*"))) == 2:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 7
    finally:
        process.kill()
    assert len(list(tmp_path.glob("begun-*"))) == 2
    assert len(list(tmp_path.glob("stopped-*"))) == 2


def test_a_number_of_workers_is_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="workers is 0"):
        side_by_side(JOBS, lambda name: python("pass"), tmp_path, 0)
    assert threading.active_count() >= 1


def test_costs_are_passes_of_one_image() -> None:
    c: Configuration = PRESETS["fashion-mnist-mini"]
    training, measuring = cost_of(c, (), None)
    assert (training, measuring) == (TRAINING_PASSES * 16 * 20_000, 0)
    points = (4000, 20_000)
    todo = plan_of(20_000, points, "adm", QUICK)
    measures = [measure for point in todo for measure in point.measures]
    distances = [m for m in measures if m.kind == "distance"]
    assert cost_of(c, points, QUICK)[1] > sum(m.sampling_steps * QUICK.samples for m in distances if m.bits == 32)
    sam = PRESETS["fashion-mnist-mini"].__class__(**{**c.__dict__, "method": "sam"})
    assert cost_of(sam, (), None)[0] == 2 * training
