"""What the tests of the examples on the ring share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from examples.ring import Batch, Denoiser, batches, losses

RHO = 0.05


def small() -> nn.Module:
    """A denoiser in float64."""
    return Denoiser(width=16).double()


def data(steps: int = 8, size: int = 10) -> list[Batch]:
    """Batches in float64."""
    return [Batch(*(tensor.double() for tensor in batch)) for batch in batches(steps, size)]


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer that the examples wrap."""
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The mean over the batch."""
    return losses(model, batch).mean()


def check_falls(trained: nn.Module, before: nn.Module, data: Sequence[Batch]) -> None:
    """The loss on the training batches is lower than before."""
    with torch.no_grad():
        after, start = (sum(float(mean_loss(model, batch)) for batch in data) for model in (trained, before))
    assert after < start
