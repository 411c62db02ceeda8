"""The loss along a line: exact on quadratics and on a double well, ends bit for bit, and mutants."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from flatness.measuring.loss_path import loss_path
from tests.flatness import measures_common as common
from tests.flatness.measures_common import Quadratic, centres_around, quadratic_loss, symmetric

implementation = import_module("flatness.measuring.loss_path")


def small(model: Any, loss: Any, batches: Any, **own: Any) -> Any:
    if not isinstance(model, nn.Module):
        return loss_path(model, {}, loss, batches, **own)
    end = {name: p.detach() + 0.01 for name, p in model.named_parameters(remove_duplicate=False)}
    return loss_path(model, end, loss, batches, **{"fractions": (0.5,), **own})


def check_quadratic() -> None:
    """At t the loss is the one there; the excess is -t (1 - t) d^T H d / 2, whatever the samples."""
    start, end = Quadratic(0), Quadratic(5)
    hessian, batches = symmetric(), centres_around(start)
    fractions = (-0.5, 0.0, 0.25, 0.5, 1.0, 1.5)
    result = loss_path(start, end, quadratic_loss(hessian), batches, fractions)
    d = end().detach() - start().detach()
    assert result.distance == pytest.approx(float(d.norm()), rel=1e-12)
    centres = torch.cat(batches)
    for t, level, excess in zip(fractions, result.losses, result.excess, strict=True):
        off = start().detach() + t * d - centres
        expected = 0.5 * ((off @ hessian) * off).sum(1)
        # float64, numbers near 10
        assert level.value == pytest.approx(float(expected.mean()), abs=1e-12)
        assert level.data_standard_error == pytest.approx(float(expected.std()) / 7**0.5, abs=1e-12)
        assert level.draw_standard_error == 0.0
        assert excess.value == pytest.approx(-t * (1 - t) * float(d @ hessian @ d) / 2, abs=1e-12)
        assert excess.data_standard_error == pytest.approx(0.0, abs=1e-12)
    assert result.loss.value == pytest.approx(float(result.losses[1].value), abs=1e-15)


def double_well(model: nn.Module, centres: Tensor) -> Tensor:
    """(w_1^2 - 1)^2 + c_1 w_1, of the first weight."""
    first = model()[0]
    return (first.square() - 1).square() + centres[:, 0] * first


def wells() -> tuple[Quadratic, Quadratic]:
    """The two minima w_1 = -1 and 1."""
    left, right = Quadratic(0), Quadratic(0)
    with torch.no_grad():
        left.first[0, 0], right.first[0, 0] = -1.0, 1.0
    return left, right


def check_barrier() -> None:
    """The barrier of the double well is 1, halfway; within one well there is none."""
    left, right = wells()
    batches = [torch.linspace(-0.1, 0.1, 5, dtype=torch.float64)[:, None].expand(5, 12)]
    result = loss_path(left, right, double_well, batches)
    assert result.barrier.value == pytest.approx(1.0, abs=1e-12)
    assert result.barrier_at == 0.5
    assert result.barrier.data_standard_error == pytest.approx(0.0, abs=1e-12)  # the slope is that of both ends
    near = Quadratic(0)
    with torch.no_grad():
        near.first[0, 0] = 0.9
    none = loss_path(right, near, double_well, batches)
    assert (none.barrier.value, none.barrier_at) == (0.0, None)
    assert max(excess.value for excess in none.excess) <= 1e-15


MUTANTS = {
    "the ends exchanged": lambda: common.patched(
        implementation, "_between", lambda start, end, t: (torch.lerp(b, a, t) for a, b in zip(start, end, strict=True))
    ),
    "does not move": lambda: common.patched(implementation, "_between", lambda start, end, t: iter(start)),
    "half way": lambda: common.patched(
        implementation, "_between",
        lambda start, end, t: (torch.lerp(a, b, t / 2) for a, b in zip(start, end, strict=True)),
    ),
    "wrong sign": common.negative_rises,
}  # fmt: skip


def check_all() -> None:
    check_quadratic()
    check_barrier()


def test_quadratic_and_barrier() -> None:
    check_all()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_fail(mutant: str) -> None:
    with MUTANTS[mutant](), pytest.raises(AssertionError):
        check_all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_there_and_back_is_the_same_path(seed: int, definite: bool) -> None:
    hessian = symmetric(seed % 7, definite)
    start, end = Quadratic(seed), Quadratic(seed + 1)
    batches = centres_around(Quadratic(3))
    one, other = (loss_path(*pair, quadratic_loss(hessian), batches) for pair in ((start, end), (end, start)))
    assert [level.value for level in one.losses] == pytest.approx([x.value for x in reversed(other.losses)], abs=1e-9)
    assert one.barrier.value == pytest.approx(other.barrier.value, abs=1e-9)
    assert (one.barrier.value == 0.0) or not definite  # a convex loss has no barrier


def test_both_ends_are_the_weights_bit_for_bit() -> None:
    """In bfloat16 as in float32, and shared weights under any of their names."""
    for kind in (torch.float32, torch.bfloat16):
        seen: list[Tensor] = []
        model, other = nn.Linear(7, 3).to(kind), nn.Linear(7, 3).to(kind)

        def loss(net: nn.Module, batch: object, seen: list[Tensor] = seen) -> Tensor:
            seen.append(net.weight.detach().clone())  # type: ignore[operator]
            return net.weight.float().sum().reshape(1)  # type: ignore[operator]

        before = model.weight.detach().clone()
        loss_path(model, {f"_orig_mod.{key}": p for key, p in other.named_parameters()}, loss, [None], (0.5, 1.0))
        assert torch.equal(seen[0], before)
        assert torch.equal(seen[1], other.weight)
        assert torch.equal(seen[3], other.weight)
        assert torch.equal(model.weight, before)


def test_an_end_that_is_the_model_itself_has_no_distance() -> None:
    model = Quadratic()
    result = loss_path(model, model, quadratic_loss(symmetric()), centres_around(model))
    assert result.distance == 0.0
    assert all(abs(excess.value) < 1e-14 for excess in result.excess)


def test_leaves_everything_as_it_was_and_the_check_sees_when_not() -> None:
    common.check_leaves_everything(small)
    common.check_kills_common_mutants(small)


def test_refuses_what_it_cannot_measure() -> None:
    common.check_refuses(small)
    model, batches = Quadratic(), centres_around(Quadratic())
    loss = quadratic_loss(symmetric())
    whole = {name: p.detach().clone() for name, p in model.named_parameters()}
    for end, message in (
        (3, "end is 3"),
        ({}, r"end lacks 3 of 3 weights \(first, second, third\)"),
        ({**whole, "third": torch.zeros(3)}, r"end's third is .*allowed: a tensor of shape \(2,\)"),
        ({**whole, "third": torch.full((2,), float("nan"))}, "end's third .*finite entries"),
    ):
        with pytest.raises(ValueError, match=message):
            loss_path(model, end, loss, batches)  # type: ignore[arg-type]
    for fractions in ((), (0.0, 1.0), "half", 0.5, (float("nan"),)):
        with pytest.raises(ValueError, match="fractions is"):
            loss_path(model, whole, loss, batches, fractions)  # type: ignore[arg-type]


def test_result_is_reproducible_and_complete() -> None:
    common.check_result(small)
