"""How images are brought to a size: exact box means for small grey and colour sets, ADM's crop for photographs."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from experiments.data.errors import DataError

ADM_CROP = "adm-crop-2"
"""Names how images are opened and cropped; changes with it, so that caches made by another procedure are not used."""


def box_halved(pixels: UInt8[ndarray, "*n H W"]) -> UInt8[ndarray, "*n H/2 W/2"]:
    """The mean of each 2 x 2 box, rounded to the nearest whole number, halves up; H and W even."""
    wide = pixels.astype(np.uint16)
    rows = wide[..., 0::2, :] + wide[..., 1::2, :]
    return ((rows[..., 0::2] + rows[..., 1::2] + 2) // 4).astype(np.uint8)


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
