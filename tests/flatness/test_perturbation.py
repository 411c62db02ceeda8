"""Weights are moved as asked and come back bit for bit; noise and directions are what they are said to be."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness import weights as perturbation
from flatness.weights import (
    GaussianNoise,
    NormalizedDirection,
    direction_norm,
    moved,
    perturbed_weights,
    selected_parameters,
)
from tests.flatness import measures_common as common
from tests.flatness.measures_common import Crowded, bits, same, state_of


def ones_like(model: nn.Module) -> list[Tensor]:
    return [torch.ones_like(weight) for weight in selected_parameters(model).values()]


MOVES: dict[str, Callable[[nn.Module], AbstractContextManager[nn.Module]]] = {
    "moved": lambda model: moved(model, ones_like(model), 0.1),
    "perturbed": lambda model: perturbed_weights(model, 0.1, seed=0),
    "by layer": lambda model: perturbed_weights(model, 0.1, seed=0, scale="layer"),
    "by filter": lambda model: perturbed_weights(model, 0.1, seed=0, scale="filter"),
}


class Odd(Crowded):
    """Weights that arithmetic would not bring back: negative zeros, NaN, infinities, subnormals."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = nn.Parameter(torch.tensor([-0.0, math.nan, math.inf, -1e-45, 1e30, 1.0]))
        self.wide = nn.Parameter(torch.rand(3, 2, dtype=torch.float64)[:, ::2])
        self.scalar = nn.Parameter(torch.tensor(2.0))
        self.empty = nn.Parameter(torch.ones(0, 3))


def check_comes_back(move: Callable[[nn.Module], AbstractContextManager[nn.Module]]) -> None:
    """Weights move, and are the same bits in the same memory after the block, also when it raises or writes to them."""
    model = Odd()
    before = state_of(model)
    with move(model) as target:
        assert target is model
        inside = [bits(p).clone() for p in model.parameters()]
        pairs = zip(inside, (entry[1] for entry in before["weights"]), strict=True)
        assert sum(not torch.equal(a, b) for a, b in pairs) == len(inside) - 1  # all but the empty one
    assert same(before, state_of(model))

    def raising() -> None:
        with move(model), torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        raising()
    assert same(before, state_of(model))


def subtracts(self: Any) -> None:
    """Mutant of putting back: take away what was added, as if the noise were known, instead of copying."""
    with torch.no_grad():
        for live, saved in zip(self.live, self.saved, strict=True):
            live.sub_(live - saved)


@pytest.mark.parametrize("name", MOVES)
def test_weights_come_back(name: str) -> None:
    check_comes_back(MOVES[name])
    mutants = (
        common.still_weights(),
        common.forgetful_weights(),
        common.patched(perturbation.SavedWeights, "put_back", subtracts),
    )
    for mutant in mutants:
        with mutant, pytest.raises(AssertionError):
            check_comes_back(MOVES[name])


def check_exact() -> None:
    """saved + scale * direction, for each dtype rounded once."""
    model = common.Quadratic()
    model.low = nn.Parameter(torch.tensor([1.0, 256.0]).bfloat16())
    direction = {name: torch.full_like(p, 3.0) for name, p in model.named_parameters()}
    direction["low"] = torch.tensor([2**-8 * (1 + 2**-9), 2.0])
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    with moved(model, dict(reversed(direction.items())), -0.5):
        for name in ("first", "second", "third"):
            assert torch.equal(model.get_parameter(name), start[name] - 1.5)
        # the steps below 1 are 2^-8; half the direction is just above half a step, and no more so once it is rounded
        assert model.get_parameter("low").tolist() == [1 - 2**-8, 255.0]


def test_moves_by_the_scaled_direction() -> None:
    check_exact()
    for mutant in (common.still_weights(), common.backward_weights(), common.far_weights()):
        with mutant, pytest.raises(AssertionError):
            check_exact()


def test_targets_may_be_tensors() -> None:
    tensors = [torch.zeros(2), torch.ones(3)]
    with moved(tensors, [torch.ones(2), torch.ones(3)], 2.0) as target:
        assert target is tensors
        assert tensors[0].tolist() == [2.0, 2.0]
        assert tensors[1].tolist() == [3.0, 3.0, 3.0]
    with perturbed_weights({"a": tensors[0]}, 1.0, seed=1):
        assert tensors[0].abs().min() > 0
    assert tensors[0].tolist() == [0.0, 0.0]


def test_shared_weights_count_once() -> None:
    model = nn.Module()
    model.one = nn.Parameter(torch.randn(4, 3))
    model.same = model.one
    model.view = nn.Parameter(model.one.detach())
    model.transposed = nn.Parameter(model.one.detach().t())
    model.flat = nn.Parameter(model.one.detach().flatten())
    model.part = nn.Parameter(model.one.detach()[1:])  # other memory: a weight of its own
    assert list(selected_parameters(model)) == ["one", "part"]
    assert list(selected_parameters(model, ["view", "same"])) == ["view"]
    before = model.one.detach().clone()
    with moved(model, [torch.ones(4, 3)], parameters=["one"]):
        assert torch.equal(model.transposed, before.t() + 1)
    tied = Crowded()
    assert "shared.weight" not in selected_parameters(tied)
    start = tied.inner.weight.detach().clone()
    with moved(tied, ones_like(tied)):
        assert torch.equal(tied.shared.weight, start + 1)


def test_parameters_are_chosen() -> None:
    model = Crowded()
    names = list(selected_parameters(model))
    assert names == [name for name, _ in model.named_parameters()]
    trainable = selected_parameters(model, "trainable")
    assert set(names) - set(trainable) == {"frozen.weight", "frozen.bias"}
    assert list(selected_parameters(model, lambda name, p: p.dim() > 1 and "last" in name)) == ["last.weight"]
    assert list(selected_parameters(model, ("norm.bias", "inner.bias"))) == ["norm.bias", "inner.bias"]


def test_noise_has_the_size_it_is_said_to_have() -> None:
    torch.manual_seed(0)
    weights = [torch.randn(40, 300) * torch.linspace(0.1, 3, 40)[:, None], 2 * torch.randn(5000), torch.zeros(2000)]
    for scale in ("absolute", "layer", "filter"):
        rows, vector, nothing = GaussianNoise(weights, 3, scale)
        size = {
            "absolute": torch.ones(40),
            "layer": weights[0].square().mean().sqrt().expand(40),
            "filter": weights[0].square().mean(1).sqrt(),
        }[scale]
        unit = (rows / size[:, None]).flatten().double()
        n = unit.numel()
        # standard errors of the mean and of the mean square of n standard normal numbers
        assert abs(float(unit.mean())) < common.STANDARD_ERRORS / math.sqrt(n)
        assert abs(float(unit.square().mean()) - 1) < common.STANDARD_ERRORS * math.sqrt(2 / n)
        expected = 1.0 if scale == "absolute" else float(weights[1].square().mean())
        error = common.STANDARD_ERRORS * math.sqrt(2 / 5000) * expected
        assert abs(float(vector.square().mean()) - expected) < error
        assert float(nothing.abs().max()) == 0.0 or scale == "absolute"


def test_the_size_of_a_large_tensor_is_exact() -> None:
    """A float32 sum of four million squares errs by some .2% on the CPU, one of twenty million by a per cent."""
    weight = torch.full((4, 2**20), 0.1)
    # the root is rounded to float32
    assert float(perturbation.root_mean_square(weight, "layer")) == pytest.approx(0.1, rel=1e-7)
    (along,) = NormalizedDirection([torch.full_like(weight, 0.3)], [weight], "layer")
    assert float(along[0, 0]) == pytest.approx(0.1, rel=1e-6)


def test_noise_is_a_function_of_seed_and_shapes() -> None:
    weights = [torch.randn(6, 4), torch.randn(3, 2, 5)]
    once = GaussianNoise(weights, 7)
    assert all(torch.equal(a, b) for a, b in zip(once, once, strict=True))
    others = [weights[0].t().contiguous().t().double(), torch.zeros(3, 2, 5).bfloat16()]
    assert all(torch.equal(a, b) for a, b in zip(once, GaussianNoise(others, 7), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(once, GaussianNoise(weights, 8), strict=True))
    state = torch.get_rng_state()
    list(once)
    assert torch.equal(state, torch.get_rng_state())


def check_normalized() -> None:
    """Norms after normalisation, and the direction kept."""
    draw = torch.Generator().manual_seed(4)
    weights = [torch.randn(5, 2, 3, generator=draw), torch.randn(6, generator=draw), torch.tensor(2.0)]
    weights[0][1] = 0.0
    along = [torch.randn(weight.shape, generator=draw) for weight in weights]
    along[0][2] = 0.0
    results = {by: list(NormalizedDirection(along, weights, by)) for by in ("none", "whole", "layer", "filter")}
    assert all(torch.equal(a, b) for a, b in zip(results["none"], along, strict=True))

    def near(expected: Any) -> Any:
        return pytest.approx(expected, rel=1e-6, abs=1e-6)  # a norm and a quotient in float32

    assert direction_norm(results["whole"]) == near(1.0)
    ratio = direction_norm(along)
    for plain, unit in zip(along, results["whole"], strict=True):
        assert torch.allclose(plain, unit * ratio, rtol=1e-5)
    for weight, layer in zip(weights, results["layer"], strict=True):
        assert direction_norm([layer]) == near(direction_norm([weight]))
    filters = results["filter"]
    expected = weights[0].flatten(1).norm(dim=1)
    expected[2] = 0.0
    assert filters[0].flatten(1).norm(dim=1).tolist() == near(expected.tolist())
    assert torch.equal(filters[0].sign()[[0, 3, 4]], along[0].sign()[[0, 3, 4]])
    assert all(float(part.abs().max()) == 0.0 for part in filters[1:])


def test_directions_are_normalized() -> None:
    check_normalized()
    mutants = (
        common.patched(perturbation, "_norms", lambda tensor, by_filter: tensor.norm()),
        common.patched(perturbation, "_norms", lambda tensor, by_filter: torch.ones(())),
        common.patched(perturbation, "direction_norm", lambda direction: 1.0),
    )
    for mutant in mutants:
        with mutant, pytest.raises(AssertionError):
            check_normalized()


def test_wrong_arguments_are_refused_before_anything_moves() -> None:
    model = Crowded()
    before = state_of(model)
    good = ones_like(model)
    names = list(selected_parameters(model))
    cases: list[tuple[Callable[[], AbstractContextManager[Any]], str]] = [
        (lambda: moved(model, good[:-1]), "direction has"),
        (lambda: moved(model, [*good, good[0]]), "direction has"),
        (lambda: moved(model, [torch.ones(7), *good[1:]]), "direction for 'narrow'"),
        (lambda: moved(model, [good[0] * math.nan, *good[1:]]), "direction for 'narrow'"),
        (lambda: moved(model, dict(zip(names[1:], good[1:], strict=True))), "direction's names"),
        (lambda: moved(model, torch.ones(3)), "direction is a tensor"),
        (lambda: moved(model, 3), "direction is 3"),  # type: ignore[arg-type]
        (lambda: moved(model, good, math.inf), "scale is inf"),
        (lambda: moved(model, good, parameters=["x"]), "parameters is"),
        (lambda: moved(3, good), "target is 3"),
        (lambda: moved([], []), "no parameter"),
        (lambda: moved([torch.ones(0)], [torch.ones(0)]), "no parameter"),
        (lambda: moved([torch.ones(2, dtype=torch.int64)], [torch.ones(2)]), "parameter '0'"),
        (lambda: moved([torch.ones(2, device="meta")], [torch.ones(2)]), "parameter '0'"),
        (lambda: moved(nn.LazyLinear(2), []), "parameter 'weight'"),
        (lambda: moved([torch.ones(1).expand(3)], [torch.ones(3)]), "parameter '0' .* not expanded"),
        (lambda: perturbed_weights(model, -1.0, seed=0), "sigma is -1.0"),
        (lambda: perturbed_weights(model, 1.0, seed=-1), "seed is -1"),
        (lambda: perturbed_weights(model, 1.0, seed=0, scale="rows"), "scale is 'rows'"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message), call():
            pass
        assert same(before, state_of(model)), message
