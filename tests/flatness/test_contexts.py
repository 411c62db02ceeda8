"""Measures inside autocast and inference mode; of models that are compiled, scripted, exported, or in float8."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flatness
from flatness import EMA, Shadows
from flatness.modules import as_written, plain_modules, plain_name, uncompiled
from flatness.weights import moved
from tests.flatness import measures_common as common


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


X = torch.randn(32, 8, generator=torch.Generator().manual_seed(1))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return (model(x).float() - x[:, :4]).square().mean(1)


RISES: dict[str, Callable[[nn.Module], float]] = {
    "noise": lambda m: flatness.low_pass_filter(m, loss_of, [X], sigma=0.2, draws=2).rise.value,
    "curve": lambda m: flatness.perturbation_curve(m, loss_of, [X], [1.0], draws=2).rises[0].value,
    "gradient": lambda m: flatness.perturbation_curve(m, loss_of, [X], [0.5], directions="gradient").rises[0].value,
    "surface": lambda m: flatness.loss_surface(m, loss_of, [X], [0.5], [0.0]).rises[0][0].value,
    "rounding": lambda m: flatness.quantization_rise(m, loss_of, [X], 3).rise.value,
    "trace": lambda m: flatness.curvature(m, loss_of, [X], probes=2, max_steps=0).trace.value,
}


def check_autocast(name: str) -> None:
    """Inside one autocast block around everything, in which cast weights are kept, what is found outside of it.

    Bfloat16 has 8 bits: losses near 1 err by some .4%, in the mean over 32 by less, and rises are near .1.
    """
    model = network()
    expected = RISES[name](model)
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            model(X)  # keeps the cast weights, and without a gradient
        rise = RISES[name](model)
        model(X).sum().backward()  # and none that were cast without a gradient are left to others
    assert rise == pytest.approx(expected, rel=0.1)
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", RISES)
def test_autocast_around_a_measure(name: str) -> None:
    check_autocast(name)
    if name != "trace":  # which moves nothing
        with common.patched(torch, "clear_autocast_cache", lambda: None), pytest.raises((AssertionError, ValueError)):
            check_autocast(name)


def test_autocast_around_weights_that_are_exchanged() -> None:
    for clears in (True, False):
        model = network()
        shadows = Shadows(network(1), {"ema": EMA(0.5)})
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            outputs = [model(X)]
            if clears:
                with shadows.applied("ema", model):
                    outputs.append(model(X))
            else:
                with common.patched(torch, "clear_autocast_cache", lambda: None), shadows.applied("ema", model):
                    outputs.append(model(X))
            outputs.append(model(X))
        assert torch.equal(outputs[0], outputs[1]) == (not clears)
        assert torch.equal(outputs[0], outputs[2])


def test_inference_mode_measures_the_same_or_refuses() -> None:
    model = network()
    before = common.state_of(model)
    for name, measure in RISES.items():
        expected = measure(model)
        with torch.inference_mode():
            if name in ("gradient", "trace"):
                with pytest.raises(RuntimeError, match=r"inference_mode.*allowed: torch.no_grad"):
                    measure(model)
            else:
                assert measure(model) == expected
        with torch.no_grad():
            assert measure(model) == expected
    assert common.same(before, common.state_of(model))


def test_compiled_modules_keep_their_names() -> None:
    model = network()
    whole: Any = torch.compile(model, backend="eager")
    assert uncompiled(whole) is model
    assert uncompiled(model) is model
    inside: Any = network()
    inside[2] = torch.compile(inside[2], backend="eager")
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    for compiled in (whole, inside):
        assert list(flatness.modules.selected_parameters(compiled)) == names
        assert [plain_name(name) for name, _ in compiled.named_parameters()] == names
        assert [type(m) for m in plain_modules(compiled)] == [type(m) for m in model.modules()]
        for name in ("2.weight", next(n for n, _ in compiled.named_parameters() if plain_name(n) == "2.weight")):
            assert list(flatness.modules.selected_parameters(compiled, [name])) == ["2.weight"]
        own = {name: torch.ones_like(p) for name, p in compiled.named_parameters()}
        with moved(compiled, own, 0.5), torch.no_grad():
            assert torch.equal(compiled(X), moved_by_hand(0.5)(X))
        assert flatness.readout(compiled, loss_of, [X]).layer == "2"
        assert flatness.readout(compiled, loss_of, [X], layer="_orig_mod.0").layer == "0"
        shadows = Shadows(compiled, {"power": flatness.PowerEMA(1.0)})
        shadows.update(0)
        assert list(shadows.snapshots()[0]["weights"]) == names
        other = network(1)
        shadows.copy_to("power", other)  # of one that is not compiled
        assert torch.equal(other(X), model(X))


def moved_by_hand(step: float) -> nn.Module:
    model = network()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(step)
    return model


def test_code_runs_as_it_was_written_inside_the_block_alone() -> None:
    model = network()
    compiled: Any = torch.compile(model, backend="eager")
    compiled(X)
    called: list[str] = []
    model[2].register_forward_hook(lambda *_: called.append("hook"))
    compiled(X)
    assert called == []  # or the rest would say nothing
    with as_written():
        compiled(X)
    assert called == ["hook"]
    compiled(X)
    assert called == ["hook"]


def test_scripted_and_exported_modules() -> None:
    """Weights move; layers inside are not to be seen, and an exported one has one mode alone."""
    model = nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted: Any = torch.jit.script(model)
    before = common.state_of(scripted)
    own: Any = {"sigma": 0.2, "draws": 2, "eval_mode": False}
    measured = flatness.low_pass_filter(scripted, loss_of, [X], **own)
    assert measured.rise.value == pytest.approx(
        flatness.low_pass_filter(model, loss_of, [X], **own).rise.value, rel=1e-5
    )
    assert common.same(before["weights"], common.state_of(scripted)["weights"])
    with pytest.raises(ValueError, match=r"calls no linear layer or convolution.*torch.jit.script"):
        flatness.readout(scripted, loss_of, [X])
    plain = network()
    exported = torch.export.export(plain, (X,)).module()
    with pytest.raises(ValueError, match=r"eval_mode is True.*has no evaluation mode; allowed: False"):
        flatness.low_pass_filter(exported, loss_of, [X], draws=2)
    rises = [flatness.low_pass_filter(m, loss_of, [X], **own).rise.value for m in (exported, plain)]
    assert rises[0] == pytest.approx(rises[1], rel=1e-5)


class Stored(nn.Module):
    """A weight that is kept in eight bits and computed with in 32."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(8, 4).to(torch.float8_e4m3fn), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """Four outputs."""
        return x @ self.weight.float()


def test_weights_in_float8_are_moved_and_rounded() -> None:
    model = Stored()
    wide = nn.Linear(8, 4, bias=False)
    wide.weight.data = model.weight.detach().float().t().contiguous()
    before = model.weight.detach().view(torch.uint8).clone()
    for scale in ("absolute", "layer", "filter"):
        rise = flatness.low_pass_filter(model, loss_of, [X], sigma=0.2, draws=20, scale=scale).rise.value
        assert rise > 0.05
    assert flatness.quantization_rise(model, loss_of, [X], 2).rise.value > 0.05
    assert flatness.loss_surface(model, loss_of, [X], [1.0], [0.0], normalization="layer").rises[0][0].value > 0.05
    rounded = flatness.quantize_weights(model, 3).weight.detach().float()
    expected = flatness.quantize_tensor(model.weight.detach().float(), 3).to(torch.float8_e4m3fn).float()
    assert torch.equal(rounded, expected)
    assert torch.equal(model.weight.detach().view(torch.uint8), before)


def test_a_loss_may_return_the_same_memory_at_each_call() -> None:
    """As code does that was compiled to CUDA graphs."""
    model, halves, memory = network(), list(X.split(16)), torch.zeros(16)

    def reusing(net: nn.Module, x: Tensor) -> Tensor:
        return memory.copy_(loss_of(net, x))

    measures: list[Callable[..., Any]] = [
        lambda loss: flatness.low_pass_filter(model, loss, halves, draws=2),
        lambda loss: flatness.readout(model, loss, halves),
    ]
    for measure in measures:
        assert measure(reusing).to_dict() == measure(loss_of).to_dict()


def test_batches_may_be_lists_and_tuples_of_batches() -> None:
    """Bare tensors alike, of any sizes; tuples and lists of several parts; and what yields them."""
    model = network()
    halves = list(X.split(16))
    expected = flatness.low_pass_filter(model, loss_of, halves, draws=1, sigma=0.2).rise.value
    for batches in (iter(halves), [halves[0], halves[1][:9], halves[1][9:]], (h for h in halves)):
        rise = flatness.low_pass_filter(model, loss_of, batches, draws=1, sigma=0.2).rise.value
        assert rise == pytest.approx(expected, rel=1e-5)
    pairs = tuple((h, h) for h in halves)
    for several in (pairs, list(pairs), [list(pair) for pair in pairs], [{0: h} for h in halves]):
        rise = flatness.low_pass_filter(model, lambda m, b: loss_of(m, b[0]), several, draws=1, sigma=0.2).rise.value
        assert rise == expected
    assert flatness.low_pass_filter(model, loss_of, (X,), draws=1, sigma=0.2).rise.value == pytest.approx(expected)
