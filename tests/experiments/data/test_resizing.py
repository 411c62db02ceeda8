"""Both ways of making images smaller, against what they should do to images of which the answer is known."""

import io

import numpy as np
import pytest
from PIL import Image

from experiments.data import DataError
from experiments.data.images import adm_crop, box_means
from flatness.images import opened


def test_box_halves_round_up() -> None:
    pixels = np.array([[[0, 1, 255, 255], [0, 1, 255, 255], [0, 0, 1, 2], [0, 1, 1, 1]]], np.uint8)
    assert box_means(pixels).tolist() == [[[1, 255], [0, 1]]]  # means 1/2, 255, 1/4, 5/4


@pytest.mark.parametrize("side", [1, 2, 4, 16])
def test_box_means_are_rounded_once(side: int) -> None:
    pixels = np.random.default_rng(side).integers(0, 256, (3, 32, 16), dtype=np.uint8)
    exact = pixels.reshape(3, 32 // side, side, 16 // side, side).astype(float).mean((2, 4))
    assert np.array_equal(box_means(pixels, side), np.floor(exact + 0.5).astype(np.uint8))
    assert box_means(np.full((1, 16, 16), 255, np.uint8), side).min() == 255  # the sum of 256 bytes fits


@pytest.mark.parametrize("side", [0, 3, 17])
def test_box_means_refuse_what_does_not_divide(side: int) -> None:
    with pytest.raises(ValueError, match="side is"):
        box_means(np.zeros((1, 32, 16), np.uint8), side)


@pytest.mark.parametrize(("side", "level"), [(64, 255), (128, 64), (256, 16)])
def test_a_bright_pixel_stays_one_pixel(side: int, level: int) -> None:
    """Box halvings touch one pixel; a bicubic step from 128 or 256 would spread it with lobes. 255/4 and 255/16."""
    pixels = np.zeros((side, side, 3), np.uint8)
    pixels[side // 2, side // 4] = 255
    cropped = adm_crop(Image.fromarray(pixels), 64)
    assert cropped.shape == (3, 64, 64)
    assert cropped[:, 32, 16].tolist() == [level] * 3
    assert np.count_nonzero(cropped) == 3


@pytest.mark.parametrize("turned", [False, True])
def test_the_crop_is_the_centre(turned: bool) -> None:
    """A linear ramp over 300 x 200 pixels is halved, reduced to 96 x 64 and cut from 16 to 80; it stays linear."""
    ramp = np.broadcast_to(np.linspace(0, 255, 300), (200, 300))
    pixels = np.rint(np.stack([ramp] * 3, axis=-1)).astype(np.uint8)
    cropped = adm_crop(Image.fromarray(pixels.swapaxes(0, 1) if turned else pixels), 64)
    cropped = cropped.swapaxes(1, 2) if turned else cropped
    expected = ((16 + np.arange(64) + 0.5) * 300 / 96 - 0.5) * 255 / 299
    # levels are rounded three times, by 1/2 at most: here, after the halving, after the bicubic step; a pixel is 2.7
    assert np.abs(cropped - expected).max() <= 1.5


def test_grey_and_palette_images_become_colours() -> None:
    grey = Image.fromarray(np.full((64, 64), 77, np.uint8))
    for image in (grey, grey.convert("P"), grey.convert("RGBA")):
        stream = io.BytesIO()
        image.save(stream, format="PNG")
        assert adm_crop(opened(stream.getvalue(), "RGB").image, 64).tolist() == np.full((3, 64, 64), 77).tolist()


def test_nothing_is_enlarged() -> None:
    with pytest.raises(DataError, match="it has 63 x 200 pixels, too few for size 64"):
        adm_crop(Image.new("RGB", (63, 200)), 64)
