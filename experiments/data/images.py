"""A split of a data set, held as uint8, and the scaling between uint8 and the network's [-1, 1]."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from flatness import arguments
from flatness.weights import derived_seed

SPLITS = ("train", "test", "all")
CHANNELS = (1, 3)


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
