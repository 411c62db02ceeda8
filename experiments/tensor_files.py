"""Files of tensors in the safetensors format, with a checksum that is held against them when they are read again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from findings.checksums import CHECKSUM, DamagedError, check_tensors, tensors_checksum
from findings.files import write_whole

CHUNK = 2**23
"""Bytes that are written at a time."""
DTYPES = {torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.uint8: "U8"}


def safetensors_chunks(
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    finite: bool = False,
    checked: bool = False,
) -> Iterator[bytes | memoryview]:
    """A safetensors file of tensors on any device, in pieces.

    The library's own writer holds Python's lock for as long as the disk takes, which would stop training.

    Args:
        tensors: by name, of dtype float32, float64, int64 or uint8.
        metadata: for the file's header.
        finite: refuse NaN and infinities.
        checked: with a checksum in the header, for which everything is gone through once more.

    Raises:
        FloatingPointError: an entry is not finite, where they have to be; raised while the pieces are taken.
    """
    # Wider types first, so that every tensor begins at a multiple of its entries' size
    names = sorted(tensors, key=lambda name: -tensors[name].element_size())
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name in names:
        end = begin + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
        begin = end
    if checked:
        marked = {**(metadata or {}), CHECKSUM: tensors_checksum(header, _data(tensors, names, finite))}
        header["__metadata__"] = marked
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    yield from _data(tensors, names, finite)


def _data(tensors: Mapping[str, Tensor], names: Sequence[str], finite: bool) -> Iterator[memoryview]:
    """The bytes of tensors, one after another."""
    for name in names:
        # numpy, as torch would start a second team of threads beside training's
        array = np.ascontiguousarray(tensors[name].detach().cpu().numpy())
        if finite and not np.isfinite(array).all():
            raise FloatingPointError(f"{name} has entries that are not finite")
        data = array.reshape(-1).view(np.uint8).data
        for place in range(0, len(data), CHUNK):
            yield data[place : place + CHUNK]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a file with its checksum, whole or not at all; the same tensors give the same bytes.

    Raises:
        OSError: the disk is full, or else.
    """
    write_whole(path, safetensors_chunks(tensors, metadata, checked=True))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, on the CPU, and its metadata; a file without a checksum is taken as it is.

    Raises:
        DamagedError: it cannot be read, is cut short, or is not what was written.
    """
    metadata = check_tensors(path)
    try:
        return load_file(path), metadata
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
