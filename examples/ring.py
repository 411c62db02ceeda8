"""The small problem that the examples share: a denoiser of points in the plane, eight normals on a ring.

Cosine noise in continuous time (Nichol and Dhariwal 2021, without their offset), t in [0, 1]:

    x_t = cos(pi t / 2) x_0 + sin(pi t / 2) noise,    loss of a sample: |model(x_t, t) - noise|^2 / 2
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flatness import arguments, low_pass_filter
from flatness.measuring.low_pass_filter import LowPassFilter

HELD_OUT_SEED = 10**6


def parser(description: str | None, steps: int = 1500) -> argparse.ArgumentParser:
    """The options that the examples on this problem have in common."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rho", type=float, default=0.05, help="SAM's radius (default: %(default)s)")
    made.add_argument("--steps", type=int, default=steps, help="(default: %(default)s)")
    made.add_argument("--batch", type=int, default=128, help="points a step sees (default: %(default)s)")
    made.add_argument("--seed", type=int, default=0, help="of weights, points and noise (default: %(default)s)")
    return made


class Batch(NamedTuple):
    """Noisy points x_t (n, 2), their times t (n,), and the noise (n, 2) that is to be predicted."""

    x_t: Tensor
    t: Tensor
    noise: Tensor


class Denoiser(nn.Module):
    """Predicts the noise (n, 2) from x_t and t by two hidden layers."""

    def __init__(self, width: int = 128, seed: int = 0) -> None:
        """Initialise from the seed, leaving the default generator as it was."""
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hidden = (nn.Linear(6, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
            self.layers = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The predicted noise."""
        waves = [f(k * math.pi * t) for k in (0.5, 2) for f in (torch.cos, torch.sin)]
        return self.layers(torch.cat([x_t, torch.stack(waves, dim=1).to(x_t.dtype)], dim=1))


def points(number: int, generator: torch.Generator) -> Tensor:
    """Clean points (number, 2): means at eight places on a circle of radius sqrt(2), standard deviation .1."""
    arguments.count("number", number, at_least=1)
    angle = 2 * math.pi / 8 * torch.randint(8, (number,), generator=generator)
    means = math.sqrt(2) * torch.stack([angle.cos(), angle.sin()], dim=1)
    return means + 0.1 * torch.randn(number, 2, generator=generator)


def noised(x_0: Tensor, generator: torch.Generator) -> Batch:
    """Times and noise for clean points, drawn on the CPU, so that every device sees the same."""
    t = torch.rand(len(x_0), generator=generator).to(x_0)
    noise = torch.randn(x_0.shape, generator=generator).to(x_0)
    angle = math.pi / 2 * t[:, None]
    return Batch(angle.cos() * x_0 + angle.sin() * noise, t, noise)


def batches(steps: int, size: int, seed: int = 0, device: str = "cpu") -> list[Batch]:
    """One batch a step, all of them a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    steps = arguments.count("steps", steps, at_least=1)
    return [noised(points(size, generator).to(device), generator) for _ in range(steps)]


def losses(model: nn.Module, batch: Batch) -> Tensor:
    """The loss of each sample (n,), in float32 at least."""
    error = model(batch.x_t, batch.t) - batch.noise
    return error.square().mean(1)


def report(name: str, model: nn.Module, sigma: float = 0.05, draws: int = 20) -> LowPassFilter:
    """Print a model's held-out loss and how much it rises under weight noise, all models with the same noise."""
    device = next(model.parameters()).device.type
    measured = low_pass_filter(model, losses, batches(4, 512, HELD_OUT_SEED, device), sigma=sigma, draws=draws)
    rise = measured.rise
    print(
        f"{name:>8}: held-out loss {measured.loss.value:.4f}; rise under weight noise of sigma {sigma:g}:"
        f" {rise.value:.4f} (standard error over {draws} draws {rise.draw_standard_error:.4f})"
    )
    return measured
