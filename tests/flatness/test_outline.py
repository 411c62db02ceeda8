"""What changed in a model after its averages began is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from flatness import EMA, Shadows
from flatness.training.weight_averaging import Outline


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))


def grown(net: nn.Sequential) -> None:
    net.append(nn.Linear(1, 1))


def shrunk(net: nn.Sequential) -> None:
    del net[1]


def reshaped(net: nn.Sequential) -> None:
    net[0].weight.data = torch.zeros(4, 2)


def narrowed(net: nn.Sequential) -> None:
    net[0].double()


def normalised(net: nn.Sequential) -> None:
    nn.utils.parametrizations.weight_norm(net[0])


def reordered(net: nn.Sequential) -> None:
    first = net._modules.pop("0")
    net._modules["0"] = first


CHANGES: dict[Callable[[nn.Sequential], None], str] = {
    grown: r"2\.weight is new; 2\.bias is new; allowed",
    shrunk: r"1\.weight is gone; 1\.bias is gone; allowed",
    reshaped: r"0\.weight has the shape \(4, 2\), and had \(3, 2\); allowed",
    narrowed: r"0\.weight has the dtype torch\.float64, and had torch\.float32; 0\.bias has",
    normalised: r"0\.parametrizations\.weight\.original0 is new; .*0\.weight is gone",
    reordered: r"its parameters are in another order",
}


@pytest.mark.parametrize("change", CHANGES)
def test_shadows_name_what_changed_and_keep_their_averages(change: Callable[[nn.Sequential], None]) -> None:
    net = model()
    shadows = Shadows(net, {"ema": EMA(0.9)})
    shadows.update(0)
    before = [p.clone() for p in shadows["ema"].parameters()]
    change(net)
    with pytest.raises(ValueError, match=f"model has changed: .*{CHANGES[change]}"):
        shadows.update(1)
    assert shadows.next_step == 1
    assert all(torch.equal(a, b) for a, b in zip(before, shadows["ema"].parameters(), strict=True))


def test_what_is_no_change_is_none() -> None:
    net = model()
    outline = Outline(net)
    net[0].weight.data = torch.ones(3, 2)
    net.requires_grad_(False)
    assert outline.changes(net) == ""
    assert outline.changes(torch.compile(net, backend="eager")) == ""  # type: ignore[arg-type]
    many = nn.Sequential(*(nn.Linear(1, 1) for _ in range(6)))
    assert "; and " in outline.changes(many)
