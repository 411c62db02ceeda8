"""CIFAR-10's binary files, tiny and made here, in an archive and in a folder."""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.data import DataError, Images, cifar10, load

RECORDS = 4
NAMES = tuple(cifar10.FILES)
ROWS = np.random.default_rng(0).integers(0, 256, (len(NAMES), RECORDS, 3073)).astype(np.uint8)
ROWS[..., 0] %= 10
CONTENTS = {name: rows.tobytes() for name, rows in zip(NAMES, ROWS, strict=True)}


def digests(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(held).hexdigest() for name, held in contents.items()}


def write(root: Path, contents: Mapping[str, bytes], archive: bool) -> Path:
    """The files as they are published, those of an archive in an order of their own."""
    root.mkdir(exist_ok=True)
    if not archive:
        folder = root / "cifar-10-batches-bin"
        folder.mkdir(parents=True)
        for name, held in contents.items():
            (folder / name).write_bytes(held)
        return folder
    path = root / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as opened:
        for name, held in reversed(list(contents.items())):
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(held)
            opened.addfile(entry, io.BytesIO(held))
    return path


def loaded(split: str, root: Path, size: int = 32, files: Mapping[str, str] | None = None) -> Images:
    return cifar10.load(split, size, root, files or digests(CONTENTS), RECORDS)


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize(
    ("split", "chosen"), [("train", slice(5)), ("test", slice(5, 6)), ("all", slice(6))], ids=["train", "test", "all"]
)
def test_splits_in_the_published_order(tmp_path: Path, archive: bool, split: str, chosen: slice) -> None:
    source = write(tmp_path / "cifar10", CONTENTS, archive)
    images = loaded(split, tmp_path)
    rows = ROWS[chosen].reshape(-1, 3073)
    assert torch.equal(images.pixels, torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32)))
    assert images.labels is not None
    assert images.labels.tolist() == rows[:, 0].tolist()
    assert (images.channels, images.split, images.source) == (3, split, str(source))
    there = cifar10.inspect(tmp_path, digests(CONTENTS), RECORDS)
    assert (there.images, there.fingerprint) == (24, images.fingerprint)


def test_colours_come_plane_by_plane_and_halves_are_box_means(tmp_path: Path) -> None:
    """Red, green, blue: 1024 bytes each, row by row."""
    rows = np.zeros((RECORDS, 3073), np.uint8)
    rows[0, 1 + 1024 + 32 : 1 + 1024 + 64] = 200  # green, row 1
    contents = CONTENTS | {"test_batch.bin": rows.tobytes()}
    write(tmp_path, contents, archive=False)
    image = loaded("test", tmp_path, files=digests(contents)).pixels[0]
    assert torch.equal(image.nonzero(), torch.tensor([[1, 1, column] for column in range(32)]))
    half = loaded("test", tmp_path, 16, digests(contents)).pixels[0]
    assert half[1, 0].tolist() == [100] * 16
    assert int(half.sum()) == 1600


def test_the_fingerprint_is_that_of_the_contents(tmp_path: Path) -> None:
    write(tmp_path / "a", CONTENTS, archive=True)
    write(tmp_path / "b", CONTENTS, archive=False)
    fingerprints = {loaded(split, tmp_path / root).fingerprint for split in ("train", "test") for root in ("a", "b")}
    assert len(fingerprints) == 1
    changed = digests(CONTENTS | {NAMES[0]: bytes(3073 * RECORDS)})
    assert cifar10.fingerprint(changed) not in fingerprints


SHORT = {"data_batch_3.bin": CONTENTS["data_batch_3.bin"][:-1]}
LABEL = {"data_batch_3.bin": b"\x0a" + CONTENTS["data_batch_3.bin"][1:]}
PIXEL = {"data_batch_3.bin": CONTENTS["data_batch_3.bin"][:-1] + b"\0"}


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize(
    ("changed", "message"),
    [(SHORT, "12291 bytes; expected 12292"), (LABEL, "label 10; there are classes 0 to 9"), (PIXEL, "SHA-256 ")],
    ids=["short", "label", "pixel"],
)
def test_a_file_that_is_not_the_published_one_is_named(
    tmp_path: Path, archive: bool, changed: dict[str, bytes], message: str
) -> None:
    write(tmp_path, CONTENTS | changed, archive)
    with pytest.raises(DataError, match=f"data_batch_3.bin: {message}"):
        loaded("train", tmp_path)
    loaded("test", tmp_path)


@pytest.mark.parametrize("archive", [True, False])
def test_a_missing_file_is_named(tmp_path: Path, archive: bool) -> None:
    write(tmp_path, {name: held for name, held in CONTENTS.items() if name != "data_batch_5.bin"}, archive)
    with pytest.raises(DataError, match=r"data_batch_5\.bin"):
        loaded("train", tmp_path)


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, CONTENTS, archive=True)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:-20000], b"<html>not found</html>", b""):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: not a whole tar\.gz"):
            loaded("train", tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"cifar-10-binary.tar.gz or cifar-10-batches-bin not found in {tmp_path}/cif"):
        load("cifar10", root=tmp_path)


def test_tiny_files_do_not_pass_for_the_real_ones(tmp_path: Path) -> None:
    write(tmp_path, CONTENTS, archive=False)
    with pytest.raises(DataError, match="12292 bytes; expected 30730000"):
        load("cifar10", root=tmp_path)
