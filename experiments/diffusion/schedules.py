"""Noise schedules, in float64."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from flatness import arguments

COSINE_OFFSET = 0.008
LARGEST_BETA = 0.999


def cosine_betas(steps: int) -> Tensor:
    """beta_t (steps,) of the cosine schedule, at most 0.999 (Nichol and Dhariwal, 2021, Eq. 17).

    Raises:
        ValueError: fewer than one step.
    """
    steps = arguments.count("steps", steps, at_least=1)
    times = [(step / steps + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) for step in range(steps + 1)]
    bars = [math.cos(time * math.pi / 2.0) ** 2 for time in times]
    betas = [min(1.0 - after / before, LARGEST_BETA) for before, after in pairwise(bars)]
    return torch.tensor(betas, dtype=torch.float64)


def linear_betas(steps: int) -> Tensor:
    """beta_t (steps,), evenly spaced from 1e-4 to 0.02 for 1000 steps (Ho et al., 2020, Section 4).

    For another number of steps both ends are scaled by 1000 / steps, so that the noise at the end is about the same.

    Raises:
        ValueError: so few steps that a beta would not be below 1 (20 or fewer).
    """
    steps = arguments.count("steps", steps, at_least=1)
    if steps <= 20:
        raise arguments.refuse("steps", steps, "more than 20 with the linear schedule, or its last beta reaches 1")
    scale = 1000.0 / steps
    return torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64)
