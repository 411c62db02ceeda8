"""The loss on held-out images, always the same ones with the same noise: a curve that does not flicker."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from experiments.data import Images, to_float
from experiments.diffusion.process import Process
from experiments.training.events import RunState, StepReport, Watcher
from experiments.training.metrics import Metrics
from flatness import arguments
from flatness.measuring.base import devices_of, standard_error, undisturbed
from flatness.precision import whole_float32

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
