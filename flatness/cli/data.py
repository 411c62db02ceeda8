"""Samples from a folder of images, an .npz or an .npy, as the network knows them.

Which samples: a random choice without replacement, a function of the seed and of how many there are. Images are
resized or cropped only when told; uint8 is scaled to [-1, 1] and floats are taken as they are.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatness.cli.errors import CommandError, MissingPackageError
from flatness.cli.options import DataOptions
from flatness.weights import derived_seed

SUFFIXES = (".png", ".jpg", ".jpeg")
CHANNELS = (1, 2, 3, 4)
ARRAYS = ("arr_0", "images", "x", "samples")
LABELS = ("labels", "arr_1", "y")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Data:
    """Samples that are not read yet.

    Attributes:
        name: of the file or folder.
        available: how many there are.
        note: what a person should know of them, or "".
    """

    name: str
    available: int
    note: str = ""

    def chosen(self, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """So many samples (count, ...), float32, and their labels (count,) where there are any.

        Raises:
            CommandError: a file cannot be read, or images are of different sizes.
        """
        raise NotImplementedError

    def indices(self, count: int, seed: int) -> list[int]:
        """Which samples are chosen."""
        generator = torch.Generator().manual_seed(derived_seed("samples", seed))
        chosen: list[int] = torch.randperm(self.available, generator=generator)[:count].tolist()
        return chosen


def found_data(options: DataOptions, shape: Shape | None) -> Data:
    """The samples that the options name.

    Args:
        options: path, size and layout.
        shape: of a sample as the network takes it; None where any will do.

    Raises:
        CommandError: there are none, they cannot be read, or they do not fit the network.
    """
    if options.data is None:
        raise CommandError("--data is missing: a folder of images, an .npz or an .npy")
    path = Path(options.data)
    if path.is_dir():
        return _folder(path, options, shape)
    if not path.is_file():
        raise CommandError(f"{path} does not exist; --data is a folder of images, an .npz or an .npy")
    if path.suffix not in (".npz", ".npy"):
        raise CommandError(f"{path} is not read; --data is a folder of images, an .npz or an .npy")
    if options.resize is not None:
        raise CommandError("--resize is for folders of images; arrays are taken at the size they have")
    return _array(path, options.layout, shape)


@dataclass(frozen=True)
class _Array(Data):
    values: np.ndarray[Any, Any] | None = None  # (N, ...), channels first
    labels: np.ndarray[Any, Any] | None = None

    def chosen(self, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
        assert self.values is not None
        indices = self.indices(count, seed)
        found = torch.from_numpy(np.ascontiguousarray(self.values[indices]))
        x = _scaled(found) if found.dtype == torch.uint8 else found.float()
        if not bool(x.isfinite().all()):
            raise CommandError(f"{self.name} has entries that are not finite")
        labels = None if self.labels is None else torch.from_numpy(self.labels[indices].astype(np.int64))
        return x, labels


def _array(path: Path, layout: str, shape: Shape | None) -> Data:
    values, labels = _read(path)
    if values.dtype != np.uint8 and not np.issubdtype(values.dtype, np.floating):
        raise CommandError(f"{path} holds {values.dtype}; allowed: uint8, or floats as the network knows them")
    if values.ndim < 2 or len(values) < 2:
        raise CommandError(f"{path} holds an array of shape {values.shape}; allowed: two samples or more, (N, ...)")
    if values.ndim == 3 and (shape is None or len(shape) == 3):
        values = values[:, None]
    if values.ndim == 4 and _channels_last(values.shape[1:], layout, shape, path):
        values = values.transpose(0, 3, 1, 2)
    if shape is not None and values.shape[1:] != shape:
        raise CommandError(f"{path} holds samples of shape {values.shape[1:]}; the network takes {shape}")
    if labels is not None and (labels.shape != values.shape[:1] or not np.issubdtype(labels.dtype, np.integer)):
        raise CommandError(f"{path} holds labels of shape {labels.shape}, {labels.dtype}; allowed: a whole number each")
    note = ""
    if values.dtype != np.uint8 and values.ndim == 4 and values.min() >= 0 and values.max() > 0:
        high = max(float(values.max()), 1.0)
        note = f"all of {path.name} lies within 0 and {high:g} and is taken as it is; most networks know -1 to 1"
    return _Array(path.name, len(values), note, values, labels)


def _read(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False), None
        with np.load(path, allow_pickle=False) as file:
            name = next((name for name in ARRAYS if name in file), None)
            if name is None:
                raise CommandError(f"{path} holds {list(file)}; allowed: one of {', '.join(ARRAYS)}")
            labels = next((file[key] for key in LABELS if key in file), None)
            return file[name], labels
    except CommandError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise CommandError(f"{path} cannot be read as an array: {error}") from error


def _channels_last(shape: Shape, layout: str, wanted: Shape | None, path: Path) -> bool:
    """Whether samples (a, b, c) are (height, width, channels)."""
    if layout != "auto":
        return layout == "nhwc"
    if wanted is not None and shape in (wanted, (*wanted[1:], wanted[0])):
        return shape != wanted
    if (shape[1] == shape[2]) != (shape[0] == shape[1]):  # squares, with the channels before or after them
        return shape[0] == shape[1]
    first, last = shape[0] in CHANNELS, shape[2] in CHANNELS
    if first == last:
        raise CommandError(f"{path} holds samples of shape {shape}: say --layout nchw or --layout nhwc")
    return last


def _scaled(pixels: Tensor) -> Tensor:
    return pixels.float() / 127.5 - 1.0


@dataclass(frozen=True)
class _Folder(Data):
    paths: Sequence[Path] = ()
    mode: str = "RGB"
    resize: int | None = None
    shape: Shape | None = None

    def chosen(self, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
        images = [_decoded(self.paths[index], self.mode, self.resize) for index in self.indices(count, seed)]
        wanted = images[0].shape if self.shape is None else torch.Size(self.shape)
        for index, image in zip(self.indices(count, seed), images, strict=True):
            if image.shape != wanted:
                height, width = image.shape[1:]
                raise CommandError(
                    f"{self.paths[index]} has {width} x {height} pixels; the network or the first image has "
                    f"{wanted[2]} x {wanted[1]}: --resize N makes squares of N pixels"
                )
        return _scaled(torch.stack(images)), None


def _folder(path: Path, options: DataOptions, shape: Shape | None) -> Data:
    _pillow()  # first, as nothing works without it
    paths = sorted(found for found in path.rglob("*") if found.suffix.lower() in SUFFIXES and found.is_file())
    if len(paths) < 2:
        raise CommandError(f"{path} holds {len(paths)} PNG or JPEG images; allowed: two or more")
    if shape is not None and (len(shape) != 3 or shape[0] not in (1, 3)):
        raise CommandError(f"{path} is a folder of images; the network takes {shape}, neither grey nor colour")
    if options.resize is not None and options.resize < 1:
        raise CommandError(f"resize is {options.resize}; allowed: at least 1")
    grey = _is_grey(paths[0]) if shape is None else shape[0] == 1
    mode = "L" if grey else "RGB"
    return _Folder(path.name, len(paths), "", paths, mode, options.resize, shape)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError("a folder of images", "Pillow", "pillow") from error
    return Image


def _opened(path: Path) -> Any:
    """The image of a file, decoded.

    Raises:
        CommandError: it cannot be read.
    """
    image = _pillow()
    try:
        with image.open(path) as file:
            file.load()
            return file.copy()
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        raise CommandError(f"{path} cannot be read as an image: {error}") from error


def _is_grey(path: Path) -> bool:
    return _opened(path).mode in ("1", "L", "I;16", "I")


def _decoded(path: Path, mode: str, resize: int | None) -> Tensor:
    """One image (C, H, W), uint8."""
    found = _opened(path).convert(mode)
    if resize is not None:
        scale = resize / min(found.size)
        size = tuple(max(resize, round(side * scale)) for side in found.size)
        found = found.resize(size, _pillow().Resampling.BICUBIC)
        left, top = ((side - resize) // 2 for side in size)
        found = found.crop((left, top, left + resize, top + resize))
    pixels = torch.from_numpy(np.array(found, dtype=np.uint8))
    return pixels[None] if mode == "L" else pixels.permute(2, 0, 1).contiguous()


def fingerprint(x: Tensor, labels: Tensor | None) -> str:
    """The SHA-256 of the chosen samples, their shape and labels."""
    digest = hashlib.sha256(f"{tuple(x.shape)}/{x.dtype}".encode())
    for part in (x, labels):
        if part is not None:
            digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()
