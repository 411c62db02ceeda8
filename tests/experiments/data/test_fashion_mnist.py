"""Gzipped IDX files: tiny ones made here, broken in every way, and the real ones."""

import gzip
import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.data import DataError, fashion_mnist, load
from experiments.data.fashion_mnist import FILES, IdxFile
from tests.experiments.data.made_files import as_published

SHA256 = hashlib.sha256
COUNTS = {"train": 6, "t10k": 3}


def idx(array: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    by_split = {}
    for part, count in COUNTS.items():
        by_split[f"{part}-images-idx3-ubyte.gz"] = generator.integers(0, 256, (count, 28, 28))
        by_split[f"{part}-labels-idx1-ubyte.gz"] = np.arange(count)
    return by_split


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root with tiny files; nothing at Debian's place."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nothing")
    own = tmp_path / "data" / "fashion-mnist"
    own.mkdir(parents=True)
    for name, array in arrays().items():
        (own / name).write_bytes(gzip.compress(idx(array)))
    return own


def expected(changed: dict[str, np.ndarray] | None = None) -> dict[str, IdxFile]:
    return {
        name: IdxFile(array.shape, SHA256(idx(array)).hexdigest(), "") for name, array in (changed or arrays()).items()
    }


@pytest.mark.parametrize(("split", "parts"), [("train", ["train"]), ("test", ["t10k"]), ("all", ["train", "t10k"])])
def test_splits(folder: Path, split: str, parts: list[str]) -> None:
    images = fashion_mnist.load(split, 28, files=expected())
    pixels = np.concatenate([arrays()[f"{part}-images-idx3-ubyte.gz"] for part in parts])
    assert torch.equal(images.pixels[:, 0], torch.from_numpy(pixels).to(torch.uint8))
    assert images.labels is not None
    assert images.labels.tolist() == [label for part in parts for label in range(COUNTS[part])]
    assert (images.name, images.split, images.channels, images.source) == (
        "fashion-mnist",
        split,
        1,
        "data/fashion-mnist",
    )
    assert images.fingerprint == fashion_mnist.fingerprint(expected())


def test_sizes(folder: Path) -> None:
    pixels = fashion_mnist.load("train", 28, files=expected()).pixels
    padded = fashion_mnist.load("train", 32, files=expected()).pixels
    assert torch.equal(padded[..., 2:30, 2:30], pixels)
    assert int(padded.sum()) == int(pixels.sum())  # the border is background
    for size in (16, 8):
        reduced = fashion_mnist.load("train", size, files=expected()).pixels
        means = torch.nn.functional.avg_pool2d(padded.double(), 32 // size)
        assert torch.equal(reduced, (means + 0.5).floor().to(torch.uint8))


def test_the_fingerprint_is_the_contents_not_the_container_s(folder: Path) -> None:
    before = fashion_mnist.load("train", 28, files=expected())
    for name, array in arrays().items():
        (folder / name).write_bytes(gzip.compress(idx(array), compresslevel=1))
    assert fashion_mnist.load("test", 16, files=expected()).fingerprint == before.fingerprint
    other = arrays()
    other["t10k-labels-idx1-ubyte.gz"][0] += 1
    assert fashion_mnist.fingerprint(expected(other)) != before.fingerprint


IMAGES = "train-images-idx3-ubyte.gz"
WHOLE = idx(arrays()[IMAGES])
BROKEN = {
    "another type": (gzip.compress(b"\0\0\x0d" + WHOLE[3:]), "header '00000d03'"),
    "no idx": (gzip.compress(b"<html>"), "header '3c68746d'"),
    "empty": (gzip.compress(b""), "header ''"),
    "header alone": (gzip.compress(WHOLE[:6]), "bytes follow"),
    "short": (gzip.compress(WHOLE[:-1]), "4704 bytes, and 4703 bytes follow"),
    "long": (gzip.compress(WHOLE + b"\0"), "more than 4720 bytes are packed in it"),
    "a header that promises more": (gzip.compress(WHOLE[:4] + b"\0\0\0\7" + WHOLE[8:]), "5488 bytes, and 4704"),
    "an enormous header": (gzip.compress(WHOLE[:4] + b"\xff" * 12 + WHOLE[16:]), "and 4704 bytes follow"),
    "other dimensions": (gzip.compress(idx(arrays()[IMAGES].reshape(6, 784))), r"array \(6, 784\); expected \(6, 28"),
    "other pixels": (gzip.compress(WHOLE[:-1] + bytes([WHOLE[-1] ^ 1])), "SHA-256"),
    "no gzip": (WHOLE, "not a whole gzip file"),
    "cut off": (gzip.compress(WHOLE)[:-300], "not a whole gzip file"),
    "corrupt": (gzip.compress(WHOLE)[:500] + b"\xff" * 8 + gzip.compress(WHOLE)[508:], "not a whole gzip file"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_refused_by_name(folder: Path, how: str) -> None:
    contents, message = BROKEN[how]
    (folder / IMAGES).write_bytes(contents)
    with pytest.raises(DataError, match=f"{IMAGES}: .*{message}"):
        fashion_mnist.load("train", 28, files=expected())


def test_a_class_that_does_not_exist_is_refused(folder: Path) -> None:
    changed = arrays()
    changed["train-labels-idx1-ubyte.gz"][2] = 10
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(changed["train-labels-idx1-ubyte.gz"])))
    with pytest.raises(DataError, match="label 10; there are classes 0 to 9"):
        fashion_mnist.load("train", 28, files=expected(changed))


def test_where_files_are_looked_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tmp_path / "named"
    folder.rename(named)
    with pytest.raises(DataError, match=r"data/fashion-mnist, data, .*nothing; `python -m experiments data fashion-mn"):
        load("fashion-mnist")
    assert fashion_mnist.load("test", 28, str(named), expected()).source == str(named)
    monkeypatch.setenv("FLATNESS_DATA", str(named))
    assert fashion_mnist.load("test", 28, files=expected()).source == str(named)
    monkeypatch.delenv("FLATNESS_DATA")
    monkeypatch.setattr(fashion_mnist, "DEBIAN", named)
    assert fashion_mnist.load("test", 28, files=expected()).source == str(named)


def test_a_named_folder_that_lacks_the_files_is_an_error_though_another_copy_is_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", folder)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(DataError, match=rf"not found in {other}/fashion-mnist, {other}; "):
        load("fashion-mnist", root=other)
    monkeypatch.setenv("FLATNESS_DATA", str(other))
    with pytest.raises(DataError, match=rf"not found in {other}/fashion-mnist, {other}; "):
        load("fashion-mnist")
    with pytest.raises(DataError, match=rf"not found in {other}"):
        fashion_mnist.inspect()


def test_tiny_files_do_not_pass_for_the_real_ones(folder: Path) -> None:
    with pytest.raises(DataError, match=r"array \(6, 28, 28\); expected \(60000, 28, 28\)"):
        load("fashion-mnist")


def test_the_real_images(real_fashion_mnist: Path) -> None:
    train, test = load("fashion-mnist"), load("fashion-mnist", "test", 16)
    assert (len(train), train.image_size, train.channels) == (60_000, 32, 1)
    assert (len(test), test.image_size) == (10_000, 16)
    for images, each in ((train, 6000), (test, 1000)):
        assert images.labels is not None
        assert images.labels.bincount().tolist() == [each] * 10
    assert fashion_mnist.inspect().images == 70_000


@pytest.mark.parametrize("name", FILES)
def test_debian_s_files_are_the_published_ones_but_for_gzip_s_header(real_fashion_mnist: Path, name: str) -> None:
    digest = hashlib.md5(as_published(real_fashion_mnist, name), usedforsecurity=False).hexdigest()
    assert digest == FILES[name].published_md5


def test_a_named_folder_that_is_not_there_is_an_error_though_another_copy_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, real_fashion_mnist: Path
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", real_fashion_mnist)
    with pytest.raises(DataError, match=r"data root is .*nowhere, which is no folder"):
        load("fashion-mnist", "test", 8, tmp_path / "nowhere")
    assert len(load("fashion-mnist", "test", 8)) == 10_000
    monkeypatch.setenv("FLATNESS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="no folder"):
        load("fashion-mnist", "test", 8)


def test_a_bomb_is_read_no_further_than_the_file_should_go(tmp_path: Path) -> None:
    """A thousandfold of zeros behind a header that is right: refused after one byte too many, in little memory."""
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(64):
            file.write(bytes(2**20))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more than 1000 bytes are packed in it"):
            fashion_mnist.unpacked(path, 1000)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
