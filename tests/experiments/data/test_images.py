"""A split of images, and the scaling to the network's range and back."""

from typing import Any

import pytest
import torch

from experiments.data import Images, load, to_float, to_uint8

PIXELS = torch.arange(4 * 3 * 2 * 2, dtype=torch.uint8).view(4, 3, 2, 2)


def images(**changed: Any) -> Images:
    usual: dict[str, Any] = {"pixels": PIXELS, "name": "cifar10", "split": "train", "fingerprint": "sha256:0"}
    return Images(**(usual | changed))


def test_what_they_tell_of_themselves() -> None:
    some = images()
    assert (len(some), some.channels, some.image_size) == (4, 3, 2)
    assert images(pixels=PIXELS[:, :1]).channels == 1


def test_gather_copies_the_images_in_the_order_of_the_indices() -> None:
    gathered = images().gather(torch.tensor([3, 0, 3]))
    assert torch.equal(gathered, torch.stack([PIXELS[3], PIXELS[0], PIXELS[3]]))
    gathered.zero_()
    assert PIXELS.sum() == sum(range(48))


@pytest.mark.parametrize("indices", [[4], [-1], [0.0], [[0]]])
def test_gather_refuses_indices_that_are_none(indices: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"indices is .*allowed: an int64"):
        images().gather(torch.tensor(indices))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("split", "validation"),
        ("pixels", PIXELS.float()),
        ("pixels", PIXELS[:, :2]),
        ("pixels", PIXELS[..., :1]),
        ("pixels", PIXELS[:0]),
        ("pixels", PIXELS[0]),
        ("labels", torch.zeros(3, dtype=torch.int64)),
        ("labels", torch.zeros(4)),
    ],
)
def test_arguments_are_checked(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name} is .*allowed: "):
        images(**{name: value})


def test_the_scaling_reaches_both_ends_and_its_inverse_gives_every_level_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    scaled = to_float(levels)
    assert scaled.dtype == torch.float32
    assert scaled[[0, 255]].tolist() == [-1, 1]
    # a division, then a subtraction of numbers up to 2: an error of at most 2^-23 in all
    assert torch.allclose(scaled.double(), levels.double() / 127.5 - 1, rtol=0, atol=2**-23)
    assert torch.equal(to_uint8(scaled), levels)
    assert torch.equal(to_uint8(scaled + 0.49 / 127.5), levels)
    assert to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


def test_the_scaling_refuses_other_types() -> None:
    with pytest.raises(ValueError, match="pixels is"):
        to_float(torch.zeros(3))
    with pytest.raises(ValueError, match="images is"):
        to_uint8(PIXELS)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {}, "name is 'mnist'; allowed: one of 'cifar10'"),
        ("cifar10", {"split": "valid"}, "split is 'valid'"),
        ("cifar10", {"image_size": 0}, "image_size is 0"),
        ("cifar10", {"image_size": 33}, r"image_size is 33; allowed: one of \(16, 32\)"),
        ("fashion-mnist", {"image_size": 64}, r"image_size is 64; allowed: one of \(8, 16, 28, 32\)"),
    ],
)
def test_load_checks_its_arguments_before_it_looks_for_files(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(name, **options)
