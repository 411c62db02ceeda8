"""Which layer the readout takes, whether the model returns its output, and which layers are refused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from torch import Tensor, nn

from flatness.measuring.readout import readout
from tests.flatness import measures_common as common


class Tangled(nn.Module):
    """Layers called in another order than they are registered in."""

    def __init__(self) -> None:
        super().__init__()
        self.final = nn.Linear(3, 4)
        self.early = nn.Conv1d(1, 1, 1)
        self.unused = nn.Linear(3, 4)
        self.how = "as it is"

    def forward(self, x: Tensor) -> Any:
        output = self.final(self.early(x[:, None])[:, 0])
        changes = {
            "as it is": lambda: output,
            "two views": lambda: output.chunk(2, 1),
            "reshaped": lambda: output.view(-1, 2, 2),
            "function": output.tanh,
            "in place": output.tanh_,
            "sum": lambda: output + 0,
            "twice": lambda: output + self.final(x),
            "by name": lambda: {"sample": output},
            "as an attribute": lambda: SimpleNamespace(sample=output),
        }
        return changes[self.how]()


def plain_loss(model: nn.Module, x: Tensor) -> Tensor:
    output = model(x)
    output = output["sample"] if isinstance(output, dict) else getattr(output, "sample", output)
    return (output[0] if isinstance(output, tuple) else output).square().flatten(1).mean(1)


def test_the_layer_called_last_is_found_and_whether_the_model_returns_it() -> None:
    model = Tangled()
    batches = common.crowded_batches()
    for how in ("as it is", "two views", "reshaped", "by name", "as an attribute", "function", "in place", "sum"):
        model.how = how
        is_output = how not in ("function", "in place", "sum")
        result = readout(model, plain_loss, batches)
        assert result.layer == "final"
        assert result.settings["parameters"] == ["final.weight"]
        assert result.is_output is is_output, how
    model.how = "as it is"
    assert readout(model, lambda m, x: m.forward(x).square().mean(1), batches).is_output is None
    assert readout(model, plain_loss, batches, layer="early").layer == "early"
    alone = readout(model.final, lambda m, x: m(x).square().mean(1), batches)
    assert alone.layer == ""
    assert alone.settings["parameters"] == ["weight"]
    assert alone.is_output is True


def test_an_input_passed_by_keyword_is_the_same_input() -> None:
    class ByKeyword(nn.Linear):
        def __call__(self, input: Tensor) -> Tensor:
            return nn.Linear.__call__(self, input=input)

    model, named = nn.Linear(3, 4), ByKeyword(3, 4)
    named.load_state_dict(model.state_dict())
    results = [readout(net, lambda m, x: m(x).square().mean(1), common.crowded_batches()) for net in (model, named)]
    assert results[0].feature_energy == results[1].feature_energy


def test_layers_that_cannot_be_read_are_refused() -> None:
    batches = common.crowded_batches()
    twice, shared, computed = Tangled(), Tangled(), Tangled()
    twice.how = "twice"
    shared.unused.weight = shared.final.weight
    viewed = Tangled()
    viewed.unused.weight = nn.Parameter(viewed.final.weight.detach().view(4, 3))
    nn.utils.parametrizations.weight_norm(computed.final)
    flat = nn.Conv1d(3, 2, 1)
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: readout(Tangled(), plain_loss, batches, layer="nowhere"), "layer is 'nowhere'"),
        (lambda: readout(Tangled(), plain_loss, batches, layer="unused"), "called 0 times"),
        (lambda: readout(twice, plain_loss, batches), "called 2 times"),
        (lambda: readout(shared, plain_loss, batches), "shares its weight"),
        (lambda: readout(viewed, plain_loss, batches), r"shares its weight \(final.weight, unused.weight\)"),
        (lambda: readout(computed, plain_loss, batches), "computes its weight"),
        (lambda: readout(nn.BatchNorm1d(3), plain_loss, batches), "calls no linear layer"),
        (lambda: readout(flat, lambda m, x: m(x.t()).mean(0), batches), "layer's input is"),
        (lambda: readout(nn.Linear(3, 2), lambda m, x: m(x[0]).mean(), batches), "layer's input is"),
        (lambda: readout(nn.Linear(3, 2), lambda m, x: m(x)[:2].mean(1), batches), "layer's input is"),
        (lambda: readout(flat, lambda m, x: m(x.t()[None, :, : len(x)]).mean(), batches), "positions per sample"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
