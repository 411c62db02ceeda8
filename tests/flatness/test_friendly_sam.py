"""Friendly SAM: its direction in closed form, an independent numpy implementation, mutants."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flatness.training.friendly_sam import FriendlySAM
from flatness.training.sam import SAM
from tests.flatness.sam_common import EPS, RHO, ROUNDING, Optimizers, closure_of, data, loss_of, network, same, weights
from tests.flatness.test_sam import NumpySAM

SHARE = 0.8
DECAY = 0.6


def step_with(sam: SAM, p: nn.Parameter, g: Tensor) -> Tensor:
    """One step of which the gradient at w is g; by how much w_hat is off."""
    sam.zero_grad()
    p.grad = g.clone()
    with sam.perturbed():
        moved = p.detach() - sam._saved[p]
        p.grad = torch.zeros_like(p)
    sam.step()
    return moved


def check_direction(make: type[FriendlySAM]) -> None:
    """rho along g - share m; m begins with the first gradient and forgets with the decay."""
    generator = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.ones(4, dtype=torch.float64))
    sam = make(torch.optim.SGD([p], lr=0.1), RHO, SHARE, DECAY)
    mean: Tensor | None = None
    for _ in range(6):
        g = torch.randn(4, generator=generator, dtype=torch.float64) + 1.0
        d = g if mean is None else g - SHARE * mean
        # one rounding of each weight, near 1, and a few of the direction
        torch.testing.assert_close(step_with(sam, p, g), RHO * d / d.norm(), rtol=0, atol=16 * EPS)
        mean = g if mean is None else DECAY * mean + (1 - DECAY) * g


def check_full_gradient_is_taken_off(make: type[FriendlySAM]) -> None:
    """Of gradients that are a common one and noise, at share 1 what is left is the noise, as its authors mean it.

    The mean of n = (1 + decay) / (1 - decay) gradients' worth of noise stays: in the mean the direction has no part
    along the common gradient, where SAM's points along it.
    """
    generator = torch.Generator().manual_seed(1)
    common = torch.full((50,), 2.0, dtype=torch.float64)
    p = nn.Parameter(torch.zeros(50, dtype=torch.float64))
    sam = make(torch.optim.SGD([p], lr=0.0), RHO, 1.0, 0.9)
    along = []
    for step in range(600):
        moved = step_with(sam, p, common + torch.randn(50, generator=generator, dtype=torch.float64))
        if step >= 100:
            along.append(float(moved @ common / (RHO * common.norm())))
    cosines = torch.tensor(along)
    assert abs(float(cosines.mean())) < 5 * float(cosines.std()) / len(along) ** 0.5 + 0.01


class NumpyFriendlySAM(NumpySAM):
    """NumpySAM with the direction of friendly SAM."""

    mean: list[np.ndarray] | None = None

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        loss, g = self.gradient(self.w, x, y)
        d = g if self.mean is None else [a - SHARE * m for a, m in zip(g, self.mean, strict=True)]
        self.mean = g if self.mean is None else [DECAY * m + (1 - DECAY) * a for a, m in zip(g, self.mean, strict=True)]
        T = [abs(a) + 0.01 if self.adaptive else np.ones_like(a) for a in self.w]
        norm = math.sqrt(sum(float(((s * a) ** 2).sum()) for s, a in zip(T, d, strict=True)))
        w_hat = [a + RHO * s * s * b / norm for a, s, b in zip(self.w, T, d, strict=True)]
        _, g = self.gradient(w_hat, x, y)
        self.t += 1
        self.m = [0.9 * m + a for m, a in zip(self.m, g, strict=True)]
        self.w = [a - 0.1 * m for a, m in zip(self.w, self.m, strict=True)]
        return loss


def check_trajectory(make: type[FriendlySAM], adaptive: bool = False) -> None:
    """100 steps of changing batches, weights and losses, as the numpy implementation makes them."""
    model = network()
    reference = NumpyFriendlySAM([p.detach().numpy().copy() for p in model.parameters()], "sgd", adaptive)
    sam = make(Optimizers["sgd"](model.parameters()), RHO, SHARE, DECAY, adaptive)
    for k in range(100):
        x, y = data(seed=k)
        loss = sam.step(closure_of(sam, model, x, y))
        assert loss is not None
        assert abs(float(loss) - reference.step(x.numpy(), y.numpy())) <= ROUNDING
    for p, a in zip(model.parameters(), reference.w, strict=True):
        assert np.abs(p.detach().numpy() - a).max() <= ROUNDING


class IsSAM(FriendlySAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        return SAM._ascend(self, parameters)


class AddsTheMean(FriendlySAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        self.share = -self.share
        moved = super()._ascend(parameters)
        self.share = -self.share
        return moved


class Descends(FriendlySAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        self._rho = -self._rho
        moved = super()._ascend(parameters)
        self._rho = -self._rho
        return moved


class DoesNothing(FriendlySAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        return True


class KeepsTheFirst(FriendlySAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        means = {p: mean.clone() for p, mean in self._means.items()}
        moved = super()._ascend(parameters)
        self._means.update(means)
        return moved


KILLED_BY: dict[type[FriendlySAM], list[Callable[[type[FriendlySAM]], None]]] = {
    IsSAM: [check_direction, check_full_gradient_is_taken_off, check_trajectory],
    AddsTheMean: [check_direction, check_full_gradient_is_taken_off, check_trajectory],
    Descends: [check_direction, check_trajectory],
    DoesNothing: [check_direction, check_trajectory],
    KeepsTheFirst: [check_direction, check_trajectory],
}


@pytest.mark.parametrize("check", [check_direction, check_full_gradient_is_taken_off])
def test_check(check: Callable[[type[FriendlySAM]], None]) -> None:
    check(FriendlySAM)


@pytest.mark.parametrize("adaptive", [False, True])
def test_trajectory(adaptive: bool) -> None:
    check_trajectory(FriendlySAM, adaptive)


@pytest.mark.parametrize(("mutant", "check"), [(m, c) for m, checks in KILLED_BY.items() for c in checks])
def test_mutant_is_found_out(mutant: type[FriendlySAM], check: Callable[[type[FriendlySAM]], None]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


def test_at_share_one_the_mean_may_hold_the_gradient_already() -> None:
    """The paper's Eq. (7) and its authors' code: g - m_t = decay (g - m_(t-1)), the same direction."""
    generator = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.ones(4, dtype=torch.float64))
    sam = FriendlySAM(torch.optim.SGD([p], lr=0.1), RHO, 1.0, DECAY)
    first = torch.randn(4, generator=generator, dtype=torch.float64)
    step_with(sam, p, first)
    g = torch.randn(4, generator=generator, dtype=torch.float64)
    with_g = g - (DECAY * first + (1 - DECAY) * g)
    torch.testing.assert_close(step_with(sam, p, g), RHO * with_g / with_g.norm(), rtol=0, atol=32 * EPS)


def test_at_share_zero_it_is_sam_bit_for_bit() -> None:
    results = []
    for make in (lambda o: SAM(o, RHO), lambda o: FriendlySAM(o, RHO, share=0.0)):
        model = network()
        sam = make(torch.optim.Adam(model.parameters(), lr=0.01))
        for step in range(5):
            sam.step(closure_of(sam, model, *data(seed=step)))
        results.append(weights(model))
    assert same(*results)


def test_the_mean_takes_in_nothing_that_is_not_finite() -> None:
    p = nn.Parameter(torch.ones(2))
    sam = FriendlySAM(torch.optim.SGD([p], lr=0.1), RHO, on_nonfinite="skip")
    step_with(sam, p, torch.tensor([1.0, 2.0]))
    step_with(sam, p, torch.tensor([math.nan, 2.0]))
    assert (sam.steps, sam.skipped) == (2, 1)
    assert torch.equal(sam._means[p], torch.tensor([1.0, 2.0]))


def test_a_mean_follows_its_parameter_to_another_type() -> None:
    p = nn.Parameter(torch.ones(2))
    sam = FriendlySAM(torch.optim.SGD([p], lr=0.1), RHO)
    step_with(sam, p, torch.tensor([1.0, 2.0]))
    p.data = p.data.double()
    p.grad = None
    step_with(sam, p, torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert sam._means[p].dtype == torch.float64


def test_a_grad_scaler_has_to_be_given() -> None:
    model = network()
    sam = FriendlySAM(torch.optim.Adam(model.parameters(), lr=0.1), RHO)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(loss_of(model, *data())).backward()
    with sam.perturbed():
        scaler.scale(loss_of(model, *data())).backward()
    with pytest.raises(RuntimeError, match="FriendlySAM has none"):
        scaler.step(sam)


def test_means_of_other_parameters_are_refused() -> None:
    model, other = network(), nn.Linear(3, 2).double()
    sam = FriendlySAM(torch.optim.SGD(model.parameters(), lr=0.1), RHO)
    sam.step(closure_of(sam, model, *data()))
    state = sam.state_dict()
    wrong = FriendlySAM(torch.optim.SGD(other.parameters(), lr=0.1), RHO)
    with pytest.raises(ValueError, match="the shapes of state_dict's means is"):
        wrong.load_state_dict(state)
    with pytest.raises(ValueError, match="written by FriendlySAM"):
        wrong.load_state_dict(SAM(torch.optim.SGD(other.parameters(), lr=0.1)).state_dict())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": -1.0}, "share is -1.0"),
        ({"decay": 1.0}, "decay is 1.0; allowed: a number of at least 0 and below 1"),
        ({"decay": -0.1}, "decay is -0.1"),
        ({"scaler": 3}, "scaler is 3"),
        ({"adaptive": 1}, "adaptive is 1"),
    ],
)
def test_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FriendlySAM(torch.optim.SGD(network().parameters(), lr=0.1), **options)
