"""Every random number of a run, as a function of (seed, step), and for dropout also of rank and micro-batch.

Timesteps and noise are drawn for the whole global batch on every rank, which then takes its share: so a run does not
depend on how many ranks carry it out. Order and flips of the images are `experiments.data.Batches`' own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.diffusion.timesteps import SecondMomentTimesteps, UniformTimesteps
from flatness import perturbed_noise
from flatness.weights import derived_seed


class Draws(NamedTuple):
    """Of one step, for the whole global batch of N images.

    Attributes:
        t: (N,), int64, on the CPU.
        weights: (N,), float32, on the CPU, of the losses at these timesteps.
        noise: (N, C, H, W), float32, on the device: what the network is to predict.
        input_noise: the same with input perturbation added: what x_t is built with.
    """

    t: Tensor
    weights: Tensor
    noise: Tensor
    input_noise: Tensor


def generator(device: torch.device, *label: int | str) -> torch.Generator:
    """A generator of its own, whose numbers are a function of the label."""
    return torch.Generator(device).manual_seed(derived_seed("training", *label))


def drawn(
    timesteps: UniformTimesteps | SecondMomentTimesteps,
    shape: tuple[int, ...],
    input_perturbation: float,
    device: torch.device,
    seed: int,
    step: int,
) -> Draws:
    """The draws of a step, counted from 0, for a global batch (N, C, H, W); of the same bits on devices of one kind."""
    t, weights = timesteps.draw(shape[0], generator(torch.device("cpu"), "timesteps", seed, step))
    of_noise = generator(device, "noise", seed, step)
    noise = torch.randn(shape, generator=of_noise, device=device)
    return Draws(t, weights, noise, perturbed_noise(noise, input_perturbation, of_noise))


def seed_dropout(device: torch.device, seed: int, rank: int, step: int, micro_batch: int) -> None:
    """Seed torch's default generators, which dropout draws from, before a pass through the network."""
    derived = derived_seed("dropout", seed, rank, step, micro_batch)
    torch.default_generator.manual_seed(derived)
    if device.type == "cuda":
        torch.cuda.manual_seed(derived)


@contextlib.contextmanager
def default_generators_kept(device: torch.device) -> Iterator[None]:
    """On leaving, torch's default generators, on the CPU and the device, are as they were on entry."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextlib.contextmanager
def initialized_by(seed: int) -> Iterator[None]:
    """Within, modules made on the CPU get initial weights that are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed("weights", seed))
        yield
