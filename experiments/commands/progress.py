"""How far a run, or the measuring of rows, has come; for people, on standard error.

Of a run a bar with loss, images/s and time left on a terminal, a line now and then elsewhere; of rows a line for each
measure, with the time that is left at the present pace.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn

from experiments.data import Images
from experiments.measures.runner import Progress
from experiments.training.events import RunState, StepReport, Watcher
from experiments.training.metrics import Metrics
from experiments.training.validation import HeldOutLoss, SampleGrids

RECENT = 50
"""Steps that the numbers shown are means over."""


class ShownProgress(Watcher):
    """The watcher that shows it, on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        """Nothing is shown before training starts."""
        self._console = Console(stderr=True) if console is None else console
        self._recent: deque[StepReport] = deque(maxlen=RECENT)
        self._bar: rich.progress.Progress | None = None
        self._task = TaskID(0)
        self._last = 0

    def started(self, state: RunState, step: int) -> None:
        """Say where the run starts; show the bar."""
        until = state.options.until
        self._last = state.configuration.steps if until is None else until
        name = f"{state.configuration.dataset} {state.configuration.method}"
        begins = f"resumed after step {step}" if step else "from the start"
        goes = f"to step {self._last}" if step <= self._last else f"which is beyond --until {until}: nothing is done"
        self._say(f"{name}: {begins}, {goes}, in {state.options.out}")
        if self._console.is_terminal:
            columns = (
                TextColumn(name),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[numbers]}"),
            )
            self._bar = rich.progress.Progress(*columns, console=self._console, expand=True)
            self._task = self._bar.add_task(name, total=self._last, completed=step, numbers="")
            self._bar.start()

    def stepped(self, state: RunState, report: StepReport) -> None:
        """Renew the bar, or write a line where it is time."""
        self._recent.append(report)
        if self._bar is not None:
            self._bar.update(self._task, completed=report.step, numbers=self._numbers())
        elif report.step % state.options.log_every == 0 or report.step == self._last:
            self._say(f"step {report.step}/{self._last}  {self._numbers()}")

    def saved(self, state: RunState, step: int, seconds_stopped: float) -> None:
        """Say so."""
        self._say(f"step {step}: checkpoint (training stood still for {seconds_stopped:.2f} s)")

    def finished(self, state: RunState, step: int) -> None:
        """Leave the bar as it is; say what is left to do."""
        self.close()
        if step < state.configuration.steps:
            stopped = f"stopped after step {step} of {state.configuration.steps}"
            self._say(f"{stopped}; given again, with --until later or left out, the command goes on")

    def close(self) -> None:
        """Take the bar off the terminal's cursor; also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _numbers(self) -> str:
        recent = self._recent
        seconds = max(math.fsum(r.seconds for r in recent), 1e-9)
        loss = math.fsum(r.loss for r in recent) / len(recent)
        left = seconds / len(recent) * max(self._last - recent[-1].step, 0)
        return f"loss {loss:.4f}  {rate(sum(r.images for r in recent) / seconds)} images/s  {duration(left)} left"

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def rate(value: float) -> str:
    """Two digits or more: 0.37, 5.2, 812."""
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, with days where there are any: 3 d 04:05:06."""
    whole = round(seconds)
    days, rest = divmod(whole, 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock


class Watched:
    """Called for each run: progress, metrics, held-out losses and grids.

    Args:
        held_out: images for the losses.
    """

    def __init__(self, held_out: Images) -> None:
        """No run yet."""
        self._held_out = held_out
        self._open: list[ShownProgress | Metrics] = []

    def __call__(self) -> Sequence[Watcher]:
        """The watchers of the next run; those of the one before are closed."""
        self.close()
        progress, metrics = ShownProgress(), Metrics()
        self._open = [progress, metrics]
        # Metrics first: the others write to it
        return metrics, progress, HeldOutLoss(self._held_out, metrics), SampleGrids()

    def close(self) -> None:
        """Take the bar off the terminal, and close the files; also after an error."""
        for watcher in self._open:
            watcher.close()
        self._open = []


class ShownRows:
    """Watches `evaluate`, on standard error.

    Args:
        rows: how many there are in all.
    """

    def __init__(self, rows: int) -> None:
        """Nothing is shown yet."""
        self._console = Console(stderr=True)
        self._rows, self._finished = rows, 0
        self._row = ""
        self._began, self._share = 0.0, 0.0

    def __call__(self, progress: Progress) -> None:
        """Tell what begins, or that a row is done."""
        now = time.perf_counter()
        if progress.row != self._row:
            self._row, self._began, self._share = progress.row, now, progress.share
        if progress.measure:
            head = f"row {self._finished + 1}/{self._rows} {progress.row}: {progress.measure}"
            self.say(f"{head} ({progress.done + 1}/{progress.total}){self._left(progress, now)}")
        else:
            self._finished += 1
            self.say(f"row {self._finished}/{self._rows} {progress.row}: done in {duration(now - self._began)}")
            self._row = ""

    def _left(self, progress: Progress, now: float) -> str:
        made = progress.share - self._share
        if made < 0.02:
            return ""
        return f", about {duration((now - self._began) / made * (1 - progress.share))} left of the row"

    def say(self, line: str) -> None:
        """A line."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
