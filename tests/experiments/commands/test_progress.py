"""What a person sees of a run, on a terminal and in a log."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from experiments.commands.dry_run import about, cpu_images
from experiments.commands.progress import ShownProgress, duration, rate
from experiments.configuration import PRESETS
from tests.experiments.training.watched_state import report, state_of


def shown(out: Path, terminal: bool, start: int = 0, finish: int = 12) -> str:
    """What is written over the steps of a run of 12, each half a second and 8 images."""
    stream = io.StringIO()
    progress = ShownProgress(Console(file=stream, force_terminal=terminal, width=100))
    state = state_of(out, log_every=5)
    progress.started(state, start)
    for step in range(start + 1, finish + 1):
        progress.stepped(state, report(step, loss=float(step)))
    progress.saved(state, finish, 0.25)
    progress.finished(state, finish)
    progress.close()
    return stream.getvalue()


def test_a_log_gets_lines(tmp_path: Path) -> None:
    assert shown(tmp_path, terminal=False).splitlines() == [
        f"fashion-mnist adm: from the start, to step 12, in {tmp_path}",
        "step 5/12  loss 3.0000  16 images/s  00:00:04 left",  # (1 + ... + 5) / 5, and 7 steps of half a second
        "step 10/12  loss 5.5000  16 images/s  00:00:01 left",
        "step 12/12  loss 6.5000  16 images/s  00:00:00 left",
        "step 12: checkpoint (training stood still for 0.25 s)",
    ]


def test_a_run_that_stops_early_says_so(tmp_path: Path) -> None:
    last = shown(tmp_path, terminal=False, start=4, finish=8).splitlines()
    assert last[0].startswith("fashion-mnist adm: resumed after step 4")
    assert last[-1].startswith("stopped after step 8 of 12")


def test_a_terminal_gets_a_bar(tmp_path: Path) -> None:
    text = shown(tmp_path, terminal=True)
    assert "━" in text
    assert "12/12" in text
    assert "loss 6.5000" in text
    assert "step 5/12  " not in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is hidden once, and shown again


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "00:00:00"), (3661, "01:01:01"), (86399.7, "1 d 00:00:00"), (2 * 86400 + 59, "2 d 00:00:59")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.21, "8.21 s"), (300, "5 minutes"), (9000, "2.5 hours"), (1e8, "1,157 days")]
)
def test_estimates(seconds: float, text: str) -> None:
    assert about(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(0.0251, "0.025"), (5.24, "5.2"), (811.7, "812")])
def test_rates(value: float, text: str) -> None:
    assert rate(value) == text


def test_a_cpu_times_few_images() -> None:
    assert cpu_images(PRESETS["cifar10"].network, 128) == 1
    assert cpu_images(PRESETS["fashion-mnist-tiny"].network, 64) == 64
    assert cpu_images(PRESETS["fashion-mnist-tiny"].network, 4) == 4
