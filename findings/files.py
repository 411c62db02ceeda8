"""Files that are written whole or not at all, and are on the disk when the call returns; tensors as safetensors.

The safetensors format is written here, because its own writer holds Python's lock for as long as the disk takes, which
would stop training; it is read with the library.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

CHUNK = 2**23
"""Bytes that are hashed and written at a time."""
BESIDE = ".writing-"
"""What the name of a file that is being written begins with; a killed process leaves such a one."""
DTYPES = {torch.float64: "F64", torch.int64: "I64", torch.float32: "F32"}


class Written(NamedTuple):
    """size: in bytes; sha256: of the contents, in hexadecimal digits."""

    size: int
    sha256: str


def _put(file: IO[bytes], chunk: bytes | memoryview) -> None:
    file.write(chunk)


def write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> Written:
    """Write a new file and wait until it is on the disk; the folder's entry is not synchronised."""
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for chunk in chunks:
            digest.update(chunk)
            _put(file, chunk)
            size += len(chunk)
        file.flush()
        os.fsync(file.fileno())
    return Written(size, digest.hexdigest())


def hash_file(path: Path) -> Written:
    """Size and hash of a file as it stands."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return Written(path.stat().st_size, digest.hexdigest())


def sync_folder(path: Path) -> None:
    """Wait until the folder's entries (names made, renamed, removed) are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, content: bytes | Iterable[bytes | memoryview]) -> None:
    """Put a file in its place whole, over one that may be there, by way of a temporary one beside it.

    Args:
        path: its folder is made where it is missing.
        content: all of it, or in pieces.

    Raises:
        OSError: the disk is full, or else; what was there before is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{BESIDE}{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        write_file(beside, [content] if isinstance(content, bytes) else content)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def json_bytes(value: Any) -> bytes:
    """In UTF-8, indented."""
    return (json.dumps(value, indent=1) + "\n").encode()


def safetensors_chunks(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, finite: bool = False
) -> Iterator[bytes | memoryview]:
    """A safetensors file of tensors on any device, in pieces.

    Args:
        tensors: by name, of dtype float32, float64 or int64.
        metadata: for the file's header.
        finite: refuse NaN and infinities.

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
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        # numpy, as torch would start a second team of threads beside training's
        array = np.ascontiguousarray(tensors[name].detach().cpu().numpy())
        if finite and not np.isfinite(array).all():
            raise FloatingPointError(f"{name} has entries that are not finite")
        data = array.reshape(-1).view(np.uint8).data
        for place in range(0, len(data), CHUNK):
            yield data[place : place + CHUNK]
