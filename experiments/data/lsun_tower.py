"""LSUN's towers: 708,264 photographs, the LMDB folder `tower_train_lmdb` as the official download gives it.

Each value is an encoded image (WebP in the official files, JPEG in some copies), the shorter side 256 pixels; it is
halved, reduced and cropped as in `resizing.adm_crop`. The order is that of the keys, which are hashes, so the held-out
split, the last 1/70 in that order, is a random one that never changes. (LSUN's own 300 validation images are too few
for a loss.)

Fingerprint: SHA-256 of the file's size, the number of entries, and 64 blocks of 64 KiB spread evenly over the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import lmdb

from experiments.data.caching import Preparation, Read, load_cached, sampled
from experiments.data.images import Images
from experiments.data.roots import DataError, Found, Root, not_found, places

NAME = "lsun-tower"
DEFAULT_SIZE = 64
FOLDER = "tower_train_lmdb"
FILE = "data.mdb"
COUNT = 708_264
BLOCK = 64 * 2**10


@dataclass(frozen=True)
class LmdbSource:
    """The images of an LMDB folder.

    Raises:
        DataError: when used: the folder holds no LMDB file, a corrupt one, or one that is cut off.
    """

    path: Path
    name: str = NAME

    @contextmanager
    def _transaction(self) -> Iterator[lmdb.Transaction]:
        """Read-only and without a lock file, so that it may lie on a disk that cannot be written to."""
        try:
            with lmdb.open(str(self.path), readonly=True, lock=False, readahead=False) as environment:
                self._check_size(environment)
                with environment.begin() as transaction:
                    yield transaction
        except lmdb.Error as error:
            raise DataError(f"{self.path / FILE}: {error}") from error

    def _check_size(self, environment: lmdb.Environment) -> None:
        """LMDB maps the file and would be killed by a signal on reading beyond its end."""
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        size = (self.path / FILE).stat().st_size
        if size < needed:
            raise DataError(f"{self.path / FILE}: {size} bytes, at least {needed} needed: the file is cut off")

    @cached_property
    def count(self) -> int:
        """Number of entries."""
        with self._transaction() as transaction:
            return int(transaction.stat()["entries"])

    @cached_property
    def fingerprint(self) -> str:
        """As the module's head says."""
        size = (self.path / FILE).stat().st_size
        digest = hashlib.sha256(f"{size} {self.count}".encode())
        with open(self.path / FILE, "rb") as file:
            for block in sampled(-(-size // BLOCK)):
                file.seek(block * BLOCK)
                digest.update(file.read(BLOCK))
        return f"sha256:{digest.hexdigest()}"

    def keys(self) -> Sequence[str]:
        """All keys, in LMDB's order, the bytes'."""
        with self._transaction() as transaction, transaction.cursor() as cursor:
            return [bytes(key).decode("latin-1") for key in cursor.iternext(values=False)]

    @contextmanager
    def opened(self) -> Iterator[Read]:
        """A function that returns a value by its key."""
        with self._transaction() as transaction:

            def read(key: str) -> bytes:
                value = transaction.get(key.encode("latin-1"))
                if value is None:
                    raise DataError(f"{self.path}: {key}: no such key")
                return bytes(value)

            yield read


def load(
    split: str, image_size: int, root: Root = None, preparation: Preparation | None = None, count: int = COUNT
) -> Images:
    """The split "train", "test" (the last 1/70) or "all", at any size up to the images' own.

    Raises:
        DataError: the LMDB file is missing, cut off or corrupt, has another number of entries, or one of them cannot
            be decoded (names the key).
        OSError: the cache cannot be written.
    """
    return load_cached(_source(root, count), count, split, image_size, preparation or Preparation())


def inspect(root: Root = None, count: int = COUNT) -> Found:
    """What is there: opened and counted, not read in full.

    Raises:
        DataError: as `load`, except for entries that cannot be decoded.
    """
    source = _source(root, count)
    checksum = "published of the archive alone, which `data` checks; the number of entries and the length are right"
    return Found(source.path, source.count, checksum, source.fingerprint)


def _source(root: Root, count: int) -> LmdbSource:
    folders = [folder / FOLDER for folder in places(NAME, root)]
    for folder in folders:
        if (folder / FILE).is_file():
            source = LmdbSource(folder)
            if source.count != count:
                raise DataError(f"{folder / FILE}: {source.count} entries; expected {count}")
            return source
    raise not_found(NAME, FILE, folders)
