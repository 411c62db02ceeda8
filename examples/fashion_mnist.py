"""Fashion-MNIST for the example with diffusers: gzipped IDX files, noised by a diffusers scheduler."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from flatness import low_pass_filter
from flatness.measuring.low_pass_filter import LowPassFilter

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the files."""
HELD_OUT_SEED = 10**6

Batch = tuple[Tensor, Tensor, Tensor]
"""Noisy images (n, 1, 28, 28), timesteps (n,), and the noise that is to be predicted."""


def read_images(folder: Path, part: str) -> Tensor:
    """Images (n, 1, 28, 28), in [-1, 1], of the part "train" or "t10k".

    Raises:
        FileNotFoundError: the folder has no such file; ValueError: the file holds something else.
    """
    path = folder / f"{part}-images-idx3-ubyte.gz"
    with gzip.open(path) as file:
        head, pixels = file.read(16), bytearray(file.read())
    magic, number, height, width = struct.unpack(">4I", head.ljust(16, b"\0"))
    if (magic, height, width) != (0x803, 28, 28) or number == 0 or len(pixels) != number * 28 * 28:
        header = f"magic number {magic:#x}, {number} images of {height} x {width}, {len(pixels)} bytes"
        raise ValueError(f"{path} has {header}; allowed: magic number 0x803, images of 28 x 28, all their bytes")
    return torch.frombuffer(pixels, dtype=torch.uint8).view(-1, 1, 28, 28).float() / 127.5 - 1


def drawn(
    images: Tensor, scheduler: DDPMScheduler, size: int, generator: torch.Generator, device: str | torch.device = "cpu"
) -> Batch:
    """A step's batch; all that is random is drawn on the CPU."""
    x_0 = images[torch.randint(len(images), (size,), generator=generator)]
    t = torch.randint(len(scheduler.alphas_cumprod), (size,), generator=generator)
    noise = torch.randn(x_0.shape, generator=generator).to(x_0)
    return scheduler.add_noise(x_0, noise, t).to(device), t.to(device), noise.to(device)


def losses(unet: nn.Module, batch: Batch) -> Tensor:
    """The loss of each image (n,)."""
    x_t, t, noise = batch
    return (unet(x_t, t).sample - noise).square().mean((1, 2, 3))


def report(name: str, unet: nn.Module, images: Tensor, scheduler: DDPMScheduler, sigma: float = 0.02) -> LowPassFilter:
    """Print the loss on 64 images and its rise; all that is random is the same for every model."""
    generator, device = torch.Generator().manual_seed(HELD_OUT_SEED), next(unet.parameters()).device
    batches = [drawn(images, scheduler, 32, generator, device) for _ in range(2)]
    measured = low_pass_filter(unet, losses, batches, sigma=sigma, draws=5)
    loss, rise = measured.loss.value, measured.rise
    print(
        f"{name:>9}: held-out loss {loss:.4f}; rise under weight noise of sigma {sigma:g}: {rise.value:.4f} (standard"
        f" error over 5 draws {rise.draw_standard_error:.4f})"
    )
    return measured
