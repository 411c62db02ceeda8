"""Photographs decoded once: a file of uint8 pixels, made by a pool of processes, used from memory or mapped.

The cache is an ordinary .npy file (N, 3, size, size) beside the source, or in a folder that is named. Its name carries
a digest of the source's fingerprint, the procedure and the size, so a changed source never meets an old cache. It is
written whole or not at all; of several processes that need it, one makes it and the others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray

from experiments.data.images import ADM_CROP, Images, adm_crop
from experiments.data.roots import DataError, Root
from findings.files import whole_file
from flatness import arguments
from flatness.images import ImageError, opened

Read = Callable[[str], bytes]
HELD_OUT = 70
"""One image in 70, the last ones in the order of the keys, is held out: FFHQ's last 1,000 of 70,000."""
CHUNK = 128
"""Images a task: long enough that handing it over costs little, short enough for a smooth progress bar."""
MEMORY_LIMIT = 4 * 2**30


class Source(Protocol):
    """Encoded images by key; pickled to the processes that decode."""

    @property
    def name(self) -> str:
        """The data set's."""

    @property
    def path(self) -> Path:
        """Of the file or folder."""

    @property
    def fingerprint(self) -> str:
        """As in Images."""

    def keys(self) -> Sequence[str]:
        """All keys, in the order of the images."""

    def opened(self) -> AbstractContextManager[Read]:
        """A function that returns one encoded image by its key, or raises DataError."""


@dataclass(frozen=True)
class Preparation:
    """How a cache is made and used.

    Args:
        cache: the folder for it; None: beside the source.
        workers: processes that decode; None: one for each core; 0: decode in this process.
        memory_limit: in bytes: a split up to this size is read into memory, a larger one is mapped, which ranks on one
            machine share.

    Raises:
        ValueError: an argument is not as above.
    """

    cache: Root = None
    workers: int | None = None
    memory_limit: int = MEMORY_LIMIT

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.workers is not None:
            arguments.count("workers", self.workers)
        arguments.count("memory_limit", self.memory_limit)


def load_cached(source: Source, count: int, split: str, size: int, preparation: Preparation) -> Images:
    """A split of the source's images at this size; makes the cache where there is none.

    Args:
        source: the encoded images.
        count: how many there are.
        split: "train", all but the last count // 70 (at least one); "test", those; "all".
        size: in pixels.
        preparation: how the cache is made and used.

    Raises:
        DataError: an image cannot be decoded, or the cache has another shape or is cut off.
        OSError: the cache cannot be written.
    """
    path = cache_path(source, size, preparation)
    shape = (count, 3, size, size)
    if not path.is_file():
        with _only_one(path):
            if not path.is_file():
                _make(source, path, shape, preparation)
    try:
        # copy-on-write: torch wants memory that may be written to, and the file stays as it is
        mapped = np.load(path, mmap_mode="c")
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: not a whole cache ({error}); remove it and it is made anew") from error
    if mapped.shape != shape or mapped.dtype != np.uint8:
        raise DataError(f"{path}: {mapped.dtype} {mapped.shape}; expected uint8 {shape}; remove it")
    held_out = max(1, count // HELD_OUT)
    part = mapped[{"train": slice(count - held_out), "test": slice(count - held_out, None), "all": slice(None)}[split]]
    pixels = torch.from_numpy(np.array(part) if part.nbytes <= preparation.memory_limit else part)
    return Images(pixels, source.name, split, source.fingerprint, source=str(source.path))


def cache_path(source: Source, size: int, preparation: Preparation) -> Path:
    """Where the cache is, or will be."""
    label = f"{source.fingerprint}\n{ADM_CROP}\n{size}"
    folder = source.path.parent if preparation.cache is None else Path(preparation.cache).expanduser()
    return folder / f"{source.name}-{size}-{hashlib.sha256(label.encode()).hexdigest()[:32]}.npy"


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """Held by one process at a time, also among machines that share the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(source: Source, path: Path, shape: tuple[int, ...], preparation: Preparation) -> None:
    """Decode everything into the cache. Written front to back, so a full disk is an error and not a crash."""
    keys = source.keys()
    if len(keys) != shape[0]:
        raise DataError(f"{source.path}: {len(keys)} keys; expected {shape[0]}")
    try:
        with whole_file(path) as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for pixels in _reported(source, decoded(source, keys, shape[-1], preparation.workers), len(keys)):
                file.write(pixels.tobytes())
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error  # a full disk's error names no file


def _reported(source: Source, chunks: Iterator[ndarray], total: int) -> Iterator[ndarray]:
    """The chunks, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{source.name}: decoding", total=total)
        for chunk in chunks:
            yield chunk
            bar.advance(task, len(chunk))


def decoded(source: Source, keys: Sequence[str], size: int, workers: int | None) -> Iterator[UInt8[ndarray, "n 3 H H"]]:
    """The decoded images in chunks, in the order of the keys.

    Raises:
        DataError: as `decode_all`, or a process died.
    """
    chunks = [keys[i : i + CHUNK] for i in range(0, len(keys), CHUNK)]
    number = min(len(os.sched_getaffinity(0)) if workers is None else workers, len(chunks))
    if number == 0 or len(chunks) == 1:
        with source.opened() as read:
            for chunk in chunks:
                yield decode_all(read, chunk, source.path, size)
        return
    # spawned, not forked: a fork of a process with torch's threads may hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(number, context, initializer=_begin, initargs=(source, size))
    try:
        waiting: deque[Future[ndarray]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(_work, chunk))
            if len(waiting) > 3 * number:  # bounded: a slow disk must not fill the memory with decoded images
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(f"{source.path}: a process that decodes its images died; out of memory?") from error
    finally:
        pool.shutdown(cancel_futures=True)


_STATE: dict[str, tuple[Read, Path, int]] = {}
_OPEN = ExitStack()


def _begin(source: Source, size: int) -> None:
    """In a decoding process: open the source, once."""
    _STATE["task"] = (_OPEN.enter_context(source.opened()), source.path, size)


def _work(keys: Sequence[str]) -> ndarray:
    read, path, size = _STATE["task"]
    return decode_all(read, keys, path, size)


def decode_all(read: Read, keys: Sequence[str], path: Path, size: int) -> UInt8[ndarray, "n 3 H H"]:
    """Read, decode and crop these images.

    Raises:
        DataError: one of them cannot be read or decoded, or is too small; names the source and the key.
    """
    return np.stack([_decode(read(key), f"{path}: {key}", size) for key in keys])


def _decode(encoded: bytes, label: str, size: int) -> UInt8[ndarray, "3 H H"]:
    try:
        return adm_crop(opened(encoded, "RGB").image, size)
    except (ImageError, DataError) as error:
        raise DataError(f"{label}: cannot be decoded ({error})") from error


def sampled(count: int, samples: int = 64) -> list[int]:
    """Up to 64 whole numbers spread evenly over 0, ..., count - 1, both ends among them: what fingerprints read."""
    return sorted({round(i * (count - 1) / max(samples - 1, 1)) for i in range(samples)}) if count else []
