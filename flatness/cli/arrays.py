"""Samples in an .npz or an .npy: pixels, vectors or latents, with labels, captions or embeddings beside them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flatness.cli.errors import CommandError, out_of_memory, text_of

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
CHANNELS = (1, 2, 3, 4)
SAMPLES = ("arr_0", "images", "x", "samples", "latents")
LABELS = ("labels", "label", "arr_1", "y", "class_labels")
CAPTIONS = ("captions", "caption", "prompts", "text")
EMBEDDINGS = "_embeds"
"""The end of the names of precomputed embeddings: prompt_embeds, pooled_prompt_embeds."""
MASK = "attention_mask"
UNKNOWN = "allowed: a compressed or uncompressed file of numpy's, without pickled objects"


@dataclass(frozen=True)
class Arrays:
    """What a file holds.

    Attributes:
        values: (N, ...), the samples as they lie in the file.
        labels: (N,) or (N, d), or None.
        captions: (N,) strings, or None.
        embeddings: (N, ...) by name.
    """

    values: Array
    labels: Array | None = None
    captions: Array | None = None
    embeddings: Mapping[str, Array] = field(default_factory=dict)


def read_arrays(path: Path) -> Arrays:
    """The arrays of a file.

    Raises:
        CommandError: it cannot be read, or holds no samples under a known name.
    """
    try:
        if path.suffix.lower() == ".npy":
            return Arrays(np.lib.format.open_memmap(path, mode="r"))
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return _of_archive(path, file)
    except CommandError:
        raise
    except Exception as error:  # zlib's, zipfile's, struct's and numpy's own, for damaged files
        if out_of_memory(error):
            raise CommandError(f"{path} does not fit into memory; an .npy is read where it lies") from error
        reason = text_of(error)[:200] or type(error).__name__
        raise CommandError(f"{path} cannot be read as an array: {reason}; {UNKNOWN}") from error


def _of_archive(path: Path, file: Any) -> Arrays:
    name = next((name for name in SAMPLES if name in file), None)
    if name is None:
        raise CommandError(f"{path} holds {list(file)}; allowed: one of {', '.join(SAMPLES)}")

    def first(names: tuple[str, ...]) -> Array | None:
        return next((_member(path, file, key) for key in names if key in file), None)

    embeddings = {key: _member(path, file, key) for key in file if key.endswith(EMBEDDINGS) or key == MASK}
    return Arrays(_member(path, file, name), first(LABELS), first(CAPTIONS), embeddings)


def _member(path: Path, file: Any, key: str) -> Array:
    """An array of an archive, once its header is known to say how much there is, and that it fits.

    Raises:
        CommandError: the header says another size than the archive does, or more than this machine's memory.
        ValueError: it is no array of numpy's.
    """
    name = key if key in file.zip.namelist() else f"{key}.npy"
    size = file.zip.getinfo(name).file_size
    with file.zip.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version not in READERS:
            raise ValueError(f"{key} is in version {version} of numpy's format")
        shape, _, dtype = READERS[version](member)
        header = member.tell()
    promised = header + math.prod(shape) * dtype.itemsize
    if promised != size and not dtype.hasobject:  # objects are refused as they are read
        raise CommandError(f"{path} is damaged: {key} says that it has {promised} bytes, and there are {size}")
    if size > MEMORY:
        raise CommandError(f"{path} does not fit into memory: {key} has {size} bytes, and there are {MEMORY}")
    array: Array = file[key]
    return array


def _memory() -> int:
    """This machine's, in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not on every system
        return 2**40


MEMORY = _memory()
READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Of headers, by version; a third has only names of fields that samples have not."""


def checked_samples(path: Path, values: Array, layout: str | None, shape: Shape | None) -> Array:
    """The samples (N, ...), channels first.

    Raises:
        CommandError: they are of another kind, too few, or of a shape that the network does not take.
    """
    if values.dtype != np.uint8 and not np.issubdtype(values.dtype, np.floating):
        raise CommandError(f"{path} holds {values.dtype}; allowed: uint8, or floats as the network knows them")
    if values.ndim < 2 or len(values) < 2 or not values.size:
        raise CommandError(f"{path} holds an array of shape {values.shape}; allowed: two samples or more, (N, ...)")
    if layout is not None and values.ndim != 4:
        raise CommandError(f"--layout is for arrays (N, C, H, W) or (N, H, W, C); {path} holds one of {values.shape}")
    if values.ndim == 3 and (shape is None or len(shape) == 3):
        values = values[:, None]
    if values.ndim == 4 and _channels_last(values.shape[1:], layout, shape, path):
        values = values.transpose(0, 3, 1, 2)
    if shape is not None and values.shape[1:] != shape:
        raise CommandError(f"{path} holds samples of shape {values.shape[1:]}; the network takes {shape}")
    return values


def remark(name: str, values: Array) -> str:
    """What a person should know of the samples' range, or ""."""
    if values.ndim != 4:
        return ""
    if values.dtype == np.uint8:
        if values.max() > 1:
            return ""
        return f"all of {name} is 0 or 1 of 255 and is scaled as such; write floats from -1 to 1 for black and white"
    if not (values.min() >= 0 and values.max() > 0):
        return ""
    high = max(float(values.max()), 1.0)
    return f"all of {name} lies within 0 and {high:g} and is taken as it is; most networks know -1 to 1"


def native(values: Array) -> Array:
    """In this machine's byte order and in a type that torch has."""
    if np.issubdtype(values.dtype, np.floating) and values.dtype.itemsize > 8:
        return np.ascontiguousarray(values, dtype=np.float64)
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))


def tensor_of(values: Array) -> Tensor:
    """Samples as the network knows them, float32: uint8 scaled to [-1, 1], floats as they are."""
    tensor = torch.from_numpy(native(values))
    return scaled(tensor) if tensor.dtype == torch.uint8 else tensor.float()


def scaled(pixels: Tensor) -> Tensor:
    """Pixels of 0 to 255 in [-1, 1]."""
    return pixels.float() / 127.5 - 1.0


def checked_labels(path: Path, labels: Array, samples: int, classes: int | None) -> Tensor:
    """Labels as the network takes them: int64 (N,), or float32 (N, ...) for conditioning by numbers.

    Whole numbers are classes. Rows with a single 1 among zeros are one-hot, and become classes for a network with a
    table of them; other floats are conditioning, and refused by such a network.

    Args:
        path: for messages.
        labels: as they lie in the file.
        samples: N.
        classes: how many the network has; None where it is not known.

    Raises:
        CommandError: they are none of these.
    """
    kind = f"{path} holds labels of shape {labels.shape}, {labels.dtype}"
    numeric = labels.dtype == np.bool_ or np.issubdtype(labels.dtype, np.integer)
    numeric = numeric or np.issubdtype(labels.dtype, np.floating)
    if not numeric or labels.shape[:1] != (samples,) or not labels.size:
        raise CommandError(f"{kind}; allowed: whole numbers ({samples},), one-hot rows, or floats ({samples}, ...)")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    whole = not np.issubdtype(labels.dtype, np.floating)
    if labels.ndim == 2 and labels.shape[1] > 1 and (classes is not None or whole):
        wide = native(labels).astype(np.float64)
        if bool((((wide == 0) | (wide == 1)).all()) and (wide.sum(1) == 1).all()):
            if classes is not None and labels.shape[1] > classes:
                raise CommandError(f"{kind}: one-hot of {labels.shape[1]} classes; the network has {classes}")
            return torch.from_numpy(wide.argmax(1))
        if whole:
            raise CommandError(f"{kind}, rows that are not one-hot; allowed: whole numbers, one-hot rows or floats")
    if whole:
        if labels.ndim != 1:
            raise CommandError(f"{kind}; allowed: a whole number each, one-hot rows, or floats")
        return torch.from_numpy(native(labels).astype(np.int64))
    checked = torch.from_numpy(native(labels)).float()
    if not bool(checked.isfinite().all()):
        raise CommandError(f"{kind}, of which some are not finite")
    if classes is None:
        return checked
    if checked.dim() == 1 and bool((checked == checked.round()).all()):
        return checked.long()
    raise CommandError(f"{kind}; the network has a table of {classes} classes; allowed: whole numbers or one-hot rows")


def _channels_last(shape: Shape, layout: str | None, wanted: Shape | None, path: Path) -> bool:
    """Whether samples (a, b, c) are (height, width, channels)."""
    if layout in ("nchw", "nhwc"):
        return layout == "nhwc"
    if wanted is not None and shape in (wanted, (*wanted[1:], wanted[0])):
        return shape != wanted
    if (shape[1] == shape[2]) != (shape[0] == shape[1]):  # squares, with the channels before or after them
        return shape[0] == shape[1]
    first, last = shape[0] in CHANNELS, shape[2] in CHANNELS
    if first == last:
        raise CommandError(f"{path} holds samples of shape {shape}: say --layout nchw or --layout nhwc")
    return last
