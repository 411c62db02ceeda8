"""Every prediction as every other one, against the definitions, and the distributions of times."""

from __future__ import annotations

import itertools

import pytest
import torch

from flatness.diffusion import predictions
from flatness.diffusion.noise_paths import (
    GivenTimes,
    LogitNormal,
    LogNormal,
    Uniform,
    UniformSteps,
    karras_sigmas,
    stratified_positions,
)
from flatness.diffusion.predictions import PREDICTIONS, converted_prediction, data_and_noise, prediction_target
from flatness.diffusion.sampling import sampling_process
from flatness.measuring.exposure_bias import exposure_bias
from tests.flatness import measures_common as common
from tests.flatness.adapters_common import BARS, NAMES, case, data


def check_conversions() -> None:
    """What a perfect network would return in one parametrisation becomes what it would in another."""
    generator = torch.Generator().manual_seed(0)
    x_0, epsilon = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    # not only pairs with alpha^2 + sigma^2 = 1
    alpha, sigma = 0.1 + torch.rand(2, 6, 1, generator=generator, dtype=torch.float64)
    x_t = alpha * x_0 + sigma * epsilon
    targets = {
        "epsilon": epsilon,
        "x_0": x_0,
        "v": alpha * epsilon - sigma * x_0,
        "flow": epsilon - x_0,
    }
    for name, other in itertools.product(PREDICTIONS, PREDICTIONS):
        assert torch.equal(prediction_target(name, x_0, epsilon, alpha, sigma), targets[name])
        converted = converted_prediction(name, other, targets[name], x_t, alpha, sigma)
        # division by alpha or sigma of 0.1 and more: a few units of rounding times 10
        assert torch.allclose(converted, targets[other], rtol=0, atol=1e-13)


def test_conversions_agree_with_the_definitions() -> None:
    check_conversions()


def test_mutants_of_conversions_fail() -> None:
    original = data_and_noise
    mutants = (
        lambda kind, out, x, a, s: original(kind, out, x, s, a),
        lambda kind, out, x, a, s: original(kind, -out, x, a, s),
        lambda kind, out, x, a, s: original(kind, out, x, a, s)[::-1],
        lambda kind, out, x, a, s: (x, x),
    )
    for mutant in mutants:
        with common.patched(predictions, "data_and_noise", mutant), pytest.raises(AssertionError):
            check_conversions()
    with pytest.raises(ValueError, match="wanted is 'score'"):
        converted_prediction("v", "score", data(2), data(2), torch.ones(1), torch.ones(1))


def exposure(name: str) -> torch.Tensor:
    """Norms on images and along chains of the best network for Gaussian data, step by step."""
    of = case(name)
    process = sampling_process(of.model(), of.loss, times=list(of.times))
    assert torch.allclose(process.alphas_cumprod, BARS, rtol=1e-12)
    bias = exposure_bias(process.epsilon_model, process.alphas_cumprod, [0, 1, 2, 3], data(40), batch_size=16)
    return torch.tensor([e.value for e in (*bias.training, *bias.sampling)], dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES[1:])
def test_exposure_bias_is_the_same_in_every_parametrisation(name: str) -> None:
    # Norms are taken in float32, and the same network is written in another way; EDM's raw one is told log(sigma) / 4
    assert torch.allclose(exposure(name), exposure("epsilon"), rtol=1e-6)


def test_a_mutant_of_the_conversion_changes_exposure_bias() -> None:
    from flatness.diffusion import losses

    expected = exposure("epsilon")
    mutant = common.patched(losses, "data_and_noise", lambda kind, out, x, a, s: (out, out))
    with mutant:
        assert not torch.allclose(exposure("v"), expected, rtol=1e-3)


def test_labels_go_round_with_the_images() -> None:
    of = case("x_0")
    labels = torch.arange(5)
    seen: list[torch.Tensor] = []

    class Told(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = of.model()

        def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            seen.append(y)
            return torch.as_tensor(self.inner(x, t))

    from flatness.diffusion.losses import x_0_loss

    process = sampling_process(Told(), x_0_loss(BARS, labels="y"), labels=labels)
    exposure_bias(process.epsilon_model, process.alphas_cumprod, [0, 2], data(5), batch_size=2)
    assert torch.cat(seen).tolist() == [0, 1, 2, 3, 4] * 4


def test_distributions_of_times() -> None:
    u = stratified_positions(1000, torch.Generator().manual_seed(0))
    assert torch.bincount(UniformSteps(10)(u)).tolist() == [100] * 10
    assert torch.bincount(GivenTimes([3, 7])(u)).nonzero().flatten().tolist() == [3, 7]
    assert GivenTimes([0.5, 2])(u).dtype == torch.float64
    assert Uniform(-1.0, 3.0)(u).mean() == pytest.approx(1.0, abs=0.004)  # strata of width 0.004
    # Quantiles of a stratified sample are exact to the strata's width, here at the quartiles
    for sample, normal in (
        (LogNormal(-1.2, 1.2)(u).log(), (-1.2, 1.2)),
        (LogitNormal(0.5, 2.0)(u).logit(), (0.5, 2.0)),
    ):
        mean, std = normal
        quarter = 0.6744898 * std
        for share, expected in ((0.25, mean - quarter), (0.5, mean), (0.75, mean + quarter)):
            assert float(sample.quantile(share)) == pytest.approx(expected, abs=0.01)
    sigmas = karras_sigmas(0.002, 80.0, 18)
    assert float(sigmas[0]) == pytest.approx(0.002)
    assert float(sigmas[-1]) == pytest.approx(80.0)
    # 18 levels, as Karras et al. take for CIFAR-10: the second largest
    assert float(sigmas[-2]) == pytest.approx((80 ** (1 / 7) - (80 ** (1 / 7) - 0.002 ** (1 / 7)) / 17) ** 7)
