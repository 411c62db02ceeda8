"""Exposure bias and distances where the whole chain's law is known: the exact posterior mean of Gaussian images."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.data import to_uint8
from experiments.diffusion import Process
from experiments.measures import exposure, sample_distance
from experiments.measures.subject import Subject
from experiments.measures.tasks import tasks_of
from experiments.sampling.chains import generate
from flatness import quantize_weights
from tests.experiments.measures import small_rows
from tests.experiments.measures.small_rows import OPTIONS, PixelFeatures, Readout, images, material, subject

STANDARD_ERRORS = 5.0
DATA = 0.15
"""Standard deviation of the images: a predicted x_0 reaches the clamp at 1 with 6.7 of them, so never here."""
SIZE = 4
STEPS = 20
OPTIONS_HERE = dataclasses.replace(
    OPTIONS, sampling_steps=(STEPS,), samples=(2000,), quantized_steps=(STEPS,), exposure_images=500, groups=20
)


class PosteriorMean(nn.Module):
    """The exact noise prediction for images N(0, DATA^2 I), with the small variance (v = -1).

    Args:
        bars: alpha_bar of the process.
        factor: what its prediction is multiplied by, 1 where exact.
        v: of the variance.
    """

    def __init__(self, bars: Tensor, factor: float = 1.0, v: float = -1.0) -> None:
        """One weight."""
        super().__init__()
        self.register_buffer("slope", ((1 - bars).sqrt() / (bars * DATA**2 + 1 - bars)).float())
        self.scale = nn.Parameter(torch.tensor([factor]))
        self.v = v

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Noise and v."""
        slope: Tensor = self.slope  # type: ignore[assignment]
        epsilon = self.scale * slope[t].view(-1, 1, 1, 1) * x
        return torch.cat([epsilon, torch.full_like(x, self.v)], dim=1)


def gaussian(features: Any = None, **changes: Any) -> Subject:
    process = subject(Readout()).process
    changed = {"material": material(features, count=2500, spread=DATA, size=SIZE), "batch_size": 500} | changes
    return subject(PosteriorMean(process.alphas_cumprod), OPTIONS_HERE, **changed)


def bars_at(process: Process) -> np.ndarray:
    """alpha_bar at the respaced steps, from the cosine schedule's definition."""
    at = [round(index * 999 / (STEPS - 1)) for index in range(STEPS)]
    f = [math.cos((step / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for step in range(1001)]
    betas = [min(1 - f[step + 1] / f[step], 0.999) for step in range(1000)]
    bars = np.cumprod(1 - np.array(betas))[at]
    assert bars == pytest.approx(process.alphas_cumprod.numpy()[at], rel=1e-9)
    return np.asarray(bars)


def chain(bars: np.ndarray) -> np.ndarray:
    """The variance of a pixel before each step of ancestral sampling, ascending in t; behind them the image's."""
    variance, norms = 1.0, np.zeros(STEPS)
    for index in reversed(range(STEPS)):
        norms[index] = variance
        bar, before = bars[index], bars[index - 1] if index else 1.0
        beta = 1 - bar / before
        gain = math.sqrt(bar) * DATA**2 / (bar * DATA**2 + 1 - bar)
        weight = beta * math.sqrt(before) / (1 - bar) * gain + math.sqrt(1 - beta) * (1 - before) / (1 - bar)
        variance = weight**2 * variance + (beta * (1 - before) / (1 - bar) if index else 0.0)
    return np.append(norms, variance)


def mean_norm(variance: float) -> float:
    """E|x| for N(0, variance I) over the pixels: the chi distribution's mean."""
    d = SIZE**2
    return math.sqrt(2 * variance) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))


def check_exposure(of: Subject) -> None:
    bias, bars = exposure.measured(STEPS)(of), bars_at(of.process)
    variances = chain(bars)[:-1]
    assert bias["steps"] == [round(index * 999 / (STEPS - 1)) for index in range(STEPS)]
    for index, bar in enumerate(bars):
        data = bar * DATA**2 + 1 - bar
        slope = math.sqrt(1 - bar) / data
        for name, variance in (("training", data), ("sampling", variances[index])):
            expected = slope * mean_norm(variance)
            estimate = bias[name][index]
            assert abs(estimate["value"] - expected) <= STANDARD_ERRORS * estimate["data_standard_error"], (name, index)
            assert estimate["data_standard_error"] < expected / 50  # or nothing could fail above


def test_exposure_bias_of_the_exact_posterior_mean_is_the_chains_law_at_every_step() -> None:
    check_exposure(gaussian())


def test_the_law_is_not_trivial() -> None:
    bars = bars_at(gaussian().process)
    variances = chain(bars)[:-1]
    data = bars * DATA**2 + 1 - bars
    assert np.abs(np.sqrt(variances / data) - 1).max() > 0.05  # twenty steps are too few for no gap at all


def _of_other_network(**changes: float) -> Callable[[Subject], Subject]:
    def changed(of: Subject) -> Subject:
        return dataclasses.replace(of, network=PosteriorMean(of.process.alphas_cumprod, **changes).eval())

    return changed


@pytest.mark.parametrize("changed", [_of_other_network(factor=1.1), _of_other_network(v=1.0)])
def test_exposure_bias_of_another_network_is_told_apart(changed: Callable[[Subject], Subject]) -> None:
    with pytest.raises(AssertionError):
        check_exposure(changed(gaussian()))


@pytest.mark.parametrize("name", ["variance", "clip"])
def test_exposure_bias_wired_to_another_chain_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import flatness

    original = flatness.exposure_bias
    value = {"variance": "large", "clip": 0.05}[name]
    monkeypatch.setattr(flatness, "exposure_bias", lambda *a, **k: original(*a, **{**k, name: value}))
    with pytest.raises(AssertionError):
        check_exposure(gaussian())


def check_distance(of: Subject, deviation: float) -> None:
    """Against the closed form for N(0, a I) and N(0, b I): d (sqrt(a) - sqrt(b))^2; pixels are the features."""
    distance = sample_distance.of_samples(STEPS, 2000, 32)(of)
    expected = SIZE**2 * (deviation - DATA) ** 2
    # The reference's own sampling error, of 2500 images, is of the size that the bias estimate gives for 2000
    margin = STANDARD_ERRORS * distance["standard_error"] + 2 * abs(distance["bias"])
    assert abs(distance["extrapolated"] - expected) <= margin
    assert margin < expected / 2


def test_the_distance_of_the_exact_posterior_means_samples_is_the_closed_form() -> None:
    of = gaussian(PixelFeatures())
    deviation = math.sqrt(chain(bars_at(of.process))[-1])
    check_distance(of, deviation)
    # The variance that is learned would be larger, and so the distance
    with pytest.raises(AssertionError):
        check_distance(_of_other_network(v=1.0)(of), deviation)


def test_the_floor_is_near_zero_and_below_every_row() -> None:
    of = gaussian(PixelFeatures())
    floor, row = sample_distance.floor(2000)(of), sample_distance.of_samples(STEPS, 2000, 32)(of)
    assert abs(floor["extrapolated"]) <= STANDARD_ERRORS * floor["standard_error"] + 2 * floor["bias"]
    assert floor["value"] < row["value"]


def test_distances_are_of_the_rounded_weights_and_those_come_back() -> None:
    features = PixelFeatures(16)
    of = subject(Readout(), material=material(features))
    before = [p.clone() for p in of.network.parameters()]
    at_two = sample_distance.of_samples(2, 24, 2)(of)
    assert all(torch.equal(a, b) for a, b in zip(before, of.network.parameters(), strict=True))
    twin = dataclasses.replace(of, network=quantize_weights(of.network, 2).eval())
    assert {**sample_distance.of_samples(2, 24, 32)(twin), "bits": 2} == at_two
    assert sample_distance.of_samples(2, 24, 32)(of)["value"] != at_two["value"]


def test_samples_are_those_of_the_seed_and_their_features_are_kept_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_distance, "CHUNK", 10)
    of = subject(Readout(), material=material(PixelFeatures()), work=tmp_path)
    distance = sample_distance.of_samples(2, 24, 32)(of)
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == [f"frechet-2-32-{begin:06d}.safetensors" for begin in (0, 10, 20)]
    batches = list(generate(of.network, of.process, range(24), steps=2, seed=OPTIONS.seed, shape=(1, 4, 4)))
    pixels = torch.cat([to_uint8(batch.images) for batch in batches])
    stored = torch.cat([load_file(path)["features"] for path in files])
    # Another batch size: a pixel in rounding's reach of two levels may go to the other, 2/255
    assert float((stored - PixelFeatures()(pixels)).abs().max()) <= 2 / 255 + 1e-6

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("sampled again")

    monkeypatch.setattr(sample_distance, "generate", never)
    assert sample_distance.of_samples(2, 24, 32)(of) == distance


def test_images_of_the_measures_are_held_out_ones() -> None:
    of = subject(Readout())
    held_out = {bytes(image.numpy()) for image in images("test").pixels}
    assert {bytes(image.numpy()) for image in of.real_images(8, "exposure")} <= held_out
    assert not held_out & {bytes(image.numpy()) for image in small_rows.images("train").pixels}


def test_samples_that_are_not_finite_are_no_black_images() -> None:
    network = Readout()
    with torch.no_grad():
        network.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="24 images of 24 are not finite, the first of them number 0"):
        sample_distance.of_samples(2, 24, 32)(subject(network, material=material(PixelFeatures()), batch_size=50))


def test_a_floor_is_of_images_that_the_reference_has_not_and_of_as_many_as_it_says() -> None:
    of = subject(Readout(), material=material(PixelFeatures()))
    assert sample_distance.floor(40)(of)["samples"] == 40
    with pytest.raises(ValueError, match="count is 41; allowed: at most the 40 held-out images"):
        sample_distance.floor(41)(of)
    everything = dataclasses.replace(images("train"), split="all")
    inside = dataclasses.replace(of, material=of.material._replace(reference=everything))
    with pytest.raises(ValueError, match="count is 24; allowed: at most the 0"):
        sample_distance.floor(24)(inside)
    assert not any("floor" in name for name in tasks_of(inside))
    large = dataclasses.replace(of, options=dataclasses.replace(OPTIONS, samples=(24, 50)))
    assert [name for name in tasks_of(large) if "floor" in name] == ["frechet-floor-24", "frechet-floor-40"]


def test_exposure_bias_of_more_steps_than_there_are_is_refused_not_cut_short() -> None:
    with pytest.raises(ValueError, match="1001"):
        exposure.measured(1001)(subject(Readout()))
