"""FFHQ: 70,000 photographs of faces, PNG files in a folder (nested or not) or in a zip file.

The published 128 x 128 thumbnails are meant; larger versions are read too, and are other data (another fingerprint).
They are halved, reduced and cropped as in `resizing.adm_crop`: 128 to 64 is one halving by box filter. The order is
that of the files' names without their folders, 00000 to 69999. The paper trains on all 70,000: that is the split
"all"; "test" is the last 1/70, the images 69000 to 69999, and "train" the others.

Fingerprint: SHA-256 of every name and size, and of 64 files spread evenly over the order; the same for a folder and
for a zip file of it.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from experiments.data.caching import Preparation, Read, load_cached, sampled
from experiments.data.images import Images
from experiments.data.roots import DataError, Found, Root, not_found, places

NAME = "ffhq"
DEFAULT_SIZE = 64
COUNT = 70_000
LARGEST = 2**24
"""Bytes of a thumbnail; they have some 30 thousand."""
FOLDER = "thumbnails128x128"


@dataclass(frozen=True)
class PngSource:
    """The PNG files of a folder or of a zip file.

    Raises:
        DataError: when used: a zip file that is none, or two files of one name.
    """

    path: Path
    name: str = NAME

    @cached_property
    def files(self) -> Mapping[str, tuple[str, int]]:
        """(Path within the source, size in bytes) by name without ending, in the order of the names."""
        files: dict[str, tuple[str, int]] = {}
        for inner, size in self._all_files():
            pure = PurePosixPath(inner)
            # what some systems add beside the files they pack
            if pure.suffix.lower() != ".png" or pure.name.startswith(".") or "__MACOSX" in pure.parts:
                continue
            if pure.stem in files:
                raise DataError(f"{self.path}: two files are called {pure.stem}: {files[pure.stem][0]} and {inner}")
            files[pure.stem] = (inner, size)
        return dict(sorted(files.items()))

    @cached_property
    def fingerprint(self) -> str:
        """As the module's head says."""
        digest = hashlib.sha256()
        for stem, (_, size) in self.files.items():
            digest.update(f"{stem} {size}\n".encode())
        with self.opened() as read:
            keys = self.keys()
            for place in sampled(len(keys)):
                digest.update(hashlib.sha256(read(keys[place])).digest())
        return f"sha256:{digest.hexdigest()}"

    def keys(self) -> Sequence[str]:
        """The names, in order."""
        return list(self.files)

    @contextmanager
    def opened(self) -> Iterator[Read]:
        """A function that returns a file's bytes by its name."""
        if self.path.is_dir():
            yield self._read_file
            return
        with self._zip() as archive:

            def read(key: str) -> bytes:
                try:
                    size = archive.getinfo(self.files[key][0]).file_size
                    if size > LARGEST:
                        raise DataError(f"{self.path}: {self.files[key][0]}: {size} bytes; allowed: {LARGEST}")
                    return archive.read(self.files[key][0])
                except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
                    raise DataError(f"{self.path}: {self.files[key][0]}: {error}") from error

            yield read

    def _read_file(self, key: str) -> bytes:
        try:
            return (self.path / self.files[key][0]).read_bytes()
        except OSError as error:
            raise DataError(f"{self.path / self.files[key][0]}: {error.strerror}") from error

    def _zip(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except zipfile.BadZipFile as error:
            raise DataError(f"{self.path}: not a whole zip file ({error})") from error

    def _all_files(self) -> Iterator[tuple[str, int]]:
        """(Path within the source, with slashes; size in bytes)."""
        if self.path.is_dir():
            for folder, _, names in os.walk(self.path):
                for name in names:
                    file = Path(folder, name)
                    yield file.relative_to(self.path).as_posix(), file.stat().st_size
            return
        with self._zip() as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    yield entry.filename, entry.file_size


def load(
    split: str, image_size: int, root: Root = None, preparation: Preparation | None = None, count: int = COUNT
) -> Images:
    """The split "train", "test" (the last 1/70) or "all", at any size up to the images' own.

    Raises:
        DataError: there is no such folder or zip file, it has another number of images, or one of them cannot be
            decoded (names the file).
        OSError: the cache cannot be written.
    """
    return load_cached(_source(root, count), count, split, image_size, preparation or Preparation())


def inspect(root: Root = None, count: int = COUNT) -> Found:
    """What is there: counted, not read in full.

    Raises:
        DataError: as `load`, except for files that cannot be decoded.
    """
    source = _source(root, count)
    checksum = "none is published for the whole; the number of files is right"
    return Found(source.path, len(source.files), checksum, source.fingerprint)


def _candidates(root: Root) -> Iterator[Path]:
    own, base = places(NAME, root)
    for folder in (own, base):
        yield folder / FOLDER
        yield folder / f"{FOLDER}.zip"
        yield folder / f"{NAME}.zip"
    yield own


def _source(root: Root, count: int) -> PngSource:
    candidates = list(_candidates(root))
    for path in candidates:
        if not path.exists():
            continue
        source = PngSource(path)
        if len(source.files) == count:
            return source
        if source.files:
            raise DataError(f"{path}: {len(source.files)} PNG files; expected {count}")
    raise not_found(NAME, "a folder or zip file of PNG files", candidates)
