"""Optimizers of other packages that keep their state in 8 bits, inside of SAM: skipped where they are not installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness import SAM

RHO = 0.05
pytestmark = pytest.mark.filterwarnings("ignore")  # of packages that look for accelerators


def bitsandbytes(parameters: Any) -> torch.optim.Optimizer:
    module = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed", exc_type=ImportError)
    optimizer: torch.optim.Optimizer = module.optim.Adam8bit(parameters, lr=1e-3, min_8bit_size=1)
    return optimizer


def torchao(parameters: Any) -> torch.optim.Optimizer:
    module = pytest.importorskip("torchao.optim", reason="torchao is not installed", exc_type=ImportError)
    optimizer: torch.optim.Optimizer = module.AdamW8bit(parameters, lr=1e-3)
    return optimizer


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 64))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - x).square().mean()


@pytest.mark.parametrize("make", [bitsandbytes, torchao])
def test_an_8_bit_optimizer_makes_sams_steps(make: Callable[[Any], torch.optim.Optimizer]) -> None:
    """The same optimizer handed the gradient at w_hat by hand."""
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    model, twin = network(), network()
    sam, optimizer = SAM(make(model.parameters()), rho=RHO), make(twin.parameters())

    def closure() -> Tensor:
        sam.zero_grad()
        loss = loss_of(model, x)
        loss.backward()
        return loss

    for _ in range(5):
        sam.step(closure)
        weights = list(twin.parameters())
        gradients = torch.autograd.grad(loss_of(twin, x), weights)
        length = float(torch.cat([g.double().flatten() for g in gradients]).norm())
        before = [p.detach().clone() for p in weights]
        with torch.no_grad():
            for p, g in zip(weights, gradients, strict=True):
                p.add_(g, alpha=RHO / length)
        optimizer.zero_grad()
        loss_of(twin, x).backward()
        with torch.no_grad():
            for p, w in zip(weights, before, strict=True):
                p.copy_(w)
        optimizer.step()
    initial = network()
    for ours, theirs, start in zip(model.parameters(), twin.parameters(), initial.parameters(), strict=True):
        # float32; a moment near the middle of two of its 256 levels may fall to either
        assert torch.allclose(ours, theirs, atol=1e-5)
        assert not torch.allclose(ours, start, atol=1e-3)
