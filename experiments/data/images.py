"""A split of a data set, held as uint8; how images are brought to a size, and from uint8 to the network's [-1, 1]."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from PIL import Image
from torch import Tensor

from experiments.data.roots import DataError
from flatness import arguments
from flatness.weights import derived_seed

SPLITS = ("train", "test", "all")
CHANNELS = (1, 3)
ADM_CROP = "adm-crop-2"
"""Names how images are opened and cropped; changes with it, so that caches made by another procedure are not used."""


@dataclass(frozen=True, eq=False)
class Images:
    """The images of one split, in memory or mapped from a file: the tensor is used in the same way.

    Args:
        pixels: (N, C, H, H), uint8, on the CPU, C 1 or 3. Do not write to it.
        name: of the data set.
        split: "train", "test" or "all".
        fingerprint: the identity of the source's contents, "sha256:" and 64 hexadecimal digits; the same for every
            split and size. Each data set's module says what goes into it.
        labels: (N,), int64, where the data set has classes.
        source: where the files were found, for messages.

    Raises:
        ValueError: an argument is not as above.
    """

    pixels: UInt8[Tensor, "N C H H"]
    name: str
    split: str
    fingerprint: str
    labels: Int[Tensor, " N"] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Check shape, type and device."""
        arguments.choice("split", self.split, SPLITS)
        pixels = arguments.instance("pixels", self.pixels, Tensor)
        fits = pixels.dim() == 4 and pixels.dtype == torch.uint8 and pixels.device.type == "cpu"
        if not fits or pixels.shape[1] not in CHANNELS or pixels.shape[2] != pixels.shape[3] or not pixels.numel():
            raise arguments.refuse("pixels", pixels, "a uint8 tensor (N, C, H, H) on the CPU, not empty, C 1 or 3")
        labels = self.labels
        if labels is not None and (labels.shape != pixels.shape[:1] or labels.dtype != torch.int64):
            raise arguments.refuse("labels", labels, f"an int64 tensor ({len(pixels)},), or None")

    def __len__(self) -> int:
        """N."""
        return len(self.pixels)

    @property
    def channels(self) -> int:
        """C: 3 for colours, 1 for grey."""
        return self.pixels.shape[1]

    @property
    def image_size(self) -> int:
        """H, in pixels."""
        return self.pixels.shape[2]

    def drawn(self, count: int, seed: int) -> Images:
        """So many of the images, drawn without repetition as a function of the seed; of the same fingerprint.

        A smaller number gives the first images of a larger one's.

        Raises:
            ValueError: count is not within 1, ..., N.
        """
        if not 1 <= arguments.count("count", count) <= len(self):
            raise arguments.refuse("count", count, f"a whole number from 1 to the images of {self.name}, {len(self)}")
        generator = torch.Generator().manual_seed(derived_seed("data", "subset", arguments.count("seed", seed)))
        indices = torch.randperm(len(self), generator=generator)[:count]
        labels = None if self.labels is None else self.labels[indices]
        return dataclasses.replace(self, pixels=self.gather(indices), labels=labels)

    def gather(self, indices: Int[Tensor, " n"]) -> UInt8[Tensor, "n C H H"]:
        """A copy of the images at these indices, in their order.

        Raises:
            ValueError: an index is not within 0, ..., N - 1.
        """
        fits = indices.dim() == 1 and indices.dtype == torch.int64
        if not fits or (len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < len(self)):
            raise arguments.refuse("indices", indices, f"an int64 tensor (n,) of numbers within 0 to {len(self) - 1}")
        # numpy copies on the calling thread alone; torch would start a team of threads for each thread that gathers
        return torch.from_numpy(self.pixels.numpy().take(indices.numpy(), axis=0))


def to_float(pixels: UInt8[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Pixels / 127.5 - 1: float32 in [-1, 1], on the pixels' device.

    Raises:
        ValueError: pixels is not a uint8 tensor.
    """
    if not isinstance(pixels, Tensor) or pixels.dtype != torch.uint8:
        raise arguments.refuse("pixels", pixels, "a uint8 tensor")
    return pixels.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """The nearest of the 256 levels, values beyond [-1, 1] at its ends: the inverse of `to_float`.

    Raises:
        ValueError: images is not a tensor of a floating-point type.
    """
    scaled = arguments.floating_tensor("images", images).detach().to(torch.float32).add(1.0).mul_(127.5)
    return scaled.round_().clamp_(0, 255).to(torch.uint8)


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
