"""The loss against the distance: closed forms on quadratic losses, exact distances, and mutants."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness.measuring.perturbation_curve import perturbation_curve
from tests.flatness import measures_common as common
from tests.flatness.measures_common import Quadratic, centres_around, quadratic_loss, symmetric, within_standard_errors

implementation = import_module(
    "flatness.measuring.perturbation_curve"
)  # the package may export the function by this name
GAMMAS = (0.0, 0.1, 0.5, 2.0)


def small(model: Any, loss: Any, batches: Any, **own: Any) -> Any:
    return perturbation_curve(model, loss, batches, **{"distances": (0.5, 0.1), "draws": 2, **own})


def along_gradient(model: Any, loss: Any, batches: Any, **own: Any) -> Any:
    return perturbation_curve(model, loss, batches, **{"distances": (0.5,), "directions": "gradient", **own})


def check_random() -> None:
    """The rise is gamma^2 tr(H) / (2 n), whatever H's signs; exactly zero at distance zero."""
    model = Quadratic()
    for hessian in (symmetric(definite=True), symmetric() - 0.5 * torch.eye(12, dtype=torch.float64)):
        result = perturbation_curve(model, quadratic_loss(hessian), centres_around(model), GAMMAS, draws=500)
        assert result.distances == GAMMAS
        assert result.rises[0].value == result.rises[0].draw_standard_error == 0.0
        for gamma, rise, level in list(zip(GAMMAS, result.rises, result.losses, strict=True))[1:]:
            expected = gamma**2 * float(hessian.trace()) / 24
            assert rise.draw_standard_error < abs(expected) / 5  # so that the next line says something
            assert within_standard_errors(rise, expected)
            assert level.value == pytest.approx(result.loss.value + rise.value, rel=1e-12)


def check_gradient() -> None:
    """Along the gradient g the rise is gamma |g| + gamma^2 g^T H g / (2 |g|^2), exactly."""
    model = Quadratic()
    hessian = symmetric()
    batches = [batch + 1.0 for batch in centres_around(model)]
    loss = quadratic_loss(hessian)
    result = perturbation_curve(model, loss, batches, GAMMAS, directions="gradient")
    gradient = hessian @ (model().detach() - torch.cat(batches).mean(0))
    unit = gradient / gradient.norm()
    for gamma, rise in zip(GAMMAS, result.rises, strict=True):
        expected = float(gamma * gradient.norm() + gamma**2 / 2 * unit @ hessian @ unit)
        assert rise.value == pytest.approx(expected, abs=1e-12)  # float64, numbers near 10
        assert rise.draw_standard_error == 0.0
    assert result.rises[1].value > 0


def check_distance(directions: str) -> None:
    """Every perturbed model is at the distance asked for, over all selected weights together."""
    model = Quadratic().float()
    start = model().detach().double()
    seen: list[float] = []

    def loss(net: nn.Module, batch: object) -> Tensor:
        seen.append(float((net().detach().double() - start)[:10].norm()))
        assert torch.equal(net().detach()[10:].double(), start[10:])
        return net().square().sum()

    names = ["first", "second"]
    perturbation_curve(model, loss, [None], (0.3, 4.0), directions=directions, draws=3, parameters=names)
    expected = [0.3, 4.0] * (1 if directions == "gradient" else 3)
    seen = seen[1:] if directions == "random" else seen[2:]  # the unmoved loss, and the gradient's
    assert seen == pytest.approx(expected, rel=1e-5)  # weights near 1 rounded to float32, at distance 0.3


CHECKS = {
    "random": check_random,
    "gradient": check_gradient,
    "random distance": lambda: check_distance("random"),
    "gradient distance": lambda: check_distance("gradient"),
}
MUTANTS = {
    "does nothing": (common.still_weights, set(CHECKS)),
    "half as far again": (common.far_weights, set(CHECKS)),
    "moves down": (common.backward_weights, {"gradient"}),
    "rise has the wrong sign": (common.negative_rises, {"random", "gradient"}),
    "direction is not normalised": (
        lambda: common.patched(implementation, "direction_norm", lambda direction: 1.0),
        set(CHECKS),
    ),
    "one direction for all draws": (
        lambda: common.patched(implementation, "derived_seed", lambda *parts: 0),
        {"random"},
    ),
}


@pytest.mark.parametrize("check", CHECKS)
def test_closed_forms(check: str) -> None:
    CHECKS[check]()


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_fail(mutant: str) -> None:
    make, killers = MUTANTS[mutant]
    for check in killers:
        with make(), pytest.raises(AssertionError):
            CHECKS[check]()


def test_gradient_reaches_frozen_weights_and_leaves_gradients_alone() -> None:
    model = common.Crowded()
    before = common.state_of(model)
    result = along_gradient(model, common.noisy_loss, common.crowded_batches(), parameters=["frozen.weight"])
    assert result.rises[0].value > 0
    assert common.same(before, common.state_of(model))


def test_gradient_is_that_of_the_mean_over_unequal_batches() -> None:
    model = Quadratic()
    whole = torch.cat(centres_around(model)) + 0.5
    loss = quadratic_loss(symmetric())
    one = perturbation_curve(model, loss, [whole], (1.0,), directions="gradient")
    two = perturbation_curve(model, loss, list(whole.split(5)), (1.0,), directions="gradient")
    assert one.rises[0].value == pytest.approx(two.rises[0].value, rel=1e-12)  # sums in another order, in float64


def test_the_gradient_can_be_taken_on_smaller_batches() -> None:
    model = Quadratic()
    whole, loss = torch.cat(centres_around(model)) + 0.5, quadratic_loss(symmetric())
    seen: list[int] = []

    def watched(net: nn.Module, batch: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            seen.append(len(batch))
        return loss(net, batch)

    one = perturbation_curve(model, loss, [whole], (1.0,), directions="gradient")
    parts = iter(whole.split(5))  # read once, as batches are
    two = perturbation_curve(model, watched, [whole], (1.0,), directions="gradient", gradient_batches=parts)
    assert seen == [len(part) for part in whole.split(5)]
    assert one.rises[0].value == pytest.approx(two.rises[0].value, rel=1e-12)  # sums in another order, in float64
    with pytest.raises(ValueError, match=f"values for the gradient; allowed: {len(whole)}"):
        perturbation_curve(model, loss, [whole], (1.0,), directions="gradient", gradient_batches=[whole[:5]])
    with pytest.raises(ValueError, match="gradient_batches are given"):
        perturbation_curve(model, loss, [whole], (1.0,), draws=2, gradient_batches=[whole])


def test_buffers_are_put_back_after_the_gradient() -> None:
    still = along_gradient(common.Crowded(), common.noisy_loss, common.crowded_batches(), distances=(0.0,))
    assert still.rises[0].value == 0.0


def test_the_gradient_itself() -> None:
    model = Quadratic()
    batches = [batch + 1.0 for batch in centres_around(model)]
    losses = common.base.Losses(quadratic_loss(symmetric()), model, batches, seed=0)
    saved = common.weights.SavedWeights(dict(model.named_parameters()))
    gradient = torch.cat([part.flatten() for part in implementation.loss_gradient(saved, losses)])
    expected = symmetric() @ (model().detach() - torch.cat(batches).mean(0))
    assert torch.allclose(gradient, expected, rtol=1e-12)


def test_a_loss_without_gradient_is_refused() -> None:
    model = Quadratic()
    for loss in (lambda m, b: torch.ones(2), lambda m, b: 0 * m().sum(), lambda m, b: m().detach().sum()):
        with pytest.raises(ValueError, match="gradient of loss has norm 0"):
            along_gradient(model, loss, [None])


@pytest.mark.parametrize("measure", [small, along_gradient])
def test_leaves_everything_as_it_was_and_the_check_sees_when_not(measure: Any) -> None:
    common.check_leaves_everything(measure)
    common.check_kills_common_mutants(measure)


@pytest.mark.parametrize("measure", [small, along_gradient])
def test_refuses_what_it_cannot_measure(measure: Any) -> None:
    common.check_refuses(measure)
    common.check_refuses_parameters(measure)
    for wrong, message in (
        ({"distances": (-1.0,)}, "distances is -1.0"),
        ({"distances": (float("inf"),)}, "distances is inf"),
        ({"distances": ()}, "distances is empty"),
        ({"distances": 0.5}, "distances is 0.5"),
        ({"distances": "12"}, "distances is '12'"),
        ({"distances": (1e38,)}, "distance 1e"),
        ({"directions": "up"}, "directions is 'up'"),
        ({"directions": "random", "draws": 0}, "draws is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(common.Crowded(), common.noisy_loss, common.crowded_batches(), **wrong)


@pytest.mark.parametrize("measure", [small, along_gradient])
def test_result_is_reproducible_and_complete(measure: Any) -> None:
    common.check_result(measure)
    settings = measure(common.Crowded(), common.noisy_loss, common.crowded_batches()).settings
    assert settings["directions"] == ("random" if measure is small else "gradient")
    assert settings["draws"] == (2 if measure is small else 1)
