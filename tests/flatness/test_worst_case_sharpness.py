"""Worst-case sharpness against the known maxima of quadratics, and mutants that the checks must find out."""

from __future__ import annotations

import itertools
from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from flatness.measuring.base import Estimate
from flatness.measuring.sharpness import WorstCaseSharpness, worst_case_sharpness
from tests.flatness import measures_common as common
from tests.flatness.measures_common import Quadratic, centres_around, quadratic_loss, symmetric

implementation = import_module("flatness.measuring.sharpness")
RHO = 0.7
gradient_of: Any = implementation.loss_gradient


def largest_rise(hessian: Tensor, gradient: Tensor, rho: float) -> float:
    """max of g delta + delta H delta / 2 over |delta| <= rho, by the secular equation.

    (mu - H) delta = g with |delta| = rho, mu at least the largest eigenvalue. For g with a part along the top
    eigenvector, and H with a positive eigenvalue.
    """
    values, vectors = torch.linalg.eigh(hessian)
    along = vectors.T @ gradient
    low, high = float(values[-1]), float(values[-1]) + float(gradient.norm()) / rho + 1e-9
    for _ in range(200):  # |delta| falls as mu rises
        mu = (low + high) / 2
        low, high = (mu, high) if float((along / (mu - values)).norm()) > rho else (low, mu)
    delta = vectors @ (along / (high - values))
    return float(gradient @ delta + delta @ hessian @ delta / 2)


def away(model: Quadratic, spread: float = 0.5) -> list[Tensor]:
    """Centres around another place than the weights, so that the gradient there is not zero."""
    offset = torch.randn(12, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    return [centres + spread * offset for centres in centres_around(model)]


def check_at_a_minimum() -> None:
    """rho^2 lambda_max / 2, from any direction."""
    model, hessian = Quadratic(), symmetric(definite=True)
    result = worst_case_sharpness(model, quadratic_loss(hessian), centres_around(model), rho=RHO, steps=400)
    expected = RHO**2 * float(torch.linalg.eigvalsh(hessian)[-1]) / 2
    assert result.gradient_norm == pytest.approx(0.0, abs=1e-14)  # of float64, numbers near 1
    # 400 steps leave (lambda_2 / lambda_1)^800 of the rest, far below rounding
    assert result.rise.value == pytest.approx(expected, rel=1e-6)  # the first direction is float32
    assert result.rise.draw_standard_error == 0.0


def check_away_from_a_minimum(definite: bool = True) -> None:
    """The maximum on the ball of a quadratic with a linear part."""
    model, hessian = Quadratic(), symmetric(definite=definite)
    centres = away(model)
    gradient = hessian @ (model().detach() - torch.cat(centres).mean(0))
    result = worst_case_sharpness(model, quadratic_loss(hessian), centres, rho=RHO, steps=400)
    assert result.gradient_norm == pytest.approx(float(gradient.norm()), rel=1e-12)
    assert result.rise.value == pytest.approx(largest_rise(hessian, gradient, RHO), rel=1e-9)


def check_first_step_is_sam() -> None:
    """The rise, and its error over samples, at w + rho g / |g|."""
    model, hessian = Quadratic(), symmetric()
    centres = away(model)
    place = model().detach() - torch.cat(centres).mean(0)
    w_hat = model().detach() + RHO * hessian @ place / (hessian @ place).norm()

    def losses(w: Tensor) -> Tensor:
        off = w - torch.cat(centres)
        return 0.5 * ((off @ hessian) * off).sum(1)

    rises = losses(w_hat) - losses(model().detach())
    result = worst_case_sharpness(model, quadratic_loss(hessian), centres, rho=RHO, steps=1)
    assert result.rises == (result.rise,)
    assert result.rise.value == pytest.approx(float(rises.mean()), rel=1e-12)
    assert result.rise.data_standard_error == pytest.approx(float(rises.std()) / 7**0.5, rel=1e-9)


MUTANTS: dict[str, Any] = {
    "still": common.still_weights,
    "backward": common.backward_weights,
    "far": common.far_weights,
    "negative": common.negative_rises,
    "descends": lambda: common.patched(
        implementation, "loss_gradient", lambda weights, losses: [-g for g in gradient_of(weights, losses)]
    ),
    "norm per tensor": lambda: common.patched(
        implementation, "loss_gradient", lambda w, losses: [g / g.norm() for g in gradient_of(w, losses)]
    ),
}


@pytest.mark.parametrize("check", [check_at_a_minimum, check_away_from_a_minimum, check_first_step_is_sam])
def test_check(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", [check_away_from_a_minimum, check_first_step_is_sam])
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_found_out(mutant: str, check: Any) -> None:
    with MUTANTS[mutant](), pytest.raises(AssertionError):
        check()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), rho=st.floats(0.01, 10.0), definite=st.booleans())
def test_no_step_is_above_the_maximum_and_convex_ones_do_not_fall(seed: int, rho: float, definite: bool) -> None:
    model, hessian = Quadratic(seed), symmetric(seed + 1, definite)
    centres = away(model)
    gradient = hessian @ (model().detach() - torch.cat(centres).mean(0))
    result = worst_case_sharpness(model, quadratic_loss(hessian), centres, rho=rho, steps=6)
    rises = [rise.value for rise in result.rises]
    bound = largest_rise(hessian, gradient, rho)
    assert max(rises) <= bound + 1e-9 * (1 + abs(bound))  # float64, some hundred operations
    assert result.rise.value == max(0.0, *rises)
    if definite:
        assert all(b >= a - 1e-12 * (1 + abs(a)) for a, b in itertools.pairwise(rises))


def test_the_centre_belongs_to_the_ball() -> None:
    """At the top of a hill the loss rises nowhere."""
    model = Quadratic()
    result = worst_case_sharpness(model, quadratic_loss(-symmetric(definite=True)), centres_around(model), rho=RHO)
    assert result.rise == Estimate(0.0, 0.0, 0.0)  # the centre's own rise, which nothing is measured of
    assert all(rise.value < 0 for rise in result.rises)


@pytest.mark.parametrize("steps", [1, 3])
def test_from_a_stationary_point_it_goes_rho_in_some_direction(steps: int) -> None:
    """Where the gradient is exactly zero. Of |w|^2 / 2 every place on the sphere is as high."""
    model = Quadratic()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    result = worst_case_sharpness(model, lambda net, _: net().square().sum() / 2, [None], rho=RHO, steps=steps)
    assert result.gradient_norm == 0.0
    # the direction is float32
    assert [rise.value for rise in result.rises] == pytest.approx([RHO**2 / 2] * steps, rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2])
def test_where_the_loss_is_not_finite_is_said(steps: int) -> None:
    model = Quadratic()
    before = common.state_of(model)
    passes: list[None] = []

    def loss(net: nn.Module, batch: object) -> Tensor:
        if not torch.is_grad_enabled():
            passes.append(None)  # one at the unmoved weights, and one after each step
        return net().square().sum() / (0.0 if len(passes) > steps else 1.0)

    with pytest.raises(ValueError, match=rf"loss is inf for sample 0 at distance 0.7 after {steps} steps"):
        worst_case_sharpness(model, loss, [None], rho=RHO, steps=4)
    assert common.same(before, common.state_of(model))


def test_chosen_parameters_alone_move() -> None:
    model, seen = Quadratic(), []

    def loss(net: nn.Module, batch: object) -> Tensor:
        seen.append([p.detach().clone() for p in net.parameters()])
        return net().square().sum()

    before = [p.detach().clone() for p in model.parameters()]
    result = worst_case_sharpness(model, loss, [None], rho=RHO, steps=2, parameters=["second"])
    assert any(not torch.equal(now[1], before[1]) for now in seen)
    assert all(torch.equal(now[0], before[0]) and torch.equal(now[2], before[2]) for now in seen)
    assert result.settings["parameters"] == ["second"]


def small(model: Any, loss: Any, batches: Any, **own: Any) -> WorstCaseSharpness:
    return worst_case_sharpness(model, loss, batches, **{"rho": 0.1, "steps": 2, **own})


def test_leaves_everything_and_refuses_what_is_wrong() -> None:
    common.check_leaves_everything(small)
    common.check_kills_common_mutants(small)
    common.check_refuses(small)
    common.check_refuses_parameters(small)
    common.check_result(small)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rho": 0.0}, "rho is 0.0; allowed: a finite number greater than 0"),
        ({"rho": float("nan")}, "rho is nan"),
        ({"steps": 0}, "steps is 0; allowed: a whole number of at least 1"),
        ({"steps": 1.5}, "steps is 1.5"),
    ],
)
def test_arguments(options: dict[str, Any], message: str) -> None:
    model = Quadratic()
    with pytest.raises(ValueError, match=message):
        worst_case_sharpness(model, quadratic_loss(symmetric()), centres_around(model), **options)


def test_a_gradient_that_is_not_finite_is_refused() -> None:
    model = Quadratic()
    before = common.state_of(model)
    root = lambda net, batch: (net() - net().detach()).square().sum().sqrt() + 1.0  # noqa: E731, 0 / 0 at 0
    with pytest.raises(ValueError, match="gradient of loss is not finite at step 0"):
        worst_case_sharpness(model, root, [None])
    assert common.same(before, common.state_of(model))
