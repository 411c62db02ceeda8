"""How far the measuring has come: bars on a terminal, a line for each measure elsewhere; on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Watch:
    """Told how far the measuring of a network has come; this one tells nobody."""

    def begins(self, label: str, passes: float) -> None:
        """A network is measured, by so many passes of one sample in all."""

    def measure(self, words: str) -> None:
        """A measure begins."""

    def advance(self, samples: int) -> None:
        """So many samples have passed."""

    def ends(self) -> None:
        """The network is measured, or has failed."""


class ShownProgress(Watch):
    """Watches `measured`."""

    def __init__(self, console: Console | None = None) -> None:
        """Nothing is shown yet."""
        self._console = Console(stderr=True) if console is None else console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._label, self._total, self._done = "", 0.0, 0

    def begins(self, label: str, passes: float) -> None:
        """Show the bar of a network."""
        self._label, self._total, self._done = label, passes, 0
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed:.0f}/{task.total:.0f} passes"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Progress(*columns, console=self._console, transient=True)
            self._task = self._bar.add_task(label, total=passes)
            self._bar.start()

    def measure(self, words: str) -> None:
        """Name the measure that begins."""
        if self._bar is not None:
            self._bar.update(self._task, description=f"{self._label}: {words}")
        else:
            line = f"{self._label}: {words} ({self._done}/{self._total:.0f} passes)"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def advance(self, samples: int) -> None:
        """Move the bar."""
        self._done += samples
        if self._bar is not None:
            self._bar.advance(self._task, samples)

    def ends(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
