"""Layers that compute their weight, as weight_norm and parametrisations do: averaged, rounded, moved and copied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import flatness
from flatness import EMA, Shadows
from flatness.modules import copied_module

NORMS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight_norm of old": nn.utils.weight_norm,
    "spectral_norm of old": nn.utils.spectral_norm,
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "orthogonal": nn.utils.parametrizations.orthogonal,
}
pytestmark = [
    pytest.mark.parametrize("name", NORMS),
    pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning"),
]
X = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


def made(name: str) -> nn.Module:
    """A network that has been called, so that it keeps a weight with a graph behind it."""
    torch.manual_seed(0)
    model = nn.Sequential(NORMS[name](nn.Linear(3, 3)), nn.Tanh()).eval()
    model(X).sum()
    return model


def loss(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().mean(1)


def step(model: nn.Module) -> None:
    """One of gradient descent."""
    model.zero_grad()
    loss(model, X).sum().backward()
    with torch.no_grad():
        for p in model.parameters():
            if p.grad is not None:
                p.sub_(0.1 * p.grad)


def test_the_average_is_that_of_the_parameters_and_the_model_stays(name: str) -> None:
    model = made(name)
    initial = [p.detach().clone() for p in model.parameters()]
    shadows = Shadows(model, {"ema": EMA(0.9)})
    step(model)
    shadows.update(0)
    for average, before, now in zip(shadows["ema"].parameters(), initial, model.parameters(), strict=True):
        assert torch.allclose(average, 0.9 * before + 0.1 * now, atol=1e-6)
    own = model(X).detach()
    with shadows.applied("ema", model):
        applied = model(X).detach()
    assert torch.allclose(shadows["ema"](X), applied, atol=1e-6)
    assert not torch.allclose(applied, own, atol=1e-5)
    assert torch.equal(model(X), own)


def test_rounding_and_noise_take_it_and_leave_it_as_it_was(name: str) -> None:
    model = made(name)
    own = model(X).detach()
    before = model[0].weight.detach().clone()  # type: ignore[index]
    twin = flatness.quantize_weights(model, 3)
    with flatness.quantized(model, 3):
        inside = model(X).detach()
    assert torch.allclose(twin.eval()(X), inside, atol=1e-6)
    assert not torch.allclose(inside, own, atol=1e-4)
    assert torch.equal(model(X), own)
    rise = flatness.quantization_rise(model, loss, [X], 3).rise.value
    assert rise == pytest.approx(float((inside.square() - own.square()).mean()), abs=1e-6)
    assert flatness.low_pass_filter(model, loss, [X], draws=3, sigma=0.1).rise.value != 0.0
    flatness.curvature(model, loss, [X], probes=1, max_steps=1)
    assert torch.equal(model[0].weight, before)  # type: ignore[index]


def test_a_copy_is_apart(name: str) -> None:
    model = made(name)
    twin, own = copied_module(model), model(X).detach()
    assert torch.equal(twin(X), own)
    step(twin)
    assert not torch.equal(twin(X), own)
    assert torch.equal(model(X), own)
