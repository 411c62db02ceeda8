"""What the trainer tells whoever watches it: progress bar, metrics file, sample grids, held-out loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import nn

from experiments.configuration import Configuration, RunOptions
from experiments.diffusion.process import Process
from flatness import Shadows


@dataclass(frozen=True)
class StepReport:
    """One step, as seen by rank 0.

    Attributes:
        step: how many have been made, this one included; 1 after the first.
        loss, mse, vb: means over the global batch, each timestep weighted as it was drawn, of the pass at the weights
            w (not at SAM's perturbed ones).
        perturbed_loss: the mean loss of the pass at SAM's perturbed weights; None where the step did not perturb.
        images: in the global batch.
        seconds: wall time since the last report's end.
        seconds_waited: of these, waiting for data.
    """

    step: int
    loss: float
    mse: float
    vb: float
    perturbed_loss: float | None
    images: int
    seconds: float
    seconds_waited: float


@dataclass(frozen=True)
class RunState:
    """What a watcher may look at. It must leave weights, modes and torch's default random states as they were.

    Attributes:
        configuration, options: of the run.
        model, shadows, process: as they stand after the step.
        interrupted: a signal ends the run, and whoever sent it may soon end the process: no time to measure or sample.
            A run that goes on from there makes up for it (`Watcher.started`).
        resumed: what watchers had put into the checkpoint that the run goes on from (`Resumable.state`), by name.
    """

    configuration: Configuration
    options: RunOptions
    model: nn.Module
    shadows: Shadows
    process: Process
    interrupted: bool = False
    resumed: Mapping[str, Any] = field(default_factory=dict)


class Watcher:
    """Called by rank 0 alone, between steps; whatever it raises stops the run, after a checkpoint of the step.

    What it does not define does nothing.
    """

    def started(self, state: RunState, step: int) -> None:
        """Training begins, after `step` steps were made before (0, or what was resumed).

        Of that step some watchers may not have been told, as one failed or a signal came: what they owe is due now.
        """

    def stepped(self, state: RunState, report: StepReport) -> None:
        """A step was made and its report is at hand: every step, in order."""

    def saved(self, state: RunState, step: int, seconds_stopped: float) -> None:
        """A checkpoint was handed over for writing; training stood still for that many seconds."""

    def finished(self, state: RunState, step: int) -> None:
        """Training has ended: at its last step, at `until`, or by a signal (`interrupted`); not after an error."""


@runtime_checkable
class Resumable(Protocol):
    """A watcher whose state is part of the checkpoint.

    Attributes:
        name: under which it stands there, of its own.
    """

    name: str

    def state(self) -> Mapping[str, Any]:
        """After the last step it was told of, in JSON's types."""
