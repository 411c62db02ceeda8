"""Buffers that a pass writes to, replaces, makes or cannot write to: kept by measures, SAM and averages of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness import EMA, SAM, Shadows, low_pass_filter
from flatness.modules import SavedBuffers
from tests.flatness import measures_common as common


class Statistics(nn.Module):
    """A layer with buffers of every kind."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 3)
        self.written: Tensor
        self.register_buffer("written", torch.zeros(3))
        self.replaced: Tensor
        self.register_buffer("replaced", torch.zeros(3))
        self.signed: Tensor
        self.register_buffer("signed", -torch.zeros(1))
        self.register_buffer("made", None)
        self.register_buffer("expanded", torch.arange(3.0).expand(2, 3), persistent=False)
        self.register_buffer("grows", torch.zeros(0), persistent=False)
        self.register_buffer("apart", torch.zeros(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of x's shape; running means are taken in."""
        y: Tensor = self.layer(x)
        mean = y.detach().mean(0)
        self.written.lerp_(mean, 0.1)
        self.replaced = torch.lerp(self.replaced, mean, 0.1)
        self.signed.abs_()
        self.made = torch.ones(2)
        self.grows = torch.cat([self.get_buffer("grows"), mean])
        self.apart = mean[:1]
        return y


X = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x) - 1).square().mean(1)


def by_name(model: nn.Module) -> dict[str, Any]:
    return {name: None if b is None else b.clone() for name, b in model._buffers.items()}


def check_sam() -> None:
    """A step of SAM leaves the buffers as one pass at w does."""
    model, once = Statistics(), Statistics()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=0.5, model=model)

    def closure() -> Tensor:
        sam.zero_grad()
        loss = loss_of(model, X).mean()
        loss.backward()
        return loss

    sam.step(closure)
    once(X)
    assert common.same(by_name(model), by_name(once))


def check_averages() -> None:
    """An average has the buffers of the last update; the model has its own again after the average has been in it."""
    model = Statistics()
    shadows = Shadows(model, {"ema": EMA(0.5)})
    for step in range(2):
        model(X)
        shadows.update(step)
        assert common.same(by_name(model), by_name(shadows["ema"]))
    taken = by_name(model)
    model(X)
    before = common.state_of(model)
    with shadows.applied("ema", model):
        assert common.same(by_name(model), taken)
        model(X)
    assert common.same(before, common.state_of(model))


def check_measure() -> None:
    """Every pass of a measure begins with the same buffers, and they come back."""
    model, seen = Statistics(), []

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        seen.append(by_name(net))
        return loss_of(net, x)

    before = common.state_of(model)
    low_pass_filter(model, loss, [X], draws=2, eval_mode=False)
    assert all(common.same(one, seen[0]) for one in seen)
    assert common.same(before, common.state_of(model))


CHECKS = {"sam": check_sam, "averages": check_averages, "measure": check_measure}


@pytest.mark.parametrize("name", CHECKS)
def test_buffers_of_every_kind(name: str) -> None:
    CHECKS[name]()


def written_alone(self: SavedBuffers, compare: bool = True) -> None:
    """Mutant: values are put back in place, and buffers that were replaced stay replaced."""
    with torch.no_grad():
        for _, buffers, values in self.saved:
            for key in ("written", "replaced"):
                if buffers.get(key) is not None:
                    buffers[key].copy_(values[key])  # type: ignore[union-attr, arg-type]


def replaced_alone(self: SavedBuffers, compare: bool = True) -> None:
    """Mutant: buffers that were replaced come back, with what was written to them."""
    for module, buffers, _ in self.saved:
        module._buffers.clear()
        module._buffers.update(buffers)


@pytest.mark.parametrize("mutant", [written_alone, replaced_alone, lambda self, compare=True: None])
@pytest.mark.parametrize("name", CHECKS)
def test_mutants_are_found_out(name: str, mutant: Callable[..., None]) -> None:
    with common.patched(SavedBuffers, "put_back", mutant), pytest.raises(AssertionError):
        CHECKS[name]()
