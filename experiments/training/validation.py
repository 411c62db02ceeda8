"""What is seen of a run along training: the loss on held-out images, and grids of the EMA's samples.

The images are always the same ones with the same noise, so that the curve does not flicker, and the samples come from
the same noise, so that grids compare over time.
"""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from experiments.data import Images, to_float, to_uint8
from experiments.diffusion.process import Process
from experiments.diffusion.sampling import sample
from experiments.training.events import RunState, StepReport, Watcher
from experiments.training.metrics import Metrics
from findings.files import write_whole
from flatness import arguments
from flatness.measuring.base import devices_of, standard_error, undisturbed
from flatness.passes import whole_float32
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


KIND = "held_out"


@dataclass(frozen=True)
class Batch:
    """What is held fixed: images x_0 (N, C, H, W) in [-1, 1], their timesteps t (N,) and noise like x_0; on the CPU."""

    x_0: Tensor
    t: Tensor
    noise: Tensor


@dataclass(frozen=True)
class HeldOut:
    """Means over images, and the standard errors of these means.

    The timesteps are stratified, so that the standard error, which takes them for independent, errs on the large side.
    It says how far the mean over all held-out images may be; between two steps of one run, or two runs, images and
    noise are the same and differences much more certain.
    """

    loss: float
    loss_standard_error: float
    mse: float
    mse_standard_error: float


def fixed_batch(images: Images, process: Process, count: int, seed: int) -> Batch:
    """`count` images drawn without replacement, one timestep in each of as many equal shares of [0, T), and noise.

    A function of its arguments alone; torch's own generators are not touched.

    Raises:
        ValueError: count is not 1 or more, or there are fewer images.
    """
    if arguments.count("count", count, at_least=1) > len(images):
        raise arguments.refuse("count", count, f"at most the {len(images)} images of {images.name}, {images.split}")
    generator = torch.Generator().manual_seed(arguments.count("seed", seed))
    chosen = torch.randperm(len(images), generator=generator)[:count]
    x_0 = to_float(images.gather(chosen))
    within = torch.rand(count, generator=generator, dtype=torch.float64)
    shares = (torch.arange(count) + within) / count
    t = (shares * len(process)).long().clamp(max=len(process) - 1)
    return Batch(x_0, t, torch.randn(x_0.shape, generator=generator))


@torch.no_grad()
def measured(model: nn.Module, process: Process, batch: Batch, at_once: int = 64) -> HeldOut:
    """The training loss of each image with uniform weights, without dropout, in float32; nothing is left changed.

    Args:
        model: (x_t, timesteps of the original process) -> output.
        process: of the timesteps in `batch`.
        batch: images, timesteps and noise.
        at_once: images in one pass.
    """
    device = devices_of(model)[0]
    losses, mses = [], []
    with undisturbed(model, eval_mode=True), torch.autocast(device.type, enabled=False), whole_float32():
        for start in range(0, len(batch.t), at_once):
            part = slice(start, start + at_once)
            x_0, t, noise = (tensor[part].to(device) for tensor in (batch.x_0, batch.t, batch.noise))
            x_t = process.q_sample(x_0, t, noise)
            parts = process.losses(model(x_t, process.network_timesteps(t)), x_0, x_t, t, noise)
            losses.append(parts.loss.double().cpu())
            mses.append(parts.mse.double().cpu())
    loss, mse = torch.cat(losses), torch.cat(mses)
    return HeldOut(float(loss.mean()), standard_error(loss), float(mse.mean()), standard_error(mse))


class HeldOutLoss(Watcher):
    """The watcher that measures raw and EMA weights every `sample_every` steps and at the end.

    Args:
        images: held out from training.
        metrics: where the lines go, kind "held_out".
        count: images measured; all, if there are fewer.
    """

    def __init__(self, images: Images, metrics: Metrics, count: int = 512) -> None:
        """Check the arguments."""
        self.images = arguments.instance("images", images, Images)
        self.count = min(arguments.count("count", count, at_least=1), len(images))
        self.metrics = metrics
        self._batch: Batch | None = None

    def started(self, state: RunState, step: int) -> None:
        """Fix images, timesteps and noise; measure the initial weights, or those of a step that was left out."""
        self._batch = fixed_batch(self.images, state.process, self.count, 0)  # not the run's seed, so that runs compare
        if state.options.sample_every and step % state.options.sample_every == 0:
            self._measure(state, step)

    def stepped(self, state: RunState, report: StepReport) -> None:
        """Measure, where it is time."""
        if state.options.sample_every and report.step % state.options.sample_every == 0:
            self._measure(state, report.step)

    def finished(self, state: RunState, step: int) -> None:
        """Measure, unless this step was, or a signal ends the run."""
        self._measure(state, step)

    def _measure(self, state: RunState, step: int) -> None:
        if self._batch is None or state.interrupted or self.metrics.holds(KIND, step):
            return
        values: dict[str, Any] = {"images": len(self._batch.t)}
        for name, model in (("raw", state.model), ("ema", state.shadows["ema"])):
            values[name] = {
                k: v for k, v in asdict(measured(model, state.process, self._batch)).items() if not math.isnan(v)
            }
        self.metrics.record(KIND, step, values)
