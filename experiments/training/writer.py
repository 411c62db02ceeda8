"""Files written aside, by one thread in order, while training goes on; its errors raised where training can stop."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from experiments.training.checkpoints import CheckpointError, Contents, write_checkpoint, write_point, write_snapshots
from experiments.training.distributed import side_stream
from flatness.training.weight_averaging import Snapshot


class Writer:
    """Writes checkpoints and snapshots of one run; one at a time, so at most one copy is held.

    Args:
        out: the run's folder.
        last: the last whole checkpoint, named in errors.
        device: where contents may be.

    Attributes:
        last: the newest checkpoint that is on the disk.
    """

    def __init__(self, out: Path, last: Path | None, device: torch.device) -> None:
        """Start no thread yet."""
        self.out, self.last, self.device = out, last, device
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending: Future[None] | None = None
        self._step = 0

    @property
    def failed(self) -> bool:
        """Whether a write has ended in an error that was not raised yet; does not wait."""
        pending = self._pending
        return pending is not None and pending.done() and pending.exception() is not None

    def write(
        self,
        step: int,
        snapshots: Sequence[Snapshot],
        contents: Contents | None,
        point: Contents | None = None,
    ) -> None:
        """Write aside the snapshots, the point to be measured, then the checkpoint of a step; first waits.

        Contents on a device are complete: whoever copied them has waited for the device.

        Raises:
            CheckpointError: the write before failed.
        """
        self.wait()
        self._pending = self._pool.submit(self._write, snapshots, contents, point)
        self._step = step

    def wait(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            CheckpointError: a write failed: the disk is full, a weight is not finite, or else. The checkpoints that
                were there before are intact; the last is named.
        """
        pending, self._pending = self._pending, None
        error = None if pending is None else pending.exception()
        if error is not None:
            message = f"what was to be saved at step {self._step} could not be written: {error}; {self.last_good()}"
            raise CheckpointError(message) from error

    def last_good(self) -> str:
        """The last whole checkpoint, in words."""
        return f"the last good checkpoint is {self.last}" if self.last else "there is no checkpoint yet"

    def close(self) -> None:
        """Let the write that is under way end, and start no other."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _write(self, snapshots: Sequence[Snapshot], contents: Contents | None, point: Contents | None) -> None:
        # First, so that a run that continues from the checkpoint has them
        write_snapshots(self.out, snapshots)
        if point is not None:
            with side_stream(self.device):
                write_point(self.out, point)
        if contents is not None:
            with side_stream(self.device):
                self.last = write_checkpoint(self.out, contents)
