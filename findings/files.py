"""Files that are written whole or not at all, and are on the disk when the call returns; pages renewed in part."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
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


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to piece by piece, which takes its place when the block ends and is removed when it raises.

    What a killed writer of the same file has left beside it is removed.

    Args:
        path: its folder is made where it is missing.

    Raises:
        OSError: the disk is full, or else; what was there before is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent, path.name)
    beside, stream = _opened_beside(path)
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _opened_beside(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file, locked for as long as it is open: what is not locked is a killed writer's."""
    while True:
        beside = path.with_name(f"{BESIDE}{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
        stream = beside.open("xb")
        with contextlib.suppress(OSError):  # a file system without locks: nothing is then taken for a leftover
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(stream.fileno()).st_nlink:  # not removed as a leftover before it was locked
            return beside, stream
        stream.close()


def remove_leftovers(folder: Path, name: str = "") -> None:
    """Remove what killed writers have left in a folder, of one file or of all; never what is being written."""
    if not folder.is_dir():
        return
    for entry in list(os.scandir(folder)):
        if not entry.name.startswith(f"{BESIDE}{name}.") and (name or not entry.name.startswith(BESIDE)):
            continue
        if not entry.is_file(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError), open(entry.path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(entry.path)


def write_whole(path: Path, content: str | bytes | Iterable[bytes | memoryview]) -> None:
    """Put a file in its place whole, over one that may be there, by way of a temporary one beside it.

    Args:
        path: its folder is made where it is missing.
        content: all of it, a text in UTF-8, or in pieces.

    Raises:
        OSError: the disk is full, or else; what was there before is intact.
    """
    whole = content.encode() if isinstance(content, str) else content
    with whole_file(path) as file:
        for chunk in [whole] if isinstance(whole, bytes) else whole:
            _put(file, chunk)


def check_out(out: Path, *, folder: bool = True) -> None:
    """Refuse a place where nothing can be written, before hours are spent on what is to stand there. Touches nothing.

    Args:
        out: a folder that may not be there yet; a finished one may be one that cannot be written to.
        folder: False for a file.

    Raises:
        ValueError: it is a file, or a folder where a file is meant, or cannot be made.
    """
    start = (out if folder else out.parent).absolute()
    there = next(path for path in (start, *start.parents) if os.path.lexists(path))
    finished = folder and there == start
    fits = there.is_dir() and (finished or os.access(there, os.W_OK | os.X_OK)) and (folder or not out.is_dir())
    if not fits:
        allowed = "a folder, or a path where one can be made" if folder else "a file that can be written"
        raise ValueError(f"out is {out}; allowed: {allowed}")


def check_regular(path: Path) -> None:
    """Refuse what is no plain file: a device or a pipe may never end.

    Raises:
        OSError: it is not there.
        ValueError: it is no regular file, nor a link to one.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError(f"{path} is no regular file")


def plain_name(name: object) -> str:
    """A name that a file says another one has, in the same folder.

    Raises:
        ValueError: it leads elsewhere, is empty, begins with a dot, or is no text.
    """
    plain = isinstance(name, str) and name.isprintable() and not name.startswith(".") and not set(name) & set("/\\:")
    if not isinstance(name, str) or not name or not plain:
        raise ValueError(f"name is {name!r}; allowed: a plain file name, without folders")
    return name


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
