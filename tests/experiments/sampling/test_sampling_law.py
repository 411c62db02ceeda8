"""Sampling with a network whose chains have a known law: the law holds at every step, and does not for mutants."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from experiments.diffusion import Process, ProcessOptions
from experiments.sampling.chains import ChainOptions, ImageNoise, chains
from tests.experiments.sampling.exact_chains import SHAPE, TWENTY, PosteriorMean, data, exact_laws, hundred

IMAGES = 4000
K = 5.0
"""Standard errors. A case compares 30 numbers a step: of 3,000 at T' = 100, one exceeds 5 with probability .002; the
seed is fixed, so that a case that passes does so always."""
ROUNDING = 2e-5
"""Absolute, beside K standard errors: x_0 is told from x by 1/sqrt(alpha_bar), 2e4 at the first step, times float32's
6e-8; it enters the next state with a weight below 1e-2."""
CASES = {
    "ddpm": (0.3, None),
    "ddpm, small variance": (-1.0, None),
    "ddpm, large variance": (1.0, None),
    "ddpm, variance not learned": (None, None),
    "ddim": (0.0, 0.0),
    "ddim, eta .5": (0.0, 0.5),
    "ddim, eta 1": (0.0, 1.0),
}


def deviations(steps: int, v: float | None, eta: float | None, network: nn.Module | None = None) -> float:
    """How far the states are from their law: in standard errors, the largest of all means, variances and covariances
    with the noise that entered, of every pixel at every step, and of every two pixels next to each other.
    """
    process = Process(ProcessOptions(learn_sigma=v is not None))
    options = ChainOptions(steps=steps, sampler="ddpm" if eta is None else "ddim", eta=eta or 0.0, seed=1)
    network = PosteriorMean(*data(), v) if network is None else network
    (chain,) = chains(network, process, range(IMAGES), options, batch_size=IMAGES, shape=SHAPE)
    laws = exact_laws({20: TWENTY, 100: hundred()}[steps], v, eta)
    clean = ImageNoise(1, torch.arange(IMAGES), SHAPE)
    worst = 0.0
    for law, state in zip(laws, chain.states, strict=True):
        entered = clean(state.step).double() if state.step else torch.zeros(IMAGES, *SHAPE, dtype=torch.float64)
        x = state.x.double() - law.mean
        errors = law.variance.sqrt() / math.sqrt(IMAGES)
        worst = max(worst, _most(x.mean(0), errors))
        worst = max(worst, _most(x.square().mean(0) - law.variance, math.sqrt(2) * law.variance / math.sqrt(IMAGES)))
        # Of a product of jointly normal x and z: E[x z] = sigma, variance var(x) + sigma^2; z = 0 at step 0
        sigma = law.sigma if state.step else 0.0
        worst = max(worst, _most((x * entered).mean(0) - sigma, (errors.square() + sigma**2 / IMAGES).sqrt()))
        left, right = x[..., :-1], x[..., 1:]
        independent = (law.variance[..., :-1] * law.variance[..., 1:] / IMAGES).sqrt()
        worst = max(worst, _most((left * right).mean(0), independent))
    return worst


def _most(difference: Tensor, error: Tensor) -> float:
    return float(((difference.abs() - ROUNDING).clamp(min=0) / error).max())


@pytest.mark.parametrize("steps", [20, 100])
@pytest.mark.parametrize("case", CASES)
def test_every_state_has_the_law_that_the_recursion_gives(case: str, steps: int) -> None:
    assert deviations(steps, *CASES[case]) < K


def test_with_more_steps_the_law_comes_near_the_data() -> None:
    """That the recursion is about sampling at all."""
    mean, deviation = data()
    errors = []
    for steps in (TWENTY, hundred(), tuple(range(1000))):
        last = exact_laws(steps, 1.0, None)[-1]
        assert (
            float(((last.mean - mean) / deviation).abs().max()) < 1e-6
        )  # of x_T's mean, 0 and not 5e-5 times the data's
        errors.append(float((last.variance.sqrt() / deviation - 1).abs().max()))
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 0.01


def _noise_scaled_by(factor: float) -> Callable[[ImageNoise, int], Tensor]:
    original = ImageNoise._normal

    def scaled(self: ImageNoise, step: int) -> Tensor:
        return original(self, step) * (factor if step else 1.0)

    return scaled


class Mistimed(PosteriorMean):
    """Takes steps of the respaced process for steps of the original one."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return super().forward(x, (t * 20) // 1000)


def test_mutants_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = ImageNoise._normal
    largest: dict[str, float] = {}

    def measured(name: str, target: str, mutant: object, v: float | None, eta: float | None) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(target, mutant, raising=False)
            # The reference noise in `deviations` must not be the mutant's
            patch.setattr("tests.experiments.sampling.test_sampling_law.ImageNoise", Unmutated)
            largest[name] = deviations(20, v, eta)

    class Unmutated(ImageNoise):
        def _normal(self, step: int) -> Tensor:
            return clean(self, step)

    noise = "experiments.sampling.chains.ImageNoise._normal"
    measured("noise too strong by a tenth, ddpm", noise, _noise_scaled_by(1.1), 0.3, None)
    measured("noise too weak by a tenth, ddim", noise, _noise_scaled_by(0.9), 0.0, 1.0)
    measured("no noise", noise, _noise_scaled_by(0.0), 0.3, None)
    measured("sign of the noise, ddim", noise, _noise_scaled_by(-1.0), 0.0, 0.5)
    measured("sign of the noise, ddpm", noise, _noise_scaled_by(-1.0), 0.3, None)
    measured("steps in ascending order, ddpm", "experiments.diffusion.sampling.reversed", iter, 0.3, None)
    measured("steps in ascending order, ddim", "experiments.diffusion.sampling.reversed", iter, 0.0, 0.0)
    largest["network told the respaced step"] = deviations(20, 0.3, None, Mistimed(*data(), 0.3))
    largest["v off by a half"] = deviations(20, 0.3, None, PosteriorMean(*data(), 0.8))
    assert min(largest.values()) > 2 * K, largest
