"""What single samples and draws gave while a measure ran, the precision it ran in, and how far it has come.

How far it has come is shown on standard error: bars on a terminal, a line for each measure elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from flatness.cli.statistics import stacked
from flatness.measuring.base import Loss
from flatness.passes import whole_float32

Advance = Callable[[int], None]


@contextmanager
def precision(name: str, device: torch.device) -> Iterator[None]:
    """Passes in "float32", on CUDA without TF32, or in "bfloat16" by autocast; settings are put back."""
    cast = torch.autocast(device.type, torch.bfloat16) if name == "bfloat16" else nullcontext()
    with whole_float32(), cast:
        yield


class RecordedLoss:
    """A loss that keeps what it returned, pass by pass over the same batches.

    Args:
        loss: as `flatness.measuring.base` describes it.
        batches: how many make a pass.
        advance: called with the number of samples of each batch.
    """

    def __init__(self, loss: Loss, batches: int, advance: Advance = lambda samples: None) -> None:
        """Nothing is kept yet."""
        self.loss, self.batches, self.advance = loss, batches, advance
        self.seen: list[Tensor] = []

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """The losses."""
        values = self.loss(model, batch)
        if isinstance(values, Tensor):  # anything else is refused by the measure
            values = values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
            self.seen.append(values.detach().reshape(-1).clone())  # a compiled loss may write its next where this lies
            self.advance(values.numel())
        return values

    def matrix(self, passes: int) -> Tensor:
        """The losses (passes, samples) of all passes that were made.

        Raises:
            RuntimeError: they are more or fewer.
        """
        if len(self.seen) != passes * self.batches:
            raise RuntimeError(f"{len(self.seen)} batches were seen; expected: {passes} passes of {self.batches}")
        step = self.batches
        return stacked([self.seen[index * step : (index + 1) * step] for index in range(passes)])


class RecordedNorms(nn.Module):
    """A model of the noise that keeps the norms of what it predicts, as `flatness.exposure_bias` takes them.

    Args:
        epsilon_model: (x, t) -> the noise, or with v.
        advance: called with the number of samples of each call.
    """

    def __init__(self, epsilon_model: Callable[[Tensor, Tensor], Any], advance: Advance) -> None:
        """Nothing is kept yet."""
        super().__init__()
        self.epsilon_model, self.advance = epsilon_model, advance
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """The noise, or with v."""
        output = self.epsilon_model(x, t)
        epsilon = output[0] if isinstance(output, tuple | list) else output
        if isinstance(epsilon, Tensor):
            norms = torch.linalg.vector_norm(epsilon.flatten(1).float(), dim=1)
            self.seen.append(norms.detach().cpu().double())
            self.advance(len(x))
        return output

    def norms(self, steps: int, samples: int) -> tuple[Tensor, Tensor]:
        """The norms (steps, samples) on images, and (steps, samples) along chains, the step of least noise first."""
        training, sampling = torch.cat(self.seen).view(2, steps, samples)
        return training, sampling.flip(0)  # chains begin with the most noise


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
