"""Random weight perturbation: closed forms, exact restore, what it minimises, and what it refuses."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flatness import RandomWeightPerturbation
from flatness.weights import derived_seed

PINNED = (0.13884336, 1.2312411, -0.13614345, -2.2382679, -0.36722401, 1.7001933, -0.76178467)
"""Noise of seed 7 at step 11 on weights of shapes (3,) and (2, 2)."""


def parameter(values: list[float]) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def sgd(p: nn.Parameter, sigma: float, rate: float = 0.1, seed: int = 0) -> RandomWeightPerturbation:
    return RandomWeightPerturbation(torch.optim.SGD([p], lr=rate), sigma=sigma, seed=seed)


def stepped(optimizer: RandomWeightPerturbation, loss: Callable[[], Tensor]) -> None:
    optimizer.zero_grad()
    with optimizer.perturbed():
        loss().backward()
    optimizer.step()


def noise(seed: int, step: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed("random weight perturbation", seed, step))
    return torch.randn(size, generator=generator).double()


def test_a_step_is_the_gradient_at_the_moved_weights() -> None:
    """On (h/2) w^2 the step is w - rate h (w + sigma z): the sign of the noise and its size both show."""
    h, sigma = torch.tensor([1.0, 4.0], dtype=torch.float64), 0.3
    p = parameter([1.0, -2.0])
    expected = p.detach().clone()
    optimizer = sgd(p, sigma, seed=5)
    for step in range(4):
        stepped(optimizer, lambda: (h * p.square()).sum() / 2)
        expected -= 0.1 * h * (expected + sigma * noise(5, step, 2))
        # float64 sums of three terms
        assert torch.allclose(p.detach(), expected, rtol=1e-14, atol=0)


def test_weights_are_back_bit_for_bit_also_after_an_error() -> None:
    p = parameter([0.1, 1e-30, -7.0])
    before = p.detach().clone()
    optimizer = sgd(p, 0.5)
    with optimizer.perturbed():
        assert not torch.equal(p.detach(), before)
    assert torch.equal(p.detach(), before)
    optimizer.zero_grad()
    with pytest.raises(KeyError), optimizer.perturbed():
        raise KeyError
    assert torch.equal(p.detach(), before)


def test_the_noise_is_fresh_at_each_step_and_a_function_of_seed_and_step() -> None:
    places: list[Tensor] = []
    for seed, steps in ((0, 3), (0, 3), (1, 3)):
        p = parameter([0.0] * 50)
        optimizer = sgd(p, 1.0, rate=1e-12, seed=seed)
        for _ in range(steps):
            with optimizer.perturbed():
                places.append(p.detach().clone())
                p.sum().backward()
            optimizer.step()
    a, b, c = places[:3], places[3:6], places[6:]
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.allclose(a[0], a[1])
    assert not torch.allclose(a[0], c[0])
    with sgd(p, 1.0, seed=0).perturbed(2):
        assert torch.allclose(p.detach(), a[2], atol=1e-9)  # a step named by the caller; the weights moved by 1e-12


def test_the_noise_is_standard_normal() -> None:
    p = parameter([0.0] * 20_000)
    with sgd(p, 2.0).perturbed():
        z = p.detach() / 2.0
    # five standard errors of the mean and of the variance, of 20,000 numbers
    assert abs(float(z.mean())) < 5 / math.sqrt(20_000)
    assert abs(float(z.var()) - 1) < 5 * math.sqrt(2 / 20_000)


def test_its_gradients_are_those_of_the_smoothed_loss() -> None:
    """E of (w + sigma z)^3 - (w + sigma z) is w^3 + 3 sigma^2 w - w, where a mean of zero is not enough to tell."""
    sigma, w, count = 0.4, 0.9, 4000
    p = parameter([w])
    optimizer = sgd(p, sigma, rate=1e-12)
    gradients = []
    for _ in range(count):
        stepped(optimizer, lambda: (p.pow(4) / 4 - p.square() / 2).sum())
        gradients.append(float(p.grad))  # type: ignore[arg-type]
    sampled = torch.tensor(gradients)
    error = float(sampled.std()) / math.sqrt(count)
    assert abs(float(sampled.mean()) - (w**3 + 3 * sigma**2 * w - w)) < 4 * error
    assert abs(float(sampled.mean()) - (w**3 - w)) > 10 * error  # what a do-nothing gives


def test_without_noise_it_is_the_plain_optimizer_bit_for_bit() -> None:
    torch.manual_seed(0)
    start = torch.randn(20)
    weights = []
    for wrapped in (False, True):
        p = nn.Parameter(start.clone())
        adam = torch.optim.Adam([p], lr=0.01)
        optimizer = RandomWeightPerturbation(adam, sigma=0.0) if wrapped else adam
        for _ in range(5):
            optimizer.zero_grad()
            p.sin().square().sum().backward()
            optimizer.step()
        weights.append(p.detach())
    assert torch.equal(*weights)


def test_a_restored_run_goes_on_as_if_it_had_not_stopped() -> None:
    def run(stop: int | None) -> Tensor:
        p = parameter([1.0, 2.0])
        optimizer = RandomWeightPerturbation(torch.optim.Adam([p], lr=0.05), sigma=0.2, seed=3)
        for step in range(6):
            if step == stop:
                state, value = optimizer.state_dict(), p.detach().clone()
                p = nn.Parameter(value)
                optimizer = RandomWeightPerturbation(torch.optim.Adam([p], lr=0.05))
                optimizer.load_state_dict(state)
            stepped(optimizer, lambda: p.pow(4).sum())  # noqa: B023
        return p.detach()

    assert torch.equal(run(None), run(3))


def test_what_it_refuses() -> None:
    p = parameter([1.0])
    with pytest.raises(ValueError, match="sigma is -1"):
        sgd(p, -1.0)
    with pytest.raises(ValueError, match="seed is -2"):
        sgd(p, 0.1, seed=-2)
    optimizer = sgd(p, 0.1)
    p.grad = torch.ones_like(p)
    with pytest.raises(RuntimeError, match="no perturbed pass was made"):
        optimizer.step()
    with pytest.raises(ValueError, match="scale is 'whole'; allowed: one of 'absolute', 'layer', 'filter'"):
        RandomWeightPerturbation(torch.optim.SGD([p], lr=0.1), scale="whole")
    with pytest.raises(ValueError, match="RandomWeightPerturbation"):
        optimizer.load_state_dict(torch.optim.SGD([p], lr=0.1).state_dict())


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_leaves_the_weights(bad: float) -> None:
    p = parameter([1.0, 2.0])
    optimizer = sgd(p, 0.1)
    with pytest.raises(FloatingPointError, match="step 0"):
        stepped(optimizer, lambda: (p * bad).sum())
    assert p.tolist() == [1.0, 2.0]


def test_the_noise_is_pinned() -> None:
    """Runs on disk were made with these numbers: a change of them is a change of results."""
    p, q = parameter([0.0] * 3), nn.Parameter(torch.zeros(2, 2))
    with RandomWeightPerturbation(torch.optim.SGD([p, q], lr=0.1), sigma=1.0, seed=7).perturbed(11):
        torch.testing.assert_close(p.detach().float(), torch.tensor(PINNED[:3]), rtol=1e-6, atol=0)
        torch.testing.assert_close(q.detach().flatten(), torch.tensor(PINNED[3:]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", ["layer", "filter"])
def test_relative_noise_has_its_weights_size(scale: str) -> None:
    """The same numbers times the root mean square of the tensor, or of each output channel."""
    torch.manual_seed(0)
    w, b = nn.Parameter(torch.randn(3, 400).double() * torch.tensor([[1.0], [10.0], [0.0]])), parameter([2.0, -4.0])
    places = {}
    for name in ("absolute", scale):
        optimizer = RandomWeightPerturbation(torch.optim.SGD([w, b], lr=0.1), 0.5, 3, name)
        before = [p.detach().clone() for p in (w, b)]
        with optimizer.perturbed():
            places[name] = [p.detach() - old for p, old in zip((w, b), before, strict=True)]
    units: list[Any] = [w.detach().square().mean(dim=1 if scale == "filter" else (0, 1), keepdim=True).sqrt(), 10**0.5]
    for relative, absolute, unit in zip(places[scale], places["absolute"], units, strict=True):
        torch.testing.assert_close(relative, absolute * unit, rtol=1e-6, atol=1e-12)  # norms in float32


def test_frozen_weights_stay_and_the_others_noise_does_not_depend_on_it() -> None:
    places = []
    for frozen in (False, True):
        p, q = nn.Parameter(torch.zeros(3), requires_grad=not frozen), parameter([0.0, 0.0])
        with RandomWeightPerturbation(torch.optim.SGD([p, q], lr=0.1), 1.0).perturbed():
            assert torch.equal(p.detach(), torch.zeros(3)) == frozen
            places.append(q.detach().clone())
    assert torch.equal(*places)


def test_a_loop_that_counts_its_steps_makes_them_through_the_wrapped_optimizer() -> None:
    results = []
    for own in (False, True):
        p = parameter([1.0, 2.0])
        adam = torch.optim.Adam([p], lr=0.1)
        optimizer = RandomWeightPerturbation(adam, 0.2, 3)
        for step in range(4):
            adam.zero_grad()
            with optimizer.perturbed(step if own else None):
                p.pow(4).sum().backward()
            (adam if own else optimizer).step()
        results.append(p.detach())
    assert torch.equal(*results)


def test_gradients_may_be_unscaled_and_clipped_before_the_step() -> None:
    results = []
    for scaled in (False, True):
        p = nn.Parameter(torch.tensor([1.0, 2.0]))
        optimizer = RandomWeightPerturbation(torch.optim.SGD([p], lr=0.1), 0.2)
        scaler = torch.amp.GradScaler("cpu", enabled=scaled)
        for _ in range(3):
            optimizer.zero_grad()
            with optimizer.perturbed():
                scaler.scale(p.pow(4).sum()).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_([p], 1.0)
            scaler.step(optimizer)
            scaler.update()
        results.append(p.detach())
    assert torch.equal(*results)
    assert optimizer.steps == 3


Add = Callable[[RandomWeightPerturbation, list[Tensor], int], None]

# Mutants: a step that adds no noise, noise of the other sign, one noise for all steps, weights not put back.


def no_noise(optimizer: RandomWeightPerturbation, add: Add, parameters: list[Tensor], step: int) -> None:
    pass


def mirrored(optimizer: RandomWeightPerturbation, add: Add, parameters: list[Tensor], step: int) -> None:
    optimizer._sigma = -optimizer._sigma
    add(optimizer, parameters, step)
    optimizer._sigma = -optimizer._sigma


def one_for_all(optimizer: RandomWeightPerturbation, add: Add, parameters: list[Tensor], step: int) -> None:
    add(optimizer, parameters, 0)


CHECKS = {
    "step": test_a_step_is_the_gradient_at_the_moved_weights,
    "fresh": test_the_noise_is_fresh_at_each_step_and_a_function_of_seed_and_step,
    "smoothed": test_its_gradients_are_those_of_the_smoothed_loss,
    "pinned": test_the_noise_is_pinned,
}


@pytest.mark.parametrize(
    ("mutant", "check"),
    [
        *((no_noise, name) for name in CHECKS),
        *((mirrored, name) for name in ("step", "pinned")),
        *((one_for_all, name) for name in ("step", "fresh", "pinned")),
    ],
)
def test_mutant_is_found_out(mutant: Callable[..., None], check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    add = RandomWeightPerturbation._add_noise
    monkeypatch.setattr(
        RandomWeightPerturbation, "_add_noise", lambda self, parameters, step: mutant(self, add, parameters, step)
    )
    with pytest.raises(AssertionError):
        CHECKS[check]()
