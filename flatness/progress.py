"""How far a long measure has come: a line on the terminal, or a call of the caller's own function."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from flatness import arguments

T = TypeVar("T")
Progress = bool | Callable[[int, int], None] | None
SECONDS_BETWEEN_LINES = 0.5


def reporter(label: str, total: int, progress: Progress) -> Callable[[int, int], None]:
    """The function to call with (done, total) after each step.

    Args:
        label: what the line on the terminal begins with.
        total: number of steps.
        progress: True writes a line to standard error, None does so only where that is a terminal, False never; a
            function is called with (done, total) itself.

    Raises:
        ValueError: progress is none of these.
    """
    if progress is not None and not isinstance(progress, bool):
        return arguments.function("progress", progress)
    if progress is False or total < 2 or (progress is None and not sys.stderr.isatty()):
        return lambda done, total: None
    return _Line(label)


def tracked(steps: Iterable[T], report: Callable[[int, int], None], total: int) -> Iterator[T]:
    """The steps, one by one, with a report after each is done."""
    for done, step in enumerate(steps, start=1):
        yield step
        report(done, total)


class _Line:
    """One line, written over itself, with the time that is left at the present pace."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.start = time.monotonic()
        self.written = -float("inf")

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self.written < SECONDS_BETWEEN_LINES:
            return
        self.written = now
        seconds = round((now - self.start) / done * (total - done))
        left = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d} left"
        sys.stderr.write(f"\r{self.label}: {done}/{total}, {left}" + ("\n" if done == total else ""))
        sys.stderr.flush()
