"""The watchers of runs that are trained one behind the other: a fresh set for each."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.commands.progress import ShownProgress
from experiments.data import Images
from experiments.training.events import Watcher
from experiments.training.grids import SampleGrids
from experiments.training.held_out import HeldOutLoss
from experiments.training.metrics import Metrics


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
