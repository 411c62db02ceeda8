"""Sampling: ours against diffusers' DDPM pipeline, which is given the same network; and what the noise costs.

Both sample with T' steps evenly spaced from 0 to 999, learned-range variance and clipping, on the same device. The
bound for either is T' bare passes of the network, which is timed beside them. diffusers draws noise from one generator
for the whole batch, ours from a stream for each image; per-image generators, as its pipeline also takes, are a third.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Row, interleaved
from experiments.adm import ADM, ADMOptions
from experiments.configuration import PRESETS, PresetName
from experiments.diffusion import Process, ProcessOptions
from experiments.sampling.chains import ImageNoise, generate
from flatness.optional_imports import imported
from flatness.passes import whole_float32

IMAGES = {"cpu": 16, "cuda": 256}
STEPS = 20
ROUNDS = 7
CPU_PRESETS: tuple[PresetName, ...] = ("fashion-mnist-tiny",)
CUDA_PRESETS: tuple[PresetName, ...] = ("cifar10", "fashion-mnist-tiny")
LARGE, LARGE_STEPS = 50_000, 100
"""Images and steps of a table's distance."""


class ForDiffusers(nn.Module):
    """Our network as diffusers' pipeline calls its own: a scalar timestep, and the output under a name."""

    def __init__(self, network: ADM) -> None:
        """Wrap it; the weights are shared."""
        super().__init__()
        self.network = network
        options = network.options
        self.config = SimpleNamespace(sample_size=options.image_size, in_channels=options.channels)
        self.dtype = torch.float32

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """(N, C, H, W) and a scalar -> an object with the sample (N, 2C, H, W)."""
        return SimpleNamespace(sample=self.network(x, t.to(x.device).expand(len(x))))


def network_of(options: ADMOptions, device: str) -> ADM:
    """In evaluation mode, with weights that predict something; fresh ones predict no noise at all."""
    torch.manual_seed(0)
    adm = ADM(options)
    with torch.no_grad():
        for parameter in adm.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return adm.to(device).eval()


def _scheduler(diffusers: Any) -> Any:
    return diffusers.DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        timestep_spacing="linspace",
        clip_sample=True,
    )


def diffusers_sampler(diffusers: Any, network: ADM, images: int, own_generators: bool) -> Callable[[], Tensor]:
    """A call of diffusers' pipeline, as a tensor of pixels in [0, 1]."""
    device = next(network.parameters()).device
    pipeline = diffusers.DDPMPipeline(unet=ForDiffusers(network), scheduler=_scheduler(diffusers))
    pipeline.set_progress_bar_config(disable=True)

    def sample() -> Tensor:
        one = torch.Generator(device).manual_seed(0)
        each = [torch.Generator(device).manual_seed(i) for i in range(images)] if own_generators else one
        generated = pipeline(images, generator=each, num_inference_steps=STEPS, output_type="np").images
        return torch.from_numpy(generated)

    return sample


def our_sampler(network: ADM, process: Process, images: int) -> Callable[[], Tensor]:
    """A call of ours, likewise ending on the CPU."""

    def sample() -> Tensor:
        (sampled,) = generate(network, process, range(images), steps=STEPS, batch_size=images)
        return sampled.images.cpu()

    return sample


def _bare_passes(network: ADM, images: int) -> Callable[[], Tensor]:
    options = network.options
    device = next(network.parameters()).device
    x = torch.randn(images, options.channels, options.image_size, options.image_size, device=device)
    t = torch.full((images,), 500, device=device)

    @torch.no_grad()
    def passes() -> Tensor:
        for _ in range(STEPS):
            output = network(x, t)
        return output.cpu()

    return passes


def sampling() -> list[Row]:
    """Images per second, and the ratio to diffusers."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = IMAGES[device]
    preset = (CUDA_PRESETS if device == "cuda" else CPU_PRESETS)[0]
    network, process = network_of(PRESETS[preset].network, device), Process(ProcessOptions())
    contenders = {"passes": _bare_passes(network, images), "ours": our_sampler(network, process, images)}
    diffusers = imported("diffusers")
    if diffusers is not None:
        contenders["diffusers"] = diffusers_sampler(diffusers, network, images, own_generators=False)
        contenders["own"] = diffusers_sampler(diffusers, network, images, own_generators=True)
    with whole_float32():  # ours samples so on CUDA, and is to be compared with peers that do
        seconds = interleaved(contenders, ROUNDS)
    what = f"sampling, {preset} on {device}, {images} images, T' = {STEPS}"
    rows = [
        (
            f"{what}: ours",
            f"{images / seconds['ours']:.1f} images/s",
            f"{seconds['ours'] / seconds['passes']:.3f} times the bare passes of the network",
        )
    ]
    if diffusers is None:
        return [*rows, (f"{what}: diffusers", "not installed", "pip install 'diffusers>=0.35'")]
    return [
        *rows,
        (
            f"{what}: over diffusers",
            f"{seconds['diffusers'] / seconds['ours']:.3f} times its images/s",
            f"DDPMPipeline with the same network, {images / seconds['diffusers']:.1f} images/s; with a generator for "
            f"each image {images / seconds['own']:.1f}",
        ),
    ]


def noise() -> list[Row]:
    """A step's noise against the network's pass that goes with it, and all the noise of a table's distance."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows, presets = [], CUDA_PRESETS if device == "cuda" else CPU_PRESETS
    for preset in presets:
        options, images = PRESETS[preset].network, IMAGES[device]
        shape = (options.channels, options.image_size, options.image_size)
        image_noise = ImageNoise(0, torch.arange(images), shape, device)
        network = network_of(options, device)
        x, t = image_noise.start(), torch.full((images,), 500, device=device)

        def drawn(source: ImageNoise = image_noise) -> None:
            source(1)
            _finish()

        @torch.no_grad()
        def passed(network: ADM = network, x: Tensor = x, t: Tensor = t) -> None:
            network(x, t)
            _finish()

        seconds = interleaved({"noise": drawn, "pass": passed}, 3 * ROUNDS)
        share = seconds["noise"] / seconds["pass"]
        rows.append((f"noise of a step, {preset} on {device}, {images} images", f"{share:.2%} of a pass", "the pass"))
    images, shape = 512, (3, 32, 32)
    image_noise = ImageNoise(0, torch.arange(images), shape, device)

    def drawn_large() -> None:
        image_noise(1)
        _finish()

    each = interleaved({"noise": drawn_large}, ROUNDS)["noise"] / images
    total = each * LARGE * LARGE_STEPS
    what = f"noise of {LARGE:,} images, 3x32x32, T' = {LARGE_STEPS}, on {device}"
    return [*rows, (what, f"{total:.0f} s", f"{each * 1e6:.1f} us an image and step")]


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


PARTS = (sampling, noise)
