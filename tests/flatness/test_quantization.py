"""Rounding to a grid: the grid, the error, the law of stochastic rounding, and the rise of the loss."""

from __future__ import annotations

import itertools
import math
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.measuring.quantization import quantization_rise, quantize_tensor, quantize_weights, quantized
from flatness.weights import selected_parameters
from tests.flatness import measures_common as common
from tests.flatness.measures_common import Crowded, Quadratic, centres_around, quadratic_loss, same, state_of, symmetric

implementation = import_module("flatness.measuring.quantization")
KINDS = list(itertools.product(("tensor", "channel"), ("symmetric", "minmax"), ("nearest", "stochastic")))


def small(model: Any, loss: Any, batches: Any, **own: Any) -> Any:
    return quantization_rise(model, loss, batches, **{"bits": 4, "draws": 2, **own})


def stochastic(model: Any, loss: Any, batches: Any, **own: Any) -> Any:
    return small(model, loss, batches, rounding="stochastic", **own)


def grids(weight: Tensor, bits: int, granularity: str, scheme: str) -> list[tuple[Tensor, float, float, int, int]]:
    """By hand: the parts of the tensor, and the offset, step, first and last code of the grid of each."""
    parts = list(weight) if granularity == "channel" and weight.dim() > 1 else [weight]
    every = []
    for part in parts:
        if scheme == "symmetric":
            last = 2 ** (bits - 1) - 1
            every.append((part, 0.0, float(part.abs().max()) / last, -last, last))
        else:
            last = 2**bits - 1
            every.append((part, float(part.min()), float(part.max() - part.min()) / last, 0, last))
    return every


def check_grid(bits: int, granularity: str, scheme: str, rounding: str) -> None:
    """Values lie on the grid of the part they belong to, next to what they were."""
    weight = torch.randn(4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.4
    weight[1] *= 7
    generator = torch.Generator().manual_seed(1)
    own: Any = {"granularity": granularity, "scheme": scheme, "rounding": rounding}
    result = quantize_tensor(weight, bits, generator=generator, **own)
    assert result.shape == weight.shape
    assert result.dtype == weight.dtype
    rounded = list(result) if granularity == "channel" else [result]
    for (part, offset, step, first, last), values in zip(
        grids(weight, bits, granularity, scheme), rounded, strict=True
    ):
        codes = (values - offset) / step
        assert torch.allclose(codes, codes.round(), atol=1e-9)  # float64, codes to 65535
        assert int(codes.round().min()) >= first
        assert int(codes.round().max()) <= last
        limit = 0.5 if rounding == "nearest" else 1.0
        assert float((values - part).abs().max()) <= limit * step * (1 + 1e-9)
        if rounding == "nearest":
            extremes = {"symmetric": [part.flatten()[part.abs().argmax()]], "minmax": [part.min(), part.max()]}[scheme]
            for extreme in extremes:  # the grid reaches the extremes
                assert float((values - extreme).abs().min()) <= 1e-12 * float(extreme.abs())
        if scheme == "symmetric":
            assert float(quantize_tensor(torch.tensor([0.0, 0.7, -1.0]), bits)[0]) == 0.0


@pytest.mark.parametrize("bits", [2, 3, 4, 8, 16])
@pytest.mark.parametrize(("granularity", "scheme", "rounding"), KINDS)
def test_grid(bits: int, granularity: str, scheme: str, rounding: str) -> None:
    check_grid(bits, granularity, scheme, rounding)


def mutant_of(name: str) -> Any:
    """Grids with the usual mistakes."""
    original: Any = implementation.step_size
    steps = {
        "one level more": lambda smallest, largest, bits, scheme: (largest - smallest) / 2**bits,
        "one bit less": lambda smallest, largest, bits, scheme: original(smallest, largest, bits - 1, scheme),
    }
    if name in steps:
        return common.patched(implementation, "step_size", steps[name])
    rounded = implementation.rounded_to_grid
    changes = {
        "does nothing": lambda tensor, grid, generator=None: tensor.clone(),
        "wrong sign": lambda tensor, grid, generator=None: -rounded(tensor, grid, generator),
        "rounds down": lambda tensor, grid, generator=None: rounded(
            tensor - 0.5 * original(tensor.min(), tensor.max(), grid.bits, grid.scheme), grid, generator
        ),
    }
    return common.patched(implementation, "rounded_to_grid", changes[name])


@pytest.mark.parametrize("name", ["one level more", "one bit less", "does nothing", "wrong sign", "rounds down"])
@pytest.mark.parametrize("scheme", ["symmetric", "minmax"])
def test_mutants_fail_on_the_grid(name: str, scheme: str) -> None:
    with mutant_of(name), pytest.raises(AssertionError):
        check_grid(3, "tensor", scheme, "nearest")


def test_known_values() -> None:
    weight = torch.tensor([-1.0, -0.4, 0.1, 0.6, 0.9])
    # symmetric, 3 bits: steps of 1/3; min-max, 2 bits: -1 + 1.9 k / 3
    assert quantize_tensor(weight, 3).tolist() == pytest.approx([-1.0, -1 / 3, 0.0, 2 / 3, 1.0])
    steps = [-1 + 1.9 * k / 3 for k in (0, 1, 2, 3, 3)]
    assert quantize_tensor(weight, 2, scheme="minmax").tolist() == pytest.approx(steps)


@pytest.mark.parametrize(("granularity", "scheme", "rounding"), KINDS)
def test_degenerate_tensors_stay(granularity: str, scheme: str, rounding: str) -> None:
    own: Any = {"granularity": granularity, "scheme": scheme, "rounding": rounding}
    for tensor in (torch.zeros(3, 2), torch.tensor(0.0), torch.empty(0, 2), torch.zeros(2).bfloat16()):
        result = quantize_tensor(tensor, 4, **own)
        assert torch.equal(result, tensor)
        assert result.dtype == tensor.dtype
    constant = torch.full((3, 2), -0.3)
    assert torch.allclose(quantize_tensor(constant, 4, **own), constant, rtol=1e-6)
    tiny = torch.tensor([1e-45, 0.0, -1e-45])
    assert bool(quantize_tensor(tiny, 16, **own).isfinite().all())
    huge = torch.tensor([3e38, -3e38, 1.0])
    assert bool(quantize_tensor(huge, 16, **own).isfinite().all())
    offset = 1000 + torch.linspace(0, 1e-2, 50)
    error = (quantize_tensor(offset, 8, scheme="minmax") - offset).abs().max()
    assert float(error) <= 0.5 * 1e-2 / 255 + 6.2e-5  # half a step and the resolution of float32 at 1000


def test_quantizing_twice_changes_nothing_more() -> None:
    weight = torch.randn(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for bits, scheme in itertools.product((2, 8, 16), ("symmetric", "minmax")):
        once = quantize_tensor(weight, bits, scheme=scheme)
        assert torch.allclose(quantize_tensor(once, bits, scheme=scheme), once, rtol=0, atol=1e-12)


def check_stochastic_law() -> None:
    """Mean equal to the weight; variance q^2 f (1 - f), f the fraction of the step."""
    fractions = torch.tensor([0.0, 0.1, 0.5, 0.8], dtype=torch.float64)
    n = 20000
    weight = torch.cat([torch.tensor([7.0], dtype=torch.float64), (fractions + 2).repeat(n)])  # step 1 at 4 bits
    result = quantize_tensor(weight, 4, rounding="stochastic", generator=torch.Generator().manual_seed(3))
    ups = result[1:].reshape(n, 4).mean(0) - 2
    error = (fractions * (1 - fractions) / n).sqrt()
    assert bool(((ups - fractions).abs() <= common.STANDARD_ERRORS * error + 1e-12).all())
    spread = result[1:].reshape(n, 4).var(0)
    expected = fractions * (1 - fractions)
    assert bool(((spread - expected).abs() <= common.STANDARD_ERRORS * expected.sqrt() / math.sqrt(n) + 1e-12).all())


def test_stochastic_rounding_has_its_law() -> None:
    check_stochastic_law()
    rounded = implementation.rounded_to_grid

    def nearest(tensor: Tensor, grid: Any, generator: Any = None) -> Tensor:
        return rounded(tensor, implementation.Grid(grid.bits, grid.granularity, grid.scheme), generator)

    with common.patched(implementation, "rounded_to_grid", nearest), pytest.raises(AssertionError):
        check_stochastic_law()


def check_weights() -> None:
    """The copy and the block hold the same quantised weights, of the selected parameters only."""
    for own in ({}, {"scheme": "minmax", "granularity": "channel"}, {"rounding": "stochastic", "seed": 3}):
        model = Crowded()
        before = state_of(model)
        twin = quantize_weights(model, 4, parameters=lambda name, p: "norm" not in name, **own)
        assert same(before, state_of(model))
        assert twin.shared.weight is twin.inner.weight
        assert [m.training for m in twin.modules()] == [m.training for m in model.modules()]
        assert torch.equal(twin.norm.weight, model.norm.weight)
        with quantized(model, 4, parameters=lambda name, p: "norm" not in name, **own) as inside:
            assert inside is model
            for a, b in zip(model.parameters(), twin.parameters(), strict=True):
                assert torch.equal(a, b)
        assert same(before, state_of(model))
        assert not torch.equal(twin.last.weight, model.last.weight)
        if not own:
            assert torch.equal(twin.last.weight, quantize_tensor(model.last.weight, 4))


def test_model_is_quantized_as_a_copy_and_inside_a_block() -> None:
    check_weights()
    for mutant in (common.forgetful_weights(), mutant_of("does nothing")):
        with mutant, pytest.raises(AssertionError):
            check_weights()
    model = Crowded()
    before = state_of(model)
    with pytest.raises(KeyError), quantized(model, 2):
        raise KeyError
    assert same(before, state_of(model))


def check_rise() -> None:
    """On a quadratic loss the rise is d^T H d / 2, d the change of the weights; and |d| is given."""
    model = Quadratic()
    hessian = symmetric(definite=True)
    loss = quadratic_loss(hessian)
    for bits, scheme in ((3, "symmetric"), (8, "minmax")):
        result = quantization_rise(model, loss, centres_around(model), bits, scheme=scheme)
        changes = []
        for weight in (p.detach() for p in model.parameters()):
            ((_, offset, step, _, _),) = grids(weight, bits, "tensor", scheme)
            changes.append((offset + step * ((weight - offset) / step).round() - weight).flatten())
        change = torch.cat(changes)
        assert result.rise.value == pytest.approx(float(0.5 * change @ hessian @ change), abs=1e-13)
        assert result.value.value == pytest.approx(result.loss.value + result.rise.value, abs=1e-14)
        assert result.weight_error == pytest.approx(float(change.norm()), rel=1e-12)
        assert result.rise.draw_standard_error == 0.0


def check_stochastic_rise() -> None:
    """With stochastic rounding the expected rise is sum_i H_ii q_i^2 f_i (1 - f_i) / 2."""
    model = Quadratic()
    hessian = symmetric(definite=True)
    batches = centres_around(model)
    result = quantization_rise(model, quadratic_loss(hessian), batches, 4, rounding="stochastic", draws=500)
    variances = []
    for weight in selected_parameters(model).values():
        step = float(weight.detach().abs().max()) / 7
        fraction = (weight.detach() / step) % 1.0
        variances.append((step**2 * fraction * (1 - fraction)).flatten())
    variance = torch.cat(variances)
    expected = float(0.5 * hessian.diag() @ variance)
    assert result.rise.draw_standard_error < expected / 10
    assert common.within_standard_errors(result.rise, expected)
    # its square is a mean over 500 draws of a sum of 12 bounded variables: a few percent off at most
    assert result.weight_error == pytest.approx(math.sqrt(float(variance.sum())), rel=0.1)


RISES = {"nearest": check_rise, "stochastic": check_stochastic_rise}


@pytest.mark.parametrize("rounding", RISES)
def test_rise(rounding: str) -> None:
    RISES[rounding]()
    mutants = (
        mutant_of("does nothing"),
        mutant_of("one bit less"),
        common.negative_rises(),
        common.patched(common.weights.SavedWeights, "write", lambda self, values: list(values)),
    )
    for mutant in mutants:
        with mutant, pytest.raises(AssertionError):
            RISES[rounding]()


def test_stochastic_draws_differ_and_follow_the_seed() -> None:
    model = Quadratic()
    one, again, other = (quantize_weights(model, 3, rounding="stochastic", seed=seed)() for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("measure", [small, stochastic])
def test_leaves_everything_as_it_was_and_the_check_sees_when_not(measure: Any) -> None:
    common.check_leaves_everything(measure)
    common.check_kills_common_mutants(measure)


@pytest.mark.parametrize("measure", [small, stochastic])
def test_refuses_what_it_cannot_measure(measure: Any) -> None:
    common.check_refuses(measure)
    common.check_refuses_parameters(measure)


def test_wrong_arguments_are_refused() -> None:
    model = Crowded()
    before = state_of(model)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"bits": 1}, "bits is 1"),
        ({"bits": 17}, "bits is 17"),
        ({"bits": 8.0}, "bits is 8.0"),
        ({"bits": True}, "bits is True"),
        ({"granularity": "row"}, "granularity is 'row'"),
        ({"scheme": "affine"}, "scheme is 'affine'"),
        ({"rounding": "floor"}, "rounding is 'floor'"),
    ]
    for own, message in wrong:
        with pytest.raises(ValueError, match=message):
            quantize_tensor(torch.ones(2), **own)
        with pytest.raises(ValueError, match=message):
            quantize_weights(model, **own)
        with pytest.raises(ValueError, match=message), quantized(model, **own):
            pass
        with pytest.raises(ValueError, match=message):
            small(model, common.noisy_loss, common.crowded_batches(), **own)
    for call in (quantize_weights, lambda m, **own: quantized(m, **own).__enter__()):
        with pytest.raises(ValueError, match="seed is -1"):
            call(model, seed=-1)
        with pytest.raises(ValueError, match="without parameters"):
            call(nn.ReLU())
        with pytest.raises(ValueError, match="nowhere"):
            call(model, parameters=["nowhere"])
    with pytest.raises(ValueError, match="draws is 0"):
        stochastic(model, common.noisy_loss, common.crowded_batches(), draws=0)
    for tensor, message in (
        (torch.ones(2).int(), "tensor is a tensor"),
        ([1.0], r"tensor is \[1.0\]"),
        (torch.tensor([math.nan]), "tensor is a tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            quantize_tensor(tensor)  # type: ignore[arg-type]
    assert same(before, state_of(model))
    with torch.no_grad():
        model.last.bias[0] = math.inf
    before = state_of(model)
    for entry in (quantize_weights, lambda m: quantized(m).__enter__()):
        with pytest.raises(ValueError, match=r"parameter 'last.bias'"):
            entry(model)
        assert same(before, state_of(model))


def test_result_is_reproducible_and_complete() -> None:
    common.check_result(small)
    common.check_result(stochastic)
    settings = stochastic(Crowded(), common.noisy_loss, common.crowded_batches()).settings
    expected = {"bits": 4, "granularity": "tensor", "scheme": "symmetric", "rounding": "stochastic", "draws": 2}
    assert expected.items() <= settings.items()


@pytest.mark.parametrize(("rounding", "draws"), [("nearest", 1), ("stochastic", 5)])
def test_what_is_not_random_is_measured_once(rounding: str, draws: int) -> None:
    model = Quadratic()
    told: list[tuple[int, int]] = []
    small(
        model, quadratic_loss(symmetric(definite=True)), centres_around(model), rounding=rounding, draws=5,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told[-1] == (draws, draws)
    assert {total for _, total in told} == {draws}
