"""Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28 pixels, gzipped IDX files, MIT licence.

Sizes: 28; 32, two pixels of background (value 0) on each side; 16 and 8, the mean of each box of 2 x 2 or 4 x 4 pixels
of the 32 x 32 image, rounded, halves up.

Checksums are of the contents. Debian's package holds the published files compressed again without a name and a date in
gzip's header, so the checksums of its .gz files are others; put back, the header gives the published files byte for
byte. The fingerprint is that of the four contents' checksums.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray

from experiments.data.images import Images, box_means
from experiments.data.roots import DataError, Found, Root, is_named, not_found, places
from flatness import arguments

NAME = "fashion-mnist"
DEFAULT_SIZE = 32
SIZES = (8, 16, 28, 32)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CLASSES = 10
UNSIGNED_BYTES = 0x08


@dataclass(frozen=True)
class IdxFile:
    """One of the published files: shape and SHA-256 of its contents, MD5 of the compressed file as published."""

    shape: tuple[int, ...]
    sha256: str
    published_md5: str


FILES: Mapping[str, IdxFile] = {
    "train-images-idx3-ubyte.gz": IdxFile(
        (60_000, 28, 28),
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ),
    "train-labels-idx1-ubyte.gz": IdxFile(
        (60_000,),
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "25c81989df183df01b3e8a0aad5dffbe",
    ),
    "t10k-images-idx3-ubyte.gz": IdxFile(
        (10_000, 28, 28),
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "bef4ecab320f06d8554ea6380940ec79",
    ),
    "t10k-labels-idx1-ubyte.gz": IdxFile(
        (10_000,),
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
}
PARTS = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}


def load(split: str, image_size: int, root: Root = None, files: Mapping[str, IdxFile] = FILES) -> Images:
    """The split "train", "test" or "all" (train, then test), at size 8, 16, 28 or 32.

    Raises:
        DataError: a file is missing, corrupt, or not the published one.
        ValueError: image_size is none of these.
    """
    if arguments.count("image_size", image_size) not in SIZES:
        raise arguments.refuse("image_size", image_size, f"one of {SIZES} for {NAME}")
    names = [f"{part}-{kind}-ubyte.gz" for part in PARTS[split] for kind in ("images-idx3", "labels-idx1")]
    folder = found_in(names, root)
    arrays = [read_idx(folder / name, files[name]) for name in names]
    labels = np.concatenate(arrays[1::2]).astype(np.int64)
    if labels.max() >= CLASSES:
        raise DataError(f"{folder}: label {labels.max()}; there are classes 0 to {CLASSES - 1}")
    pixels = resized(np.concatenate(arrays[0::2]), image_size)[:, None]
    return Images(
        torch.from_numpy(pixels), NAME, split, fingerprint(files), torch.from_numpy(labels), source=str(folder)
    )


def inspect(root: Root = None, files: Mapping[str, IdxFile] = FILES) -> Found:
    """What is there, read in full and checked.

    Raises:
        DataError: as `load`.
    """
    folder = found_in(list(files), root)
    read = [read_idx(folder / name, file) for name, file in files.items()]
    images = sum(len(array) for array in read if array.ndim == 3)
    return Found(folder, images, "the contents' SHA-256 are the published ones", fingerprint(files))


def found_in(names: list[str], root: Root = None) -> Path:
    """The first folder that has all of these files: below the data root, or, where none is named, Debian's.

    Raises:
        DataError: there is none.
    """
    folders = [*places(NAME, root), *([] if is_named(root) else [DEBIAN])]
    for folder in folders:
        if all((folder / name).is_file() for name in names):
            return folder
    raise not_found(NAME, " and ".join(names), folders)


def fingerprint(files: Mapping[str, IdxFile] = FILES) -> str:
    """Of the contents' known checksums; `read_idx` has held the files against them."""
    text = "\n".join(f"{name} {file.sha256}" for name, file in sorted(files.items()))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def resized(pixels: UInt8[ndarray, "N 28 28"], size: int) -> UInt8[ndarray, "N size size"]:
    """The images at size 28, 32, 16 or 8, as the module's head defines them."""
    if size == 28:
        return pixels
    return box_means(np.pad(pixels, ((0, 0), (2, 2), (2, 2))), 32 // size)


def read_idx(path: Path, expected: IdxFile) -> UInt8[ndarray, "*shape"]:
    """The array in a gzipped IDX file, held against what the file should contain.

    Raises:
        DataError: the file is no gzip file or cut off, its header does not fit what follows, or the contents are not
            the published ones.
    """
    contents = unpacked(path, 4 + 4 * len(expected.shape) + int(np.prod(expected.shape)))
    if len(contents) < 4 or contents[:2] != b"\0\0" or contents[2] != UNSIGNED_BYTES:
        raise DataError(f"{path}: the header {contents[:4].hex()!r} is not that of an IDX file of unsigned bytes")
    begin = 4 + 4 * contents[3]
    shape = tuple(int.from_bytes(contents[i : i + 4], "big") for i in range(4, begin, 4))
    size = int(np.prod(shape, dtype=object))  # whole numbers of any size: a header that lies must not overflow
    if len(contents) != begin + size:
        raise DataError(f"{path}: its header says {shape}, {size} bytes, and {len(contents) - begin} bytes follow")
    if shape != expected.shape:
        raise DataError(f"{path}: an array {shape}; expected {expected.shape}")
    digest = hashlib.sha256(contents).hexdigest()
    if digest != expected.sha256:
        raise DataError(f"{path}: contents with SHA-256 {digest}; the published ones have {expected.sha256}")
    return np.frombuffer(contents, np.uint8, offset=begin).reshape(shape).copy()


def unpacked(path: Path, size: int) -> bytes:
    """The contents of a gzip file, read no further than they should go.

    Raises:
        DataError: it is no gzip file, cut off or corrupt, or has more than so many bytes in it.
    """
    try:
        with gzip.open(path) as file:
            contents = file.read(size + 1)  # at the end of the file its own checksum is held against it
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: not a whole gzip file ({error})") from error
    if len(contents) > size:
        raise DataError(f"{path}: more than {size} bytes are packed in it; expected {size}")
    return contents
