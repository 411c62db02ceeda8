"""Files that are written whole or not at all, and are on the disk when the call returns; pages renewed in part."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

BESIDE = ".writing-"
"""What the name of a file that is being written begins with; a killed process leaves such a one."""


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


def write_whole(path: Path, content: str | bytes | Iterable[bytes | memoryview]) -> None:
    """Put a file in its place whole, over one that may be there, by way of a temporary one beside it.

    Args:
        path: its folder is made where it is missing.
        content: all of it, a text in UTF-8, or in pieces.

    Raises:
        OSError: the disk is full, or else; what was there before is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{BESIDE}{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)
    try:
        whole = content.encode() if isinstance(content, str) else content
        write_file(beside, [whole] if isinstance(whole, bytes) else whole)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def json_bytes(value: Any) -> bytes:
    """In UTF-8, indented."""
    return (json.dumps(value, indent=1) + "\n").encode()


def renewed(page: str, marks: tuple[str, str], content: str) -> str:
    """The page with what stands between its two marks replaced by the content.

    Raises:
        ValueError: a mark is missing.
    """
    before, opening, rest = page.partition(marks[0])
    _, closing, after = rest.partition(marks[1])
    if not opening or not closing:
        raise ValueError(f"page lacks one of the marks {marks}; allowed: a page that holds both, in this order")
    return f"{before}{opening}\n{content}\n{closing}{after}"
