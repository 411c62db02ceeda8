"""How far a run has come: a bar with loss, images/s and time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
from collections import deque

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from experiments.training.events import RunState, StepReport

RECENT = 50
"""Steps that the numbers shown are means over."""


class ShownProgress:
    """The watcher that shows it, on standard error."""

    def __init__(self, console: Console | None = None) -> None:
        """Nothing is shown before training starts."""
        self._console = Console(stderr=True) if console is None else console
        self._recent: deque[StepReport] = deque(maxlen=RECENT)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._last = 0

    def started(self, state: RunState, step: int) -> None:
        """Say where the run starts; show the bar."""
        until = state.options.until
        self._last = state.configuration.steps if until is None else min(until, state.configuration.steps)
        name = f"{state.configuration.dataset} {state.configuration.method}"
        begins = f"resumed after step {step}" if step else "from the start"
        self._say(f"{name}: {begins}, to step {self._last}, in {state.options.out}")
        if self._console.is_terminal:
            columns = (
                TextColumn(name),
                BarColumn(bar_width=None),
                TaskProgressColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[numbers]}"),
            )
            self._bar = Progress(*columns, console=self._console, expand=True)
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
