"""CIFAR-10, the binary version: 50,000 + 10,000 colour images of 32 x 32 pixels in ten classes.

Read from the published archive as it is, or from the folder it unpacks to. A file holds 10,000 records of a label byte
and 3,072 bytes of pixels (red, green, blue, each row by row), 30,730,000 bytes. Sizes: 32; 16, the mean of each 2 x 2
box, rounded, halves up. Every file that is read is held against its SHA-256; the fingerprint is that of those
checksums. (The "python version" of the same data is a pickle, which could run anything; it is not read.)
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from experiments.data.images import Images, box_means
from experiments.data.roots import DataError, Found, Root, not_found, places
from findings.files import check_regular
from flatness import arguments

NAME = "cifar10"
DEFAULT_SIZE = 32
SIZES = (16, 32)
CLASSES = 10
RECORD = 1 + 3 * 32 * 32
"""Bytes."""
RECORDS = 10_000
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
FILES: Mapping[str, str] = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""SHA-256 of each file."""
TEST = "test_batch.bin"


def load(
    split: str, image_size: int, root: Root = None, files: Mapping[str, str] = FILES, records: int = RECORDS
) -> Images:
    """The split "train", "test" or "all" (train, then test), at size 32 or 16.

    Args:
        split: which images.
        image_size: in pixels.
        root: the data root.
        files: SHA-256 by name, in the order of the images.
        records: images a file.

    Raises:
        DataError: the files are missing, short, corrupt, or not the published ones.
        ValueError: image_size is none of these.
    """
    if arguments.count("image_size", image_size) not in SIZES:
        raise arguments.refuse("image_size", image_size, f"one of {SIZES} for {NAME}")
    source = found_in(root)
    chosen = {name: sha for name, sha in files.items() if split == "all" or (name == TEST) == (split == "test")}
    # filled in place: the training images are 154 MB, and two copies of them help nobody
    pixels = np.empty((len(chosen) * records, 3, 32, 32), np.uint8)
    labels = np.empty(len(chosen) * records, np.int64)
    for place, (name, contents) in enumerate(read(source, chosen, records * RECORD)):
        rows = checked(f"{source}: {name}", contents, chosen[name], records)
        here = slice(place * records, (place + 1) * records)
        labels[here], pixels[here] = rows[:, 0], rows[:, 1:].reshape(-1, 3, 32, 32)
    if image_size == 16:
        pixels = box_means(pixels)
    return Images(
        torch.from_numpy(pixels), NAME, split, fingerprint(files), torch.from_numpy(labels), source=str(source)
    )


def inspect(root: Root = None, files: Mapping[str, str] = FILES, records: int = RECORDS) -> Found:
    """What is there, read in full and checked.

    Raises:
        DataError: as `load`.
    """
    source = found_in(root)
    for name, contents in read(source, files, records * RECORD):
        checked(f"{source}: {name}", contents, files[name], records)
    checksum = "the six files' SHA-256 are the published ones"
    return Found(source, len(files) * records, checksum, fingerprint(files))


def found_in(root: Root = None) -> Path:
    """The archive, or else the unpacked folder, below the data root.

    Raises:
        DataError: there is neither.
    """
    folders = places(NAME, root)
    for folder in folders:
        if (folder / ARCHIVE).is_file():
            return folder / ARCHIVE
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
    raise not_found(NAME, f"{ARCHIVE} or {FOLDER}", folders)


def fingerprint(files: Mapping[str, str] = FILES) -> str:
    """Of the files' known checksums; `checked` has held them against the contents."""
    text = "\n".join(f"{name} {sha}" for name, sha in sorted(files.items()))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def read(source: Path, names: Mapping[str, str], size: int) -> Iterator[tuple[str, bytes]]:
    """(name, contents) of these files, in the order of the names, whatever their order in the archive.

    Args:
        source: the archive, or the folder it unpacks to.
        names: of the files.
        size: in bytes, of each: nothing longer is read.

    Raises:
        DataError: one is missing or has another size, or the archive is cut off or corrupt.
    """
    if source.is_dir():
        for name in names:
            try:
                check_regular(source / name)
                check_size(f"{source / name}", (source / name).stat().st_size, size)
                yield name, (source / name).read_bytes()
            except FileNotFoundError:
                raise DataError(f"{source / name}: missing") from None
            except ValueError as error:
                raise DataError(str(error)) from error
        return
    try:
        with tarfile.open(source, "r:gz") as archive:
            for name in names:
                entry = archive.getmember(f"{FOLDER}/{name}")
                member = archive.extractfile(entry) if entry.isreg() else None
                if member is None:
                    raise DataError(f"{source}: {FOLDER}/{name} is not a file")
                check_size(f"{source}: {name}", entry.size, size)
                yield name, member.read()
    except KeyError as error:
        raise DataError(f"{source}: it has no {FOLDER}/{name}") from error
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{source}: not a whole tar.gz archive ({error})") from error


def check_size(label: str, size: int, expected: int) -> None:
    """Refuse a file of another size.

    Raises:
        DataError: it has one.
    """
    if size != expected:
        raise DataError(f"{label}: {size} bytes; expected {expected}")


def checked(label: str, contents: bytes, sha256: str, records: int) -> np.ndarray:
    """The records of one file, (records, 3073).

    Raises:
        DataError: another size, labels that do not exist, or another checksum.
    """
    check_size(label, len(contents), records * RECORD)
    rows = np.frombuffer(contents, np.uint8).reshape(records, RECORD)
    if rows[:, 0].max() >= CLASSES:
        raise DataError(f"{label}: label {rows[:, 0].max()}; there are classes 0 to {CLASSES - 1}")
    digest = hashlib.sha256(contents).hexdigest()
    if digest != sha256:
        raise DataError(f"{label}: SHA-256 {digest}; the published one is {sha256}")
    return rows
