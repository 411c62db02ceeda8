"""The noise of image i: the published generator's words, and normals that depend on (seed, i), step and pixel alone."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from experiments.sampling.chains import ImageNoise, philox

SHAPE = (3, 5, 5)


def noise(*indices: int, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> ImageNoise:
    """Of images."""
    return ImageNoise(seed, torch.tensor(indices), shape)


def assert_close(noise_: Tensor, expected: Tensor) -> None:
    """To a unit in float32's last place, or two: vectorised float64 functions and those for the rest of a tensor differ
    in their last digits, which rounding to float32 shows at times.
    """
    torch.testing.assert_close(noise_, expected, rtol=2.0**-22, atol=0.0)


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 " * 4, "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff " * 4, "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_words_are_the_published_known_answers(counter: str, key: str, words: str) -> None:
    """Those that come with Salmon et al.'s Random123 library for ten rounds."""
    a, b, c, d = (torch.tensor([int(word, 16)]) for word in counter.split())
    first, second = (int(word, 16) for word in key.split())
    assert [int(word) for word in philox((a, b, c, d), (first, second))] == [int(word, 16) for word in words.split()]


def test_an_image_has_its_noise_in_any_company() -> None:
    together = noise(*range(9))
    for i in (0, 3, 8):
        alone = noise(i)
        assert_close(alone.start(), together.start()[i : i + 1])
        for step in (5, 0, 99):
            assert_close(alone(step), together(step)[i : i + 1])
    turned = noise(8, 2, 5)(7)
    assert_close(turned, together(7)[[8, 2, 5]])


def test_asking_twice_gives_the_same_and_no_generator_is_touched() -> None:
    before = torch.get_rng_state()
    one = noise(1, 2)
    assert torch.equal(one(3), one(3, (2, *SHAPE)))
    assert torch.equal(torch.get_rng_state(), before)


def test_numbers_are_independent_standard_normals() -> None:
    """Of one image, over images, steps and seeds; bounds of 5 standard errors, seeds fixed."""
    drawn = {
        "an image": noise(7, shape=(3, 128, 128))(4).double().flatten(),
        "images": noise(*range(6000), shape=(1, 2, 4))(4).double().flatten(),
        "starts": noise(*range(6000), shape=(1, 2, 4)).start().double().flatten(),
        "steps": torch.cat([noise(3, shape=(1, 8, 8))(s).double().flatten() for s in range(750)]),
        "seeds": torch.cat([noise(3, seed=s, shape=(1, 8, 8))(1).double().flatten() for s in range(750)]),
        "far images": noise(*range(2**40, 2**40 + 6000), shape=(1, 2, 4))(4).double().flatten(),
    }
    for name, x in drawn.items():
        n = len(x)
        # Variances of z, z^2, z^3 and z^4 are 1, 2, 15 and 96
        for power, (moment, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
            assert abs(float((x**power).mean()) - moment) < 5 * math.sqrt(variance / n), (name, power)
        assert stats.kstest(x.numpy(), "norm").pvalue > 1e-4, name
        for lag in (1, 2, 3, 4, 8, 64):
            assert abs(float((x[lag:] * x[:-lag]).mean())) < 5 / math.sqrt(n - lag), (name, lag)
    values = list(drawn.values())[1:]
    for i, x in enumerate(values):
        for y in values[:i]:
            n = min(len(x), len(y))
            assert abs(float((x[:n] * y[:n]).mean())) < 5 / math.sqrt(n)


def test_seed_image_and_step_each_change_everything() -> None:
    base = noise(5)(2)
    others: list[Tensor] = [noise(6)(2), noise(5 + 2**32)(2), noise(5)(3), noise(5).start(), noise(5, seed=1)(2)]
    for other in others:
        # 75 pairs of normals: two are as near as 1e-3 with probability 4e-4 each
        assert float((base - other).abs().lt(1e-3).double().mean()) < 0.05


def test_sizes_that_four_does_not_divide() -> None:
    drawn = noise(1, shape=(1, 3, 3))(0)
    assert drawn.shape == (1, 1, 3, 3)
    assert_close(drawn.flatten(), noise(1, shape=(1, 4, 4))(0).flatten()[:9])


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="indices is"):
        ImageNoise(0, torch.tensor([-1]), SHAPE)
    with pytest.raises(ValueError, match="indices is"):
        ImageNoise(0, torch.tensor([1.0]), SHAPE)
    with pytest.raises(ValueError, match="seed is -1"):
        ImageNoise(-1, torch.tensor([1]), SHAPE)
    with pytest.raises(ValueError, match="shape is 0"):
        ImageNoise(0, torch.tensor([1]), (0, 2, 2))
    with pytest.raises(ValueError, match="as these images have"):
        noise(1)(0, (2, *SHAPE))
