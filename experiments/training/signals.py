"""SIGTERM and SIGINT ask a run to stop after the step it is at."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Whether a signal has come; `name` is the signal's, or None."""

    def __init__(self) -> None:
        """No signal yet."""
        self.name: str | None = None

    def __bool__(self) -> bool:
        """Whether one has come."""
        return self.name is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice from the keyboard: at once
        self.name = signal.Signals(number).name


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Within, both signals are noted instead of ending the process; on leaving, they do again what they did before.

    Outside of the main thread, where Python lets no handler be set, nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request._handle) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
