"""Grids of samples along training, from the EMA and always from the same noise, so that they compare over time."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from experiments.data import to_uint8
from experiments.diffusion.process import Process
from experiments.diffusion.sampling import sample
from experiments.training.events import RunState, StepReport, Watcher
from findings.files import write_whole
from flatness import arguments
from flatness.measuring.base import devices_of, undisturbed
from flatness.precision import whole_float32
from flatness.weights import derived_seed

FOLDER = "samples"
STEPS = 20
"""T' of a grid's sampling."""
GAP = 2
"""Pixels between images."""


def samples(
    model: nn.Module, process: Process, shape: tuple[int, int, int, int], steps: int = 20, seed: int = 0
) -> Tensor:
    """Images (N, C, H, W) of about [-1, 1] by ancestral sampling, without dropout, in float32; nothing is left changed.

    A function of the model and the seed: the noise is drawn on the CPU, the same for every device.

    Args:
        model: (x, timesteps of the original process) -> output.
        process: the whole one; it is respaced to `steps`, or used as it is where it has fewer.
        shape: (N, C, H, W).
        steps: T'.
        seed: of the noise.
    """

    def noise(step: int, size: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(derived_seed("sample grid", seed, step))
        return torch.randn(size, generator=generator)

    device = devices_of(model)[0]
    steps = min(arguments.count("steps", steps, at_least=1), len(process))
    with undisturbed(model, eval_mode=True), torch.autocast(device.type, enabled=False), whole_float32():
        return sample(model, process.respaced(steps), noise(steps, shape).to(device), noise)


def grid(images: Tensor, columns: int) -> Image.Image:
    """Images (N, C, H, W) in [-1, 1], C 1 or 3, row by row."""
    pixels = to_uint8(images).cpu()
    count, channels, height, width = pixels.shape
    rows = -(-count // arguments.count("columns", columns, at_least=1))
    sheet = torch.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), 255, dtype=torch.uint8)
    for index, image in enumerate(pixels):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = image.permute(1, 2, 0)
    return Image.fromarray(sheet.squeeze(-1).numpy())


class SampleGrids(Watcher):
    """The watcher that writes samples/step-00010000.png every `sample_every` steps and at the end, if that is not 0.

    Args:
        side: images in a row and in a column.
    """

    def __init__(self, side: int = 8) -> None:
        """Check the argument."""
        self.side = arguments.count("side", side, at_least=1)
        self._last = -1

    def started(self, state: RunState, step: int) -> None:
        """The grid of the step that is resumed from, where it was left out."""
        due = step and state.options.sample_every and step % state.options.sample_every == 0
        if due and not _path(state, step).exists():
            self._write(state, step)

    def stepped(self, state: RunState, report: StepReport) -> None:
        """A grid, where it is time."""
        if state.options.sample_every and report.step % state.options.sample_every == 0:
            self._write(state, report.step)

    def finished(self, state: RunState, step: int) -> None:
        """The last grid, unless a signal ends the run."""
        if state.options.sample_every:
            self._write(state, step)

    def _write(self, state: RunState, step: int) -> None:
        if state.interrupted or step == self._last:
            return
        self._last = step
        network = state.configuration.network
        shape = (self.side**2, network.channels, network.image_size, network.image_size)
        stream = io.BytesIO()
        images = samples(state.shadows["ema"], state.process, shape, STEPS, 0)
        grid(images, self.side).save(stream, format="PNG")
        write_whole(_path(state, step), stream.getvalue())


def _path(state: RunState, step: int) -> Path:
    return state.options.out / FOLDER / f"step-{step:08d}.png"
