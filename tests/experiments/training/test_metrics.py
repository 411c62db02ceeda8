"""Lines of metrics: their means, one a step however often a run is resumed, and what TensorBoard is told."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.training.metrics import FILE, TENSORBOARD, Metrics, lines_until
from findings.checksums import checked
from tests.experiments.training.watched_state import report, state_of


def written(out: Path) -> list[dict[str, Any]]:
    return [checked(json.loads(line)) for line in (out / FILE).read_text().splitlines()]


def run(
    out: Path,
    first: int,
    last: int,
    resumed: Mapping[str, Any] | None = None,
    checkpoint: int = 0,
    finished: bool = False,
    **options: Any,
) -> Any:
    """Steps first + 1, ..., last, each with its number as its loss; what a checkpoint after one of them would hold."""
    state, metrics = state_of(out, **options), Metrics()
    metrics.started(replace(state, resumed={metrics.name: resumed} if resumed else {}), first)
    held = None
    for step in range(first + 1, last + 1):
        metrics.stepped(state, report(step, loss=float(step), perturbed_loss=0.1 * step if step % 2 else None))
        held = json.loads(json.dumps(metrics.state())) if step == checkpoint else held
    if finished:
        metrics.finished(state, last)
    metrics.close()
    return held


def test_lines_hold_means_over_the_steps_since_the_last(tmp_path: Path) -> None:
    state, metrics = state_of(tmp_path, log_every=3), Metrics()
    metrics.started(state, 0)
    for step, perturbed in ((1, None), (2, 5.0), (3, 7.0), (4, None)):
        metrics.stepped(state, report(step, loss=float(step), perturbed_loss=perturbed, seconds=float(step)))
    metrics.finished(state, 4)
    metrics.close()
    first, second = written(tmp_path)
    assert (first["kind"], first["step"], first["steps"]) == ("train", 3, 3)
    assert (first["loss"], first["mse"], first["vb"], first["perturbed_loss"]) == (2.0, 1.0, 1.0, 6.0)
    assert first["images_per_second"] == pytest.approx(24 / 6)
    assert first["share_waiting_for_data"] == pytest.approx(0.3 / 6)
    assert (second["step"], second["steps"], second["loss"]) == (4, 1, 4.0)
    assert "perturbed_loss" not in second


def test_a_resumed_run_writes_each_step_once(tmp_path: Path) -> None:
    run(tmp_path / "whole", 0, 8, log_every=2)
    run(tmp_path / "cut", 0, 7, log_every=2)
    run(tmp_path / "cut", 4, 8, log_every=2)
    assert (tmp_path / "cut" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    assert [line["step"] for line in written(tmp_path / "cut")] == [2, 4, 6, 8]


@given(log_every=st.integers(1, 7), checkpoint=st.integers(1, 11), end=st.integers(1, 12), stopped=st.booleans())
@settings(deadline=None, max_examples=25)
def test_a_resumed_run_is_an_uninterrupted_one_whatever_the_intervals(
    tmp_path_factory: pytest.TempPathFactory, log_every: int, checkpoint: int, end: int, stopped: bool
) -> None:
    """Killed some steps after a checkpoint, or stopped by a signal right at it, when a line of what is left is written.

    Without the window in the checkpoint the first line after it would hold too few steps.
    """
    end = max(end, checkpoint)
    out = tmp_path_factory.mktemp("runs")
    run(out / "whole", 0, 12, log_every=log_every, finished=True)
    reached = checkpoint if stopped else end
    held = run(out / "cut", 0, reached, checkpoint=checkpoint, finished=stopped, log_every=log_every)
    run(out / "cut", checkpoint, 12, resumed=held, log_every=log_every, finished=True)
    assert (out / "cut" / FILE).read_bytes() == (out / "whole" / FILE).read_bytes()


def test_a_flipped_digit_is_seen(tmp_path: Path) -> None:
    run(tmp_path, 0, 4, log_every=2)
    path = tmp_path / FILE
    path.write_text(path.read_text().replace('"steps": 2', '"steps": 3', 1))
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1, is not a line of metrics as it was written"):
        lines_until(path, 4)


def test_without_truncation_steps_would_stand_there_twice(tmp_path: Path) -> None:
    """What the test above would find: the lines that are later than the step are there before it is resumed."""
    run(tmp_path, 0, 7, log_every=2)
    assert [line["step"] for line in written(tmp_path)] == [2, 4, 6]
    assert [line["step"] for line in lines_until(tmp_path / FILE, 4)] == [2, 4]


def test_a_line_that_was_cut_short_is_dropped(tmp_path: Path) -> None:
    run(tmp_path, 0, 4, log_every=2)
    path = tmp_path / FILE
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 3])  # a killed machine, within its third line
    run(tmp_path, 4, 6, log_every=2)
    assert [line["step"] for line in written(tmp_path)] == [2, 4, 6]


@pytest.mark.parametrize("line", ["not JSON", '{"step": 3}', '{"kind": "train", "step": "3"}', "[1]"])
def test_a_file_that_is_not_ours_is_refused_and_kept(tmp_path: Path, line: str) -> None:
    path = tmp_path / FILE
    path.write_text(line + "\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1, is not a line of metrics"):
        Metrics().started(state_of(tmp_path), 0)
    assert path.read_text() == line + "\n"


def test_other_kinds_nested_and_not_finite(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.started(state_of(tmp_path), 0)
    assert not metrics.holds("held_out", 0)
    metrics.record("held_out", 0, {"raw": {"loss": 1.5, "loss_standard_error": math.nan}})
    assert metrics.holds("held_out", 0)
    assert not metrics.holds("train", 0)
    metrics.close()
    line = {"kind": "held_out", "step": 0, "raw": {"loss": 1.5, "loss_standard_error": None}}
    assert written(tmp_path) == [line]
    again = Metrics()
    again.started(state_of(tmp_path), 0)
    assert again.holds("held_out", 0)
    again.close()


def test_records_need_an_open_file(tmp_path: Path) -> None:
    metrics = Metrics()
    with pytest.raises(RuntimeError, match="before started"):
        metrics.record("train", 1, {"loss": 1.0})
    metrics.started(state_of(tmp_path), 0)
    metrics.close()
    metrics.close()
    with pytest.raises(RuntimeError, match="before started"):
        metrics.record("train", 1, {"loss": 1.0})


def shown(out: Path, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard shows of one number."""
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    board = EventAccumulator(str(out / TENSORBOARD))
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(tag)]


def test_tensorboard_has_the_same_numbers(tmp_path: Path) -> None:
    run(tmp_path, 0, 7, log_every=2)
    time.sleep(1.0)  # as below
    run(tmp_path, 4, 8, log_every=2)
    assert shown(tmp_path, "train/loss") == [(line["step"], line["loss"]) for line in written(tmp_path)]


@pytest.mark.parametrize("stopped", [4, 5, 6])
def test_tensorboard_has_no_point_of_a_stop(tmp_path: Path, stopped: int) -> None:
    """A stop between two lines writes one of what is left, which is not there once the run has gone on."""
    state, metrics = state_of(tmp_path, log_every=3), Metrics()
    metrics.started(state, 0)
    for step in range(1, stopped + 1):
        metrics.stepped(state, report(step, loss=float(step)))
    metrics.record("held_out", stopped, {"loss": 0.5})
    held = metrics.state()
    metrics.finished(state, stopped)
    metrics.close()
    time.sleep(1.0)  # as a later process; files of one second are read by name, 10 before 9
    run(tmp_path, stopped, 9, resumed=held, log_every=3, finished=True)
    assert shown(tmp_path, "train/loss") == [(3, 2.0), (6, 5.0), (9, 8.0)]
    assert shown(tmp_path, "held_out/loss") == [(stopped, 0.5)]
