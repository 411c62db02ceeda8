"""How images are brought to a size: exact box means for small grey and colour sets, ADM's crop for photographs."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from experiments.data.errors import DataError
from flatness import arguments

ADM_CROP = "adm-crop-2"
"""Names how images are opened and cropped; changes with it, so that caches made by another procedure are not used."""


def box_means(pixels: UInt8[ndarray, "*n H W"], side: int = 2) -> UInt8[ndarray, "*n H/side W/side"]:
    """The mean of each box of side x side pixels, rounded to the nearest whole number, halves up.

    Raises:
        ValueError: side does not divide H and W, or is above 16, where sums would leave 16 bits.
    """
    height, width = pixels.shape[-2:]
    if not 1 <= arguments.count("side", side) <= 16 or height % side or width % side:
        raise arguments.refuse("side", side, f"a divisor of both {height} and {width}, at most 16")
    rows = pixels[..., 0::side, :].astype(np.uint16)
    for row in range(1, side):
        rows += pixels[..., row::side, :]
    sums = rows[..., 0::side].copy()
    for column in range(1, side):
        sums += rows[..., column::side]
    return ((sums + side * side // 2) // (side * side)).astype(np.uint8)


def adm_crop(image: Image.Image, size: int) -> UInt8[ndarray, "3 size size"]:
    """ADM's procedure: halve by box filter while the shorter side is at least 2 size, then bicubic, then the centre.

    Args:
        image: upright, in RGB, as `flatness.images.opened` gives it.
        size: of the square.

    Raises:
        DataError: the image's shorter side is below the size; nothing is enlarged.
    """
    if min(image.size) < size:
        raise DataError(f"it has {image.width} x {image.height} pixels, too few for size {size}")
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    # a copy: the array that Pillow exposes is read-only and has its channels last
    return np.ascontiguousarray(np.asarray(image)[top : top + size, left : left + size].transpose(2, 0, 1))
