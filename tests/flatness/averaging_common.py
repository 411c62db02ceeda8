"""A network whose weights walk as a function of the step, and what averages of them are, which several tests share."""

import math

import numpy as np
import torch
from torch import nn

STEPS = 60
ROUNDING = 1e-13
"""float64, weights of order 1: a rounding of 1e-16 a step, sixty steps, and the direct sum's own."""


def network(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Two layers around a batch norm."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).to(dtype)


def flat(module: nn.Module) -> np.ndarray:
    """All parameters in a row."""
    return torch.cat([p.detach().flatten() for p in module.parameters()]).double().numpy()


@torch.no_grad()
def walk(model: nn.Module, step: int) -> None:
    """The weights after a step, a function of the step: a slow drift with noise."""
    generator = torch.Generator().manual_seed(step)
    for p in model.parameters():
        p.copy_(math.sin(step / 40) + 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def history(count: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    """The initial weights, and those after steps 0 to count - 1."""
    model, after = network(), []
    initial = flat(model)
    for step in range(count):
        walk(model, step)
        after.append(flat(model))
    return initial, np.array(after)


def profile_weights(gamma: float, steps: int, total: int) -> np.ndarray:
    """What the weights after each of the steps count for in a power-function EMA after `steps` of them."""
    k = np.arange(1, total + 1)
    return np.where(k <= steps, (k ** (gamma + 1.0) - (k - 1) ** (gamma + 1.0)) / steps ** (gamma + 1.0), 0)
