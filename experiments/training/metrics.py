"""Metrics of a run: lines of JSON in its folder, and the same numbers for TensorBoard.

    metrics.jsonl    one object a line, with its "kind" ("train", "held_out") and the "step" after which it was taken
    tensorboard/     event files

A line of kind "train" holds means over the `steps` steps since the last one. A resumed run first drops the lines that
are later than the step it resumes from, so that no step stands there twice; the steps of a line that was not yet due
are part of the checkpoint (`Metrics.state`), so that it goes on to the lines of a run that was never stopped. Each line
has its checksum.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.training.events import RunState, StepReport, Watcher
from findings.checksums import checked, parse_object, with_checksum
from findings.files import write_whole
from flatness.measuring.base import plain

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE = "metrics.jsonl"
TENSORBOARD = "tensorboard"


@dataclass
class Window:
    """Sums over the steps since the last line."""

    steps: int = 0
    images: int = 0
    seconds: float = 0.0
    seconds_waited: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, report: StepReport) -> None:
        """Take in a step."""
        self.steps += 1
        self.images += report.images
        self.seconds += report.seconds
        self.seconds_waited += report.seconds_waited
        for name in ("loss", "mse", "vb", "perturbed_loss"):
            value = getattr(report, name)
            if value is not None:
                self.sums[name] = self.sums.get(name, 0.0) + value
                self.counts[name] = self.counts.get(name, 0) + 1

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Window:
        """As a checkpoint has it; empty where it has none, as those of older versions.

        Raises:
            ValueError: it is no window.
        """
        try:
            return cls(**stored)
        except TypeError as error:
            raise ValueError(f"the checkpoint's metrics are {stored!r}; allowed: what was written here") from error

    def means(self) -> dict[str, Any]:
        """What a line says; the perturbed loss is the mean over the steps that perturbed, left out where none did."""
        seconds = max(self.seconds, 1e-9)
        return {
            **{name: total / self.counts[name] for name, total in self.sums.items()},
            "steps": self.steps,
            "images_per_second": self.images / seconds,
            "share_waiting_for_data": self.seconds_waited / seconds,
        }


class Metrics(Watcher):
    """The watcher that writes both. Others write their own lines by `record`; it must come before them.

    Raises:
        OSError: the folder cannot be written to.
    """

    name = "metrics"

    def __init__(self) -> None:
        """Nothing is opened before training starts."""
        self._lines: int | None = None
        self._written: set[tuple[str, int]] = set()
        self._board: SummaryWriter | None = None
        self._window = Window()

    def started(self, state: RunState, step: int) -> None:
        """Drop what is later than `step`, and open both for appending."""
        from torch.utils.tensorboard import SummaryWriter  # slow to load, and an optional extra

        path = state.options.out / FILE
        self._window = Window.of(state.resumed.get(self.name, {}))
        begun = step - self._window.steps
        # The line of a stop, of steps that the window has, is written when it is due
        lines = [line for line in lines_until(path, step) if line["kind"] != "train" or line["step"] <= begun]
        write_whole(path, (_text(line) for line in lines))
        self._written = {(line["kind"], line["step"]) for line in lines}
        self._lines = os.open(path, os.O_WRONLY | os.O_APPEND)
        # TensorBoard leaves out what an earlier part of the run wrote for later steps, of all kinds alike
        self._board = SummaryWriter(str(state.options.out / TENSORBOARD), purge_step=begun + 1)
        for line in lines:
            if line["step"] > begun:
                self._show(line["kind"], line["step"], {k: v for k, v in line.items() if k not in ("kind", "step")})

    def state(self) -> dict[str, Any]:
        """For the checkpoint: the steps since the last line."""
        return asdict(self._window)

    def stepped(self, state: RunState, report: StepReport) -> None:
        """A line every `log_every` steps."""
        self._window.add(report)
        if report.step % state.options.log_every == 0:
            self._flush(report.step)

    def saved(self, state: RunState, step: int, seconds_stopped: float) -> None:
        """The lines are on disk no later than the checkpoint that counts on them."""
        if self._lines is not None:
            os.fsync(self._lines)

    def finished(self, state: RunState, step: int) -> None:
        """What is left of the last lines' steps; all on its way to the disk, as a signal leaves little time."""
        if self._window.steps:
            self._flush(step)
        if self._board is not None:
            self._board.flush()

    def close(self) -> None:
        """Close both files; also after an error."""
        if self._lines is not None:
            os.close(self._lines)
        if self._board is not None:
            self._board.close()
        self._lines = self._board = None

    def holds(self, kind: str, step: int) -> bool:
        """Whether there is a line of this kind for this step."""
        return (kind, step) in self._written

    def record(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Write a line, whole, and its numbers for TensorBoard; a number that is not finite is null.

        Raises:
            RuntimeError: training has not started.
        """
        if self._lines is None or self._board is None:
            raise RuntimeError("record was called before started(): put Metrics first among the watchers")
        content = _text(plain({"kind": kind, "step": step, **values}))
        if os.write(self._lines, content) != len(content):  # the next start drops the piece
            raise OSError(f"{FILE}: a line was not written whole; the disk may be full")
        self._written.add((kind, step))
        self._show(kind, step, values)

    def _show(self, kind: str, step: int, values: dict[str, Any]) -> None:
        assert self._board is not None
        for name, value in _numbers(values):
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def _flush(self, step: int) -> None:
        self.record("train", step, self._window.means())
        self._window = Window()


def _text(line: Mapping[str, Any]) -> bytes:
    return (json.dumps(with_checksum(line), allow_nan=False) + "\n").encode()


def lines_until(path: Path, step: int) -> list[dict[str, Any]]:
    """The lines of a metrics file up to a step, without checksums; a last line that was cut short is left out.

    Raises:
        ValueError: another line is not one of ours, or not as it was written.
    """
    if not path.exists():
        return []
    lines = []
    texts = path.read_bytes().split(b"\n")
    for number, text in enumerate(texts[:-1], start=1):  # what follows the last line's end is empty, or cut short
        try:
            line = checked(parse_object(text))
            fits = isinstance(line["kind"], str) and isinstance(line["step"], int)
        except (ValueError, KeyError):
            fits = False
        if not fits:
            raise ValueError(
                f"{path}, line {number}, is not a line of metrics as it was written; move the file away to go on "
                "without it"
            )
        if line["step"] <= step:
            lines.append(line)
    return lines


def _numbers(values: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers in nested dictionaries, by path."""
    numbers: list[tuple[str, float]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            numbers += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers.append((prefix + name, float(value)))
    return numbers
