"""The readout's predictions: exact where they are said to be, in agreement with the measures that move weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.measuring.base import Losses
from flatness.measuring.low_pass_filter import low_pass_filter
from flatness.measuring.quantization import quantization_rise
from flatness.measuring.readout import Readout, readout
from flatness.weights import moved
from tests.flatness import measures_common as common

implementation = import_module("flatness.measuring.readout")  # the package may export the function by this name
features_module = import_module("flatness.measuring.layer_features")


def layers() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    """Readout layers with the shape of one sample of their input."""
    return {
        "linear": (nn.Linear(5, 3), (5,)),
        "linear, no bias": (nn.Linear(5, 3, bias=False), (5,)),
        "linear, positions": (nn.Linear(5, 3), (2, 4, 5)),
        "1d": (nn.Conv1d(2, 3, 3, padding=1), (2, 6)),
        "2d": (nn.Conv2d(2, 3, 3, padding="same"), (2, 4, 5)),
        "2d, stride": (nn.Conv2d(2, 3, (3, 2), stride=(2, 1), dilation=(1, 2), bias=False), (2, 6, 5)),
        "2d, groups": (nn.Conv2d(4, 6, 3, groups=2), (4, 4, 5)),
        "2d, depthwise": (nn.Conv2d(2, 2, 3, groups=2), (2, 4, 5)),
        "2d, reflect": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 4, 5)),
        "3d": (nn.Conv3d(1, 2, 2), (1, 3, 3, 3)),
    }


def problem(name: str, reduction: str = "mean") -> tuple[nn.Module, Callable[..., Tensor], list[Tensor]]:
    """Fixed random features and a readout in float64, a squared-error loss against random targets, and data."""
    torch.manual_seed(0)
    layer, shape = layers()[name]
    model = nn.Sequential(nn.Tanh(), layer).double()
    batches = list((1 + 2 * torch.randn(5, *shape, dtype=torch.float64)).split((3, 2)))

    def loss(net: nn.Module, x: Tensor) -> Tensor:
        output = net(x)
        errors = (output - torch.randn(output.shape, dtype=torch.float64)).square().flatten(1)
        return errors.mean(1) if reduction == "mean" else errors.sum(1)

    return model, loss, batches


def second_order(model: nn.Module, name: str, loss: Any, batches: list[Tensor], delta: Tensor) -> float:
    """What the mean loss has of second order in a change delta of a weight, at the measures' seed 0."""

    def at(scale: float) -> float:
        with moved(model, [delta], scale, parameters=[name]):
            return float(Losses(loss, model, batches, seed=0)().mean())

    return (at(1.0) + at(-1.0)) / 2 - at(0.0)


def check_exact(name: str, reduction: str) -> None:
    """The rise under noise is that of moving each weight by sigma, added up: no sampling, no derivatives.

    E over independent noise of the quadratic form is sigma^2 times the sum of its values at the unit changes.
    """
    model, loss, batches = problem(name, reduction)
    result = readout(model, loss, batches)
    weight = model.get_parameter("1.weight")
    unit = torch.eye(weight.numel(), dtype=torch.float64)
    total = sum(second_order(model, "1.weight", loss, batches, row.reshape(weight.shape)) for row in unit)
    # float64: differences of losses of up to 1e3
    assert result.noise_rise(1.0, reduction=reduction).value == pytest.approx(total, rel=1e-10)
    assert result.noise_rise(0.1, reduction=reduction).value == pytest.approx(0.01 * total, rel=1e-10)
    assert result.outputs == weight.shape[0]
    assert result.features == weight[0].numel()
    assert result.layer == "1"
    assert result.is_output is True
    assert result.loss.value == low_pass_filter(model, loss, batches, draws=1).loss.value
    check_worst(model, loss, batches, result, reduction)


def check_worst(model: nn.Module, loss: Any, batches: list[Tensor], result: Readout, reduction: str) -> None:
    """At the flat radius the worst direction raises the loss by kappa, to second order, and no direction by more."""
    weight = model.get_parameter("1.weight")
    radius = result.flat_radius(0.7, reduction=reduction)
    n = weight.numel()
    unit = torch.eye(n, dtype=torch.float64).reshape(n, *weight.shape)
    alone = [second_order(model, "1.weight", loss, batches, delta) for delta in unit]
    form = torch.diag(torch.tensor(alone, dtype=torch.float64))
    for i in range(n):  # polarisation gives the matrix of the quadratic form
        for j in range(i):
            pair = second_order(model, "1.weight", loss, batches, unit[i] + unit[j])
            form[i, j] = form[j, i] = (pair - alone[i] - alone[j]) / 2
    _, vectors = torch.linalg.eigh(form)
    worst = vectors[:, -1].reshape(weight.shape) * radius
    assert second_order(model, "1.weight", loss, batches, worst) == pytest.approx(0.7, rel=1e-9)


@pytest.mark.parametrize("name", ["linear", "linear, positions", "1d", "2d, depthwise", "3d"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_predictions_are_exact(name: str, reduction: str) -> None:
    check_exact(name, reduction)


@pytest.mark.parametrize("name", layers())
def test_features_are_what_the_layer_multiplies(name: str) -> None:
    torch.manual_seed(0)
    layer, shape = layers()[name]
    layer.double()
    x = torch.randn(3, *shape, dtype=torch.float64)
    gathered = features_module.LayerFeatures(layer, second_moment=True)
    phi = gathered.patches(x)
    output = layer(x)
    weight = layer.get_parameter("weight").flatten(1).unflatten(0, (gathered.groups, -1))
    made = torch.einsum("gom,ngml->ngol", weight, phi).flatten(1, 2)
    if "bias" in dict(layer.named_parameters()):
        made = made + layer.get_parameter("bias")[:, None]
    straight = output.flatten(2) if not name.startswith("linear") else output.reshape(3, -1, output.shape[-1]).mT
    assert torch.allclose(made, straight, atol=1e-12)
    gathered.add(x, output, 3)
    energy = phi.square().sum(2).mean((1, 2))
    assert gathered.energy().value == pytest.approx(float(energy.mean()), rel=1e-12)
    assert gathered.energy().data_standard_error == pytest.approx(float(energy.std()) / math.sqrt(3), rel=1e-12)
    columns = [phi[:, g].transpose(0, 1).flatten(1) for g in range(gathered.groups)]
    count = phi.shape[0] * phi.shape[-1]
    largest = max(float(torch.linalg.eigvalsh(part @ part.T / count)[-1]) for part in columns)
    assert gathered.largest_moment() == pytest.approx(largest, rel=1e-10)


def test_parts_do_not_change_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = readout(*problem("2d, groups"))
    monkeypatch.setattr(features_module, "ENTRIES_AT_ONCE", 1)
    parts = readout(*problem("2d, groups"))
    assert parts.feature_energy.value == pytest.approx(whole.feature_energy.value, rel=1e-14)
    assert parts.largest_feature_moment == pytest.approx(whole.largest_feature_moment, rel=1e-12)


def check_agrees_with_low_pass_filter(name: str) -> None:
    """The measure that adds noise agrees within standard errors, in each unit and reduction, and with the bias."""
    for reduction in ("mean", "sum"):
        model, loss, batches = problem(name, reduction)
        result = readout(model, loss, batches)
        for scale in ("absolute", "layer", "filter"):
            sigma = 0.5
            own: Any = {"sigma": sigma, "draws": 600, "scale": scale, "parameters": ["1.weight"]}
            measured = low_pass_filter(model, loss, batches, **own).rise
            predicted = result.noise_rise(sigma, scale=scale, reduction=reduction).value
            assert measured.draw_standard_error < predicted / 5
            assert common.within_standard_errors(measured, predicted), (reduction, scale)
        both = low_pass_filter(model, loss, batches, sigma=0.5, draws=600, parameters=["1.weight", "1.bias"]).rise
        assert common.within_standard_errors(both, result.noise_rise(0.5, bias=True, reduction=reduction).value)


MUTANTS: dict[str, Callable[[], Any]] = {
    "does nothing": lambda: energy_times(0.0),
    "wrong sign": lambda: energy_times(-1.0),
    "half as much again": lambda: energy_times(1.5),
    "features summed over positions": lambda: common.patched(
        features_module.LayerFeatures, "patches", lambda self, x: original_patches(self, x).sum(-1, keepdim=True)
    ),
    "the kernel's middle only": lambda: common.patched(
        features_module.LayerFeatures,
        "patches",
        lambda self, x: original_patches(self, x) * torch.tensor([0, 1, 0, 0, 1, 0])[:, None],
    ),
    "reductions exchanged": lambda: common.patched(
        Readout, "_coordinates", lambda self, reduction: 1 if reduction == "sum" else self.outputs * self.positions
    ),
}
original_patches: Any = features_module.LayerFeatures.patches
original_times: Any = Readout._times


def energy_times(factor: float) -> Any:
    return common.patched(Readout, "_times", lambda self, f, offset=0.0: original_times(self, factor * f, offset))


def test_agrees_with_low_pass_filter() -> None:
    check_agrees_with_low_pass_filter("1d")


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_fail(mutant: str) -> None:
    with MUTANTS[mutant](), pytest.raises(AssertionError):
        check_agrees_with_low_pass_filter("1d")


def check_dither() -> None:
    """Independent uniform noise of one step on each weight raises the loss as predicted: T5's q^2 / 12."""
    model, loss, batches = problem("1d")
    weight = model.get_parameter("1.weight").detach()
    weight[0] *= 4  # channels of unlike steps
    result = readout(model, loss, batches)
    draw = torch.Generator().manual_seed(0)
    for granularity, scheme in itertools.product(("tensor", "channel"), ("symmetric", "minmax")):
        rows = weight.flatten(1)
        smallest, largest = rows.amin(1), rows.amax(1)
        if granularity == "tensor":
            smallest, largest = smallest.min().expand(3), largest.max().expand(3)
        steps = torch.maximum(smallest.abs(), largest.abs()) / 3 if scheme == "symmetric" else (largest - smallest) / 7
        rises = []
        for _ in range(160):
            noise = (torch.rand(weight.shape, generator=draw, dtype=torch.float64) - 0.5) * steps[:, None, None]
            rises.append(second_order(model, "1.weight", loss, batches, noise))
        rise = torch.tensor(rises, dtype=torch.float64)
        predicted = result.quantization_rise(3, granularity=granularity, scheme=scheme).value
        error = float(rise.std()) / math.sqrt(160)
        assert error < predicted / 5
        assert abs(float(rise.mean()) - predicted) <= common.STANDARD_ERRORS * error


def test_quantization_rise_is_exact_for_dither() -> None:
    check_dither()
    for mutant in (energy_times(0.0), energy_times(-1.0), energy_times(2.0)):
        with mutant, pytest.raises(AssertionError):
            check_dither()


def test_quantization_rise_is_what_rounding_costs_on_average_over_weights() -> None:
    ratios = []
    for seed in range(40):
        model, loss, batches = problem("linear, no bias")
        with torch.no_grad():
            weight = model.get_parameter("1.weight")
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))
        predicted = readout(model, loss, batches).quantization_rise(6).value
        # the linear part, which vanishes at a minimum only, is taken out by the mirror image of the rounding
        with torch.no_grad():
            step = float(weight.abs().max()) / 31
            change = (weight / step).round() * step - weight
        ratios.append(second_order(model, "1.weight", loss, batches, change.detach()) / predicted)
        rise = quantization_rise(model, loss, batches, 6, parameters=["1.weight"])
        assert rise.weight_error == pytest.approx(float(change.norm()), rel=1e-9)
    mean = torch.tensor(ratios).mean()
    error = torch.tensor(ratios).std() / math.sqrt(40)
    assert abs(float(mean) - 1) < common.STANDARD_ERRORS * float(error)
    assert float(error) < 0.1


def test_random_feature_model_in_its_own_scale() -> None:
    """theta = m W: the rise is sigma^2 d E||phi||^2 / m^2 and the flat radius m sqrt(kappa / lambda_max(G))."""
    torch.manual_seed(0)
    d, m, n = 3, 20, 400
    weights, biases = torch.randn(d, m, dtype=torch.float64), torch.randn(m, dtype=torch.float64)
    theta = torch.randn(d, m, dtype=torch.float64)
    head = nn.Linear(m, d, bias=False).double()
    head.weight.data = theta / m
    x = torch.randn(n, d, dtype=torch.float64)

    def loss(net: nn.Module, batch: Tensor) -> Tensor:
        return (net(torch.relu(batch @ weights + biases)) + batch).square().sum(1)

    result = readout(head, loss, [x])
    phi = torch.relu(x @ weights + biases)
    energy = float(phi.square().sum(1).mean())
    moment = phi.T @ phi / n
    sigma, kappa = 0.4, 0.2
    assert result.noise_rise(sigma / m, reduction="sum").value == pytest.approx(sigma**2 * d / m**2 * energy, rel=1e-12)
    relative = sigma**2 * float(theta.square().sum()) * energy / m**3
    assert result.noise_rise(sigma, scale="layer", reduction="sum").value == pytest.approx(relative, rel=1e-12)
    radius = m * math.sqrt(kappa / float(torch.linalg.eigvalsh(moment)[-1]))
    assert m * result.flat_radius(kappa, reduction="sum") == pytest.approx(radius, rel=1e-10)
    step = float(theta.abs().max()) / 127
    predicted = step**2 / 12 * d / m**2 * energy
    assert result.quantization_rise(8, reduction="sum").value == pytest.approx(predicted, rel=1e-12)


def test_a_loss_over_some_channels_rises_as_the_mean_over_all() -> None:
    model, _, batches = problem("1d")

    def first_two(net: nn.Module, x: Tensor) -> Tensor:
        return net(x)[:, :2].square().flatten(1).mean(1)

    result = readout(model, first_two, batches)
    measured = low_pass_filter(model, first_two, batches, sigma=0.3, draws=600, parameters=["1.weight"]).rise
    assert measured.draw_standard_error < result.noise_rise(0.3).value / 5
    assert common.within_standard_errors(measured, result.noise_rise(0.3).value)


def test_one_loss_for_a_batch_weighs_batches_alike() -> None:
    model, loss, batches = problem("1d")
    result = readout(model, lambda net, x: loss(net, x).mean(), batches)
    energies = [readout(model, loss, [batch]).feature_energy.value for batch in batches]
    assert result.feature_energy.value == pytest.approx(sum(energies) / 2, rel=1e-12)
    assert result.settings["samples"] == 2
    total = readout(model, lambda net, x: loss(net, x).mean(), [batches[0]])
    assert total.largest_feature_moment == pytest.approx(
        readout(model, loss, [batches[0]]).largest_feature_moment, rel=1e-12
    )


def test_leaves_everything_as_it_was_and_the_check_sees_when_not() -> None:
    common.check_leaves_everything(readout, calls=3)
    common.check_kills_common_mutants(readout, moves=False, calls=3)
    model = common.Crowded()
    readout(model, common.noisy_loss, common.crowded_batches())
    assert not any(module._forward_hooks for module in model.modules())
    own: Any = {"loss": common.noisy_loss, "batches": common.crowded_batches(), "eval_mode": False}
    assert readout(model, **own).loss == low_pass_filter(model, draws=1, **own).loss


def test_refuses_what_it_cannot_measure() -> None:
    common.check_refuses(readout)
    with pytest.raises(ValueError, match="second_moment is 1"):
        readout(*problem("linear"), second_moment=1)  # type: ignore[arg-type]
    result = readout(*problem("linear"), second_moment=False)
    wrong: list[tuple[Callable[[], Any], str]] = [
        (lambda: result.flat_radius(1.0), "largest_feature_moment is nan"),
        (lambda: result.noise_rise(-1.0), "sigma is -1.0"),
        (lambda: result.noise_rise(1.0, scale="x"), "scale is 'x'"),
        (lambda: result.noise_rise(1.0, scale="weight"), "scale is 'weight'"),
        (lambda: result.noise_rise(1.0, scale="layer", bias=True), "bias is True"),
        (lambda: result.noise_rise(1.0, reduction="none"), "reduction is 'none'"),
        (lambda: result.quantization_rise(1), "bits is 1"),
        (lambda: result.quantization_rise(8, scheme="x"), "scheme is 'x'"),
        (lambda: readout(*problem("linear")).flat_radius(0.0), "kappa is 0.0"),
    ]
    for call, message in wrong:
        with pytest.raises(ValueError, match=message):
            call()


def test_result_is_reproducible_and_complete() -> None:
    common.check_result(readout)
    result = readout(common.Crowded(), common.noisy_loss, common.crowded_batches())
    assert result.settings["layer"] == "last"
    assert result.to_dict()["largest_feature_moment"] > 0
    nothing = readout(nn.Linear(2, 1), lambda m, x: m(x).mean(1), [torch.zeros(3, 2)])
    assert nothing.flat_radius(1.0) == math.inf
