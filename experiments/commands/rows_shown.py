"""How far the measuring of rows has come: a line for each measure, with the time that is left at the present pace."""

from __future__ import annotations

import time

from rich.console import Console

from experiments.commands.progress import duration
from experiments.measures.runner import Progress


class ShownRows:
    """Watches `evaluate`, on standard error.

    Args:
        rows: how many there are in all.
    """

    def __init__(self, rows: int, console: Console | None = None) -> None:
        """Nothing is shown yet."""
        self._console = Console(stderr=True) if console is None else console
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
