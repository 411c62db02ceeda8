"""A run's folder: held by one process at a time, and continued under the same configuration and data alone.

SIGTERM and SIGINT ask the run in it to stop after the step it is at (`stop_request`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from experiments.configuration import Configuration
from experiments.training.checkpoints import (
    CheckpointError,
    newest_good,
    read_configuration,
    remove_leftovers,
    set_aside,
    verify,
)
from findings.checksums import with_checksum
from findings.files import json_bytes, write_whole

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def held(out: Path) -> Iterator[None]:
    """Hold the folder, which is made if missing; the lock ends with the process, however that ends.

    Raises:
        CheckpointError: another process holds it.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise CheckpointError(f"{out} is being trained in by another process: {file.read().strip()}") from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def prepared(out: Path, configuration: Configuration, fingerprint: str) -> Path | None:
    """Make the folder ready, and find the checkpoint to continue from; None to begin.

    Broken checkpoints that are newer than it are set aside with a warning.

    Raises:
        CheckpointError: the run in the folder is another configuration's or other data's, or none of its checkpoints
            is whole. Nothing is changed then.
    """
    if (out / "configuration.json").exists():
        _check_same(out, read_configuration(out), configuration)
    checkpoint, broken = newest_good(out)
    if checkpoint is not None:
        _check_same(checkpoint, read_configuration(checkpoint), configuration)
        stored = verify(checkpoint, ("state.json",))["data"]
        if stored != fingerprint:
            raise CheckpointError(f"{checkpoint} was trained on other data: {stored}, not {fingerprint}")
    set_aside(broken)
    remove_leftovers(out)
    write_whole(out / "configuration.json", json_bytes(with_checksum(configuration.to_dict())))
    return checkpoint


def _check_same(where: Path, stored: Configuration, wanted: Configuration) -> None:
    differences = stored.differences(wanted)
    if differences:
        listed = "\n".join(["field: there, asked for now", *differences])
        raise CheckpointError(f"{where} is of another configuration; take another folder, or remove it.\n{listed}")


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
