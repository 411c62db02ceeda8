"""A small network, its data and the closures that the tests of SAM share."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from flatness.training.perturbed_optimizer import PerturbedOptimizer

EPS = torch.finfo(torch.float64).eps
RHO = 0.3
ROUNDING = 1e-10
"""Two float64 implementations differ by some 1e-15 per gradient, from the order of sums; a hundred steps, and Adam's
division by a small root, leave that below 1e-12. The mutants are off by more than 1e-4."""
Optimizers: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
}


def network(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """Two layers with tanh between, 3 to 2."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).to(dtype)


def data(count: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Inputs (n, 3) and targets (n, 2)."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(count, k, generator=generator, dtype=torch.float64) for k in (3, 2))  # type: ignore[return-value]


def weights(model: nn.Module) -> list[Tensor]:
    """Copies of the parameters."""
    return [p.detach().clone() for p in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Whether all are equal, bit for bit."""
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean squared error."""
    return ((model(x) - y) ** 2).mean()


def closure_of(flattener: PerturbedOptimizer, model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    """A closure as a flattener's `step` takes it."""

    def closure() -> Tensor:
        flattener.zero_grad()
        loss = loss_of(model, x, y)
        loss.backward()
        return loss

    return closure
