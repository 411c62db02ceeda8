"""The tolerated gap where it is known: networks whose residual can be written down."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from experiments.data import Images
from experiments.measures import noise_tolerance
from experiments.measures.noise_tolerance import LAWS, Law, divergence_of, images_at, measured_tolerance
from experiments.measures.subject import Material, Subject
from tests.experiments.measures.small_rows import FINGERPRINT, material, subject

T = 300
LEVELS = (0.02, 0.3, 4.0)
ROUNDING = 1e-4
"""Float32's 6e-8, over the smallest rise's share of the loss, some 1e-3."""


class Zero(nn.Module):
    """Predicts no noise."""

    def __init__(self) -> None:
        """With a weight, so that it has a device."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Zeros."""
        return torch.cat([0.0 * self.weight * x] * 2, dim=1)


class Exact(Zero):
    """Predicts the noise of a grey image, whose x_0 is known: the exact score."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t over its noise's deviation, less the image."""
        bars = self.bars.to(t.device)[t].view(-1, 1, 1, 1)
        predicted = ((x - bars.sqrt() * GREY) / (1 - bars).sqrt()).to(x)
        return torch.cat([predicted, predicted], dim=1)

    bars: Tensor


GREY = 1 / 127.5 * 128 - 1


def grey() -> Material:
    pixels = torch.full((8, 1, 4, 4), 128, dtype=torch.uint8)
    images = Images(pixels, "fashion-mnist", "test", FINGERPRINT)
    return Material(images, images, None)


@pytest.mark.parametrize("u", [0.0, 0.3, -0.02])
@pytest.mark.parametrize("a", [0.0, 1e-4, 0.4, -0.3])
def test_the_divergence_is_that_of_normal_laws(u: float, a: float) -> None:
    one = kl_divergence(
        Normal(torch.zeros((), dtype=torch.float64), 1.0),
        Normal(torch.tensor(u, dtype=torch.float64), torch.tensor(1 + a, dtype=torch.float64)),
    )
    assert divergence_of(u, a, 12) == pytest.approx(12 * float(one), rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("level", [1e-3, 0.5, 40.0])
def test_laws_have_the_divergence_that_is_asked_for(law: Law, level: float) -> None:
    u, a = law.moments(level, 16)
    assert divergence_of(u, a, 16) == pytest.approx(level, rel=1e-9)
    assert (u == 0.0) == (law.kind == "scale")
    assert (u + a > 0) == (law.sign > 0)
    assert law.moments(0.0, 16) == (0.0, 0.0)


def check_zero(of: Subject) -> None:
    """r = -eps: the loss is |eps'|^2 of the moved noise, whatever the images are."""
    tolerance = measured_tolerance(of, T, 8, LEVELS)
    _, noise, _ = images_at(of, T, 8)
    eps = noise.flatten(1).double()
    assert tolerance["dimension"] == eps.shape[1] == 16
    assert tolerance["loss"]["value"] == pytest.approx(float(eps.square().sum(1).mean()), rel=1e-6)
    for law in LAWS:
        entry = tolerance["laws"][law.name]
        for u, a, rise, level in zip(entry["u"], entry["a"], entry["rises"], LEVELS, strict=True):
            assert divergence_of(u, a, 16) == pytest.approx(level)
            expected = (u + (1 + a) * eps).square().sum(1) - eps.square().sum(1)
            assert rise["by_image"] == pytest.approx(expected.tolist(), rel=ROUNDING, abs=ROUNDING)
    moments = tolerance["moments"]
    assert moments["re"] == pytest.approx((-eps.square().sum(1)).tolist(), rel=1e-5)
    assert moments["r1"] == pytest.approx((-eps.sum(1)).tolist(), rel=1e-5, abs=1e-5)
    assert moments["e1"] == pytest.approx(eps.sum(1).tolist(), rel=1e-5, abs=1e-5)


def test_a_network_that_predicts_nothing_rises_as_the_noise_does() -> None:
    check_zero(subject(Zero(), material=material()))


@pytest.mark.parametrize(
    "mutant", [lambda u, a: (0.0, 0.0), lambda u, a: (-u, a), lambda u, a: (u, -a), lambda u, a: (2 * u, 2 * a)]
)
def test_mutants_of_the_law_are_found(mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    right = noise_tolerance.batches_at
    monkeypatch.setattr(noise_tolerance, "batches_at", lambda s, t, n, u=0.0, a=0.0: right(s, t, n, *mutant(u, a)))
    with pytest.raises(AssertionError):
        check_zero(subject(Zero()))


def test_the_exact_score_is_indifferent_to_the_law_of_the_noise() -> None:
    network = Exact()
    of = subject(network, material=grey())
    network.bars = of.process.alphas_cumprod
    tolerance = measured_tolerance(of, T, 8, LEVELS)
    assert tolerance["loss"]["value"] < 1e-8
    for entry in tolerance["laws"].values():
        assert all(abs(rise["value"]) < 1e-8 for rise in entry["rises"])


def test_images_and_noise_are_the_same_for_every_network_and_others_at_another_step_or_seed() -> None:
    one, other = subject(Zero()), subject(Zero(), batch_size=3)
    assert all(torch.equal(a, b) for a, b in zip(images_at(one, T, 8), images_at(other, T, 8), strict=True))
    assert not torch.equal(images_at(one, T, 8)[1], images_at(one, T + 1, 8)[1])
    seeded = subject(Zero(), dataclasses.replace(one.options, seed=1))
    assert not torch.equal(images_at(one, T, 8)[1], images_at(seeded, T, 8)[1])


def test_a_step_beyond_the_process_is_refused() -> None:
    with pytest.raises(ValueError, match="t is 1000; allowed: a step of the process, 0 to 999"):
        images_at(subject(Zero()), 1000, 8)
