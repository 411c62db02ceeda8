"""A network, images and configurations so small that a step takes milliseconds."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from experiments.adm import ADMOptions
from experiments.configuration import AverageOptions, Configuration, RunOptions, SAMOptions, WeightNoiseOptions
from experiments.data import Images
from experiments.diffusion import ProcessOptions
from experiments.training.events import RunState, StepReport, Watcher

NETWORK = ADMOptions(
    image_size=4,
    channels=1,
    model_channels=32,
    channel_mult=(1,),
    num_res_blocks=1,
    attention_resolutions=(),
    dropout=0.0,
)
STEPS = 12
BASE = Configuration(
    dataset="fashion-mnist",
    steps=STEPS,
    global_batch=8,
    learning_rate=1e-3,
    timestep_weights="uniform",
    network=NETWORK,
    # So few timesteps that second-moment draws leave their uniform beginning within a few steps
    process=ProcessOptions(schedule="cosine", steps=3),
    sam=SAMOptions(rho=0.05),
    weight_noise=WeightNoiseOptions(0.05),
    averages=AverageOptions(ema_decay=0.9, swa_start=0.5, swa_cycle=2),
)


def configured(dropout: float = 0.0, **changes: Any) -> Configuration:
    """BASE with changes."""
    return dataclasses.replace(BASE, network=dataclasses.replace(NETWORK, dropout=dropout), **changes)


def images(fingerprint: str = "sha256:" + "0" * 64) -> Images:
    """Forty random ones."""
    pixels = torch.randint(256, (40, 1, 4, 4), generator=torch.Generator().manual_seed(7), dtype=torch.uint8)
    return Images(pixels, "fashion-mnist", "train", fingerprint)


def run_options(out: Path, **changes: Any) -> RunOptions:
    """On the CPU, a checkpoint every fourth step."""
    return RunOptions(**{"out": out, "device": "cpu", "checkpoint_every": 4, **changes})


class Recorder(Watcher):
    """A watcher that keeps all it is told."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.reports: list[StepReport] = []
        self.events: list[tuple[str, int]] = []

    def started(self, state: RunState, step: int) -> None:
        """Where it began."""
        self.events.append(("started", step))

    def stepped(self, state: RunState, report: StepReport) -> None:
        """Its report."""
        self.reports.append(report)

    def saved(self, state: RunState, step: int, seconds_stopped: float) -> None:
        """When."""
        self.events.append(("saved", step))

    def finished(self, state: RunState, step: int) -> None:
        """When."""
        self.events.append(("finished", step))


def stored(out: Path, step: int = STEPS) -> dict[str, bytes]:
    """All tensors' files of a checkpoint, as bytes."""
    return {
        path.name: path.read_bytes() for path in sorted((out / f"checkpoints/step-{step:08d}").glob("*.safetensors"))
    }


def gradient_difference(a: Path, b: Path, step: int = STEPS) -> float:
    """How far two runs' weights are apart, as the error of the gradients that explains it, over the largest gradient.

    Adam divides by the gradient's size, so where a gradient is rounding alone (a bias before a norm of one channel a
    group), weights move by the learning rate in a direction of chance: those differ, and change nothing. Times the
    root of the second moment, over the learning rate, a difference is a gradient's again.
    """
    folders = [out / f"checkpoints/step-{step:08d}" for out in (a, b)]
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in folders)
    moments = load_file(folders[0] / "optimizer.safetensors")
    sizes = {name: moments[f"{name}.exp_avg_sq"].sqrt() for name in ours}
    errors = [float(((ours[name] - theirs[name]).abs() * sizes[name]).max()) for name in ours]
    return max(errors) / BASE.learning_rate / max(float(size.max()) for size in sizes.values())


GRADIENT_ROUNDING = 1e-2
"""For `gradient_difference` of runs that add in another order: float32 rounds at 6e-8, sums of some 1e3 terms and a
dozen of Adam's steps, each near the size of the weights it moves, make that some 3e-5, with SAM, whose ascent divides
by the gradient's norm, 4e-4. Runs that differ in anything else are apart by 0.3 and more."""
