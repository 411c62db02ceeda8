"""Input perturbation against its formula and its law, and mutants that the checks must find out."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flatness.training.input_perturbation import perturbed_noise

Perturb = Callable[[Tensor, float, torch.Generator | None], Tensor]
STANDARD_ERRORS = 5
"""Under a fixed seed; a fresh one would fail once in a million."""


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def check_formula(perturb: Perturb) -> None:
    """epsilon + gamma xi, xi the generator's next normal numbers; epsilon and torch's own generator as they were."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        noise = torch.randn(2, 3, 4, generator=generator(0)).to(dtype)
        before, state = noise.clone(), torch.get_rng_state()
        perturbed = perturb(noise, 0.1, generator(1))
        xi = torch.randn(2, 3, 4, generator=generator(1), dtype=dtype)
        assert (perturbed.shape, perturbed.dtype, perturbed.device) == (noise.shape, dtype, noise.device)
        torch.testing.assert_close(perturbed, noise + 0.1 * xi, rtol=0, atol=8 * torch.finfo(dtype).eps)
        assert torch.equal(noise, before)
        assert torch.equal(torch.get_rng_state(), state)


def check_law(perturb: Perturb) -> None:
    """The change has mean 0 and variance gamma^2, and is uncorrelated with epsilon."""
    count, gamma = 200_000, 0.1
    noise = torch.randn(count, generator=generator(2), dtype=torch.float64)
    change = (perturb(noise, gamma, generator(3)) - noise) / gamma
    error = 1 / math.sqrt(count)
    assert abs(float(change.mean())) <= STANDARD_ERRORS * error
    assert abs(float((change**2).mean()) - 1) <= STANDARD_ERRORS * math.sqrt(2) * error
    assert abs(float((change * noise).mean())) <= STANDARD_ERRORS * error


def does_nothing(noise: Tensor, gamma: float, source: torch.Generator | None) -> Tensor:
    return noise


def flips_the_sign(noise: Tensor, gamma: float, source: torch.Generator | None) -> Tensor:
    return 2 * noise - perturbed_noise(noise, gamma, source)


def adds_variance(noise: Tensor, gamma: float, source: torch.Generator | None) -> Tensor:
    return perturbed_noise(noise, math.sqrt(gamma), source)


def scales_the_noise(noise: Tensor, gamma: float, source: torch.Generator | None) -> Tensor:
    return noise * (1 + gamma)


def moves_the_target(noise: Tensor, gamma: float, source: torch.Generator | None) -> Tensor:
    return noise.copy_(perturbed_noise(noise, gamma, source))


def ignores_the_generator(noise: Tensor, gamma: float, source: torch.Generator | None) -> Tensor:
    return perturbed_noise(noise, gamma)


MUTANTS: dict[Perturb, list[Callable[[Perturb], None]]] = {
    does_nothing: [check_formula, check_law],
    flips_the_sign: [check_formula],  # the law is symmetric
    adds_variance: [check_formula, check_law],
    scales_the_noise: [check_formula, check_law],
    moves_the_target: [check_formula, check_law],
    ignores_the_generator: [check_formula],
}


@pytest.mark.parametrize("check", [check_formula, check_law])
def test_check(check: Callable[[Perturb], None]) -> None:
    check(perturbed_noise)


@pytest.mark.parametrize(("mutant", "check"), [(m, c) for m, checks in MUTANTS.items() for c in checks])
def test_mutant_is_found_out(mutant: Perturb, check: Callable[[Perturb], None]) -> None:
    with pytest.raises(AssertionError):
        check(mutant)


@given(shape=st.lists(st.integers(0, 3), max_size=4), seed=st.integers(0, 2**31))
def test_strength_zero_is_the_identity_and_draws_nothing(shape: list[int], seed: int) -> None:
    noise, source = torch.randn(shape), generator(seed)
    state = source.get_state()
    assert perturbed_noise(noise, 0, source) is noise
    assert torch.equal(source.get_state(), state)
    assert perturbed_noise(noise, 0.3, source).shape == noise.shape


def test_without_a_generator_it_draws_from_the_default_one() -> None:
    noise = torch.zeros(5)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        perturbed = perturbed_noise(noise, 1.0)
        torch.manual_seed(4)
        assert torch.equal(perturbed, torch.randn(5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2), -0.1), r"gamma is -0\.1; allowed: a finite number of at least 0"),
        ((torch.ones(2), math.nan), "gamma is nan"),
        ((torch.ones(2, dtype=torch.int64), 0.1), "noise is a tensor of shape"),
        (([1.0], 0.1), r"noise is \[1\.0\]"),
        ((torch.ones(2), 0.1, 3), "generator is 3"),
        ((torch.ones(2, device="meta"), 0.1, torch.Generator()), "generator is on cpu; allowed: the device"),
    ],
)
def test_arguments(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perturbed_noise(*arguments)
