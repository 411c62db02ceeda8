"""Fashion-MNIST at 8 x 8 as points in 64 dimensions: means of 4 x 4 boxes of the image padded to 32 x 32, in [-1, 1].

The files are the published ones, as Debian's package dataset-fashion-mnist holds them; their checksums are checked.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from toy.training_sets import Points

ROOT = Path("/usr/share/datasets/fashion-mnist")
SIDE, PADDED, BOX = 28, 32, 4
FILES = {
    "train": (
        "train-images-idx3-ubyte.gz",
        60_000,
        "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    ),
    "test": (
        "t10k-images-idx3-ubyte.gz",
        10_000,
        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    ),
}
"""Name, number of images and SHA-256 by split."""
MAGIC = 2051
"""Of IDX files of images."""


@lru_cache(maxsize=4)
def fashion_mnist(split: str, root: Path = ROOT) -> Points:
    """The images of a split as points, float32; read once.

    Args:
        split: "train" or "test".
        root: the folder with the files.

    Raises:
        ValueError: another split; a file that is missing, or is not the published one.
    """
    if split not in FILES:
        raise ValueError(f"split is {split!r}; allowed: one of {sorted(FILES)}")
    name, count, digest = FILES[split]
    try:
        packed = (root / name).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{root / name} cannot be read ({error.strerror}); allowed: a folder with Fashion-MNIST's files, such as "
            "Debian's package dataset-fashion-mnist installs"
        ) from error
    sha256 = hashlib.sha256(packed).hexdigest()
    if sha256 != digest:
        raise ValueError(f"{root / name} has the SHA-256 {sha256}; allowed: that of the published file, {digest}")
    return Points(boxes(unpacked(gzip.decompress(packed), count)))


def unpacked(contents: bytes, count: int) -> Tensor:
    """The images (count, 28, 28), uint8, of an IDX file.

    Raises:
        ValueError: another kind, number or size.
    """
    header = struct.unpack(">4i", contents[:16]) if len(contents) >= 16 else ()
    expected = (MAGIC, count, SIDE, SIDE)
    if header != expected or len(contents) != 16 + count * SIDE * SIDE:
        raise ValueError(f"contents begin with {header} and are {len(contents)} bytes; allowed: {expected} and images")
    return torch.from_numpy(np.frombuffer(contents, np.uint8, offset=16).copy()).view(count, SIDE, SIDE)


def boxes(images: Tensor) -> Float[Tensor, "N 64"]:
    """Means of 4 x 4 boxes of images (N, 28, 28) padded with zeros to 32 x 32, scaled from [0, 255] to [-1, 1]."""
    edge = (PADDED - SIDE) // 2
    padded = torch.nn.functional.pad(images.float(), (edge, edge, edge, edge))
    side = PADDED // BOX
    means = padded.view(-1, side, BOX, side, BOX).mean((2, 4)).flatten(1)
    return means / 127.5 - 1.0
