"""Random SAM: the places of its two passes in closed form, an independent implementation, mutants."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from flatness.training.random_sam import RandomSAM
from flatness.training.sam import SAM
from flatness.weights import GaussianNoise, derived_seed
from tests.flatness.sam_common import EPS, RHO, ROUNDING, Optimizers, closure_of, data, loss_of, network, same, weights

SIGMA = 0.2
SEED = 5


def visited(sam: SAM, p: nn.Parameter, h: Tensor) -> list[Tensor]:
    """Where the passes of one step of the loss 1/2 sum h w^2 are made."""
    places = []

    def closure() -> Tensor:
        sam.zero_grad()
        places.append(p.detach().clone())
        loss = (h * p**2).sum() / 2
        loss.backward()
        return loss

    sam.step(closure)
    return places


def check_places(make: type[RandomSAM]) -> None:
    """w_r - w is sigma z; w_hat - w_r is rho along h w_r; the step's gradient is h w_hat."""
    h = torch.tensor([4.0, 30.0, 0.5], dtype=torch.float64)
    w = torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64)
    p = nn.Parameter(w.clone())
    sam = make(torch.optim.SGD([p], lr=0.1), RHO, SIGMA, SEED, "absolute")
    for step in range(3):
        before = p.detach().clone()
        w_r, w_hat = visited(sam, p, h)
        z = next(iter(GaussianNoise([w], derived_seed("random_sam", SEED, step)))).double()
        torch.testing.assert_close(w_r, before + SIGMA * z, rtol=0, atol=8 * EPS)
        g = h * w_r
        torch.testing.assert_close(w_hat, w_r + RHO * g / g.norm(), rtol=0, atol=16 * EPS)
        torch.testing.assert_close(p.detach(), before - 0.1 * h * w_hat, rtol=0, atol=64 * EPS)


def check_noise_is_standard(make: type[RandomSAM]) -> None:
    """(w_r - w) / sigma over a thousand steps of a hundred weights: mean 0, variance 1, no step like another."""
    p = nn.Parameter(torch.zeros(100))
    sam = make(torch.optim.SGD([p], lr=0.0), RHO, SIGMA, SEED, "absolute")
    z = torch.stack([visited(sam, p, torch.ones(100))[0] for _ in range(1000)]).double() / SIGMA
    count = z.numel()
    assert abs(float(z.mean())) < 5 / count**0.5  # five standard errors
    assert abs(float(z.square().mean()) - 1) < 5 * (2 / count) ** 0.5
    neighbours = (z[1:] * z[:-1]).mean()
    assert abs(float(neighbours)) < 5 / count**0.5


class StandsStill(RandomSAM):
    def _step_aside(self, parameters: list[Tensor]) -> None:
        pass


class ClimbsFromW(RandomSAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        return SAM._ascend(self, parameters)


class Descends(RandomSAM):
    def _ascend(self, parameters: list[Tensor]) -> bool:
        self._rho = -self._rho
        moved = super()._ascend(parameters)
        self._rho = -self._rho
        return moved


class MirrorsTheNoise(RandomSAM):
    def _step_aside(self, parameters: list[Tensor]) -> None:
        self._sigma = -self._sigma
        super()._step_aside(parameters)
        self._sigma = -self._sigma


class OneNoiseForAll(RandomSAM):
    def _step_aside(self, parameters: list[Tensor]) -> None:
        steps, self.steps = self.steps, 0
        super()._step_aside(parameters)
        self.steps = steps


KILLED_BY: dict[type[RandomSAM], list[Callable[[type[RandomSAM]], None]]] = {
    StandsStill: [check_places, check_noise_is_standard],
    ClimbsFromW: [check_places],
    Descends: [check_places],
    MirrorsTheNoise: [check_places],
    OneNoiseForAll: [check_places, check_noise_is_standard],
}


@pytest.mark.parametrize("check", [check_places, check_noise_is_standard])
def test_check(check: Callable[[type[RandomSAM]], None]) -> None:
    check(RandomSAM)


@pytest.mark.parametrize(("mutant", "check"), [(m, c) for m, checks in KILLED_BY.items() for c in checks])
def test_mutant_is_found_out(mutant: type[RandomSAM], check: Callable[[type[RandomSAM]], None]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@pytest.mark.parametrize("base", ["sgd", "adam"])
def test_trajectory(base: str) -> None:
    """50 steps of changing batches, as written out with torch.func on copies of the weights."""
    model, reference = network(), network()
    sam = RandomSAM(Optimizers[base](model.parameters()), RHO, SIGMA, SEED, "layer")
    optimizer = Optimizers[base](reference.parameters())
    names = [name for name, _ in reference.named_parameters()]
    for step in range(50):
        x, y = data(seed=step)
        w = [p.detach().clone() for p in reference.parameters()]

        def gradient(at: list[Tensor], x: Tensor = x, y: Tensor = y) -> list[Tensor]:
            leaves = [t.clone().requires_grad_() for t in at]
            output = torch.func.functional_call(reference, dict(zip(names, leaves, strict=True)), (x,))
            return list(torch.autograd.grad((output - y).square().mean(), leaves))

        noise = GaussianNoise(w, derived_seed("random_sam", SEED, step), "layer")
        w_r = [t + SIGMA * z.double() for t, z in zip(w, noise, strict=True)]
        g = gradient(w_r)
        norm = torch.cat([t.flatten() for t in g]).norm()
        for p, d in zip(
            reference.parameters(), gradient([t + RHO * u / norm for t, u in zip(w_r, g, strict=True)]), strict=True
        ):
            p.grad = d
        optimizer.step()
        sam.step(closure_of(sam, model, x, y))
    for p, q in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=ROUNDING)


def test_without_noise_it_is_sam_bit_for_bit() -> None:
    results = []
    for sigma in (None, 0.0):
        model = network()
        adam = torch.optim.Adam(model.parameters(), lr=0.01)
        sam = SAM(adam, RHO) if sigma is None else RandomSAM(adam, RHO, sigma)
        for step in range(5):
            sam.step(closure_of(sam, model, *data(seed=step)))
        results.append(weights(model))
    assert same(*results)


@settings(max_examples=40, deadline=None)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4),
    scale=st.sampled_from(["absolute", "layer", "filter"]),
    seed=st.integers(0, 2**31),
)
def test_both_passes_of_a_step_see_one_noise_and_weights_come_back(
    shapes: list[list[int]], scale: str, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.randn(s, generator=generator, dtype=torch.float64)) for s in shapes]
    w = [p.detach().clone() for p in parameters]
    sam = RandomSAM(torch.optim.SGD(parameters, lr=0.1), RHO, SIGMA, seed, scale)
    with sam.first_pass():
        w_r = [p.detach().clone() for p in parameters]
        for p in parameters:
            p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64)
    assert same([p.detach() for p in parameters], w)
    with sam.perturbed():
        e = torch.cat([(p.detach() - t).flatten() for p, t in zip(parameters, w_r, strict=True)])
    assert same([p.detach() for p in parameters], w)
    size = torch.cat([t.flatten() for t in w_r]).norm()
    assert e.numel() == 0 or abs(float(e.norm()) - RHO) <= 8 * EPS * (RHO + float(size))


def test_frozen_weights_stay_where_they_are() -> None:
    free, frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3), requires_grad=False)
    sam = RandomSAM(torch.optim.SGD([free, frozen], lr=0.1), RHO, SIGMA)
    with sam.first_pass():
        assert torch.equal(frozen, torch.ones(3))
        assert not torch.equal(free, torch.ones(3))


def test_the_first_pass_has_to_be_enclosed() -> None:
    model = network()
    sam = RandomSAM(torch.optim.SGD(model.parameters(), lr=0.1))
    loss_of(model, *data()).backward()
    with pytest.raises(RuntimeError, match=r"enclose forward and backward at w \+ sigma z"), sam.perturbed():
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sigma": -0.1}, "sigma is -0.1; allowed: a finite number of at least 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"scale": "whole"}, "scale is 'whole'; allowed: one of 'absolute', 'layer', 'filter'"),
        ({"rho": "0.1"}, "rho is '0.1'"),
        ({"gradients": "global"}, "gradients is 'global'"),
    ],
)
def test_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomSAM(torch.optim.SGD(network().parameters(), lr=0.1), **options)
