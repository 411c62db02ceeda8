"""The LMDB folder: tiny ones of the official layout, whole and broken."""

from pathlib import Path

import lmdb
import pytest
import torch

from experiments.data import DataError, Preparation, load, lsun_tower
from tests.experiments.data.made_files import encoded, level

COUNT = 6
HERE = Preparation(workers=0)


def key(number: int) -> bytes:
    return b"%040x" % (number * 0x9E3779B97F4A7C15 % 2**64)


KEYS = sorted(key(number) for number in range(COUNT))
"""LMDB's order, which is the bytes'."""
NUMBERS = [next(n for n in range(COUNT) if key(n) == k) for k in KEYS]


def write(folder: Path, values: dict[bytes, bytes]) -> Path:
    folder.mkdir(parents=True)
    with lmdb.open(str(folder), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for name, value in values.items():
            transaction.put(name, value)
    return folder / "data.mdb"


def values() -> dict[bytes, bytes]:
    """WebP as in the official files, and one JPEG; wide and tall."""
    by_key = {key(n): encoded(n, (256, 320) if n % 2 else (300, 256), "WEBP", lossless=True) for n in range(COUNT)}
    return by_key | {key(1): encoded(1, (256, 256), "JPEG", quality=100, subsampling=0)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "lsun-tower" / "tower_train_lmdb", values())


def test_images_come_in_the_order_of_their_keys(tmp_path: Path, file: Path) -> None:
    images = lsun_tower.load("all", 64, tmp_path, HERE, COUNT)
    assert images.pixels.shape == (COUNT, 3, 64, 64)
    expected = torch.tensor([level(n) for n in NUMBERS])[..., None, None].expand(COUNT, 3, 64, 64)
    # JPEG's colour transform and its inverse round once each, by 1/2 enlarged at most 1.8 times
    assert int((images.pixels.int() - expected).abs().max()) <= 2
    exact = torch.tensor([n != 1 for n in NUMBERS])
    assert torch.equal(images.pixels[exact].int(), expected[exact])


def test_the_last_share_is_held_out(tmp_path: Path, file: Path) -> None:
    every, train, test = (lsun_tower.load(s, 64, tmp_path, HERE, COUNT) for s in ("all", "train", "test"))
    assert torch.equal(train.pixels, every.pixels[:-1])
    assert torch.equal(test.pixels, every.pixels[-1:])
    assert every.fingerprint == train.fingerprint == test.fingerprint


def test_an_undecodable_entry_is_named_by_its_key(tmp_path: Path) -> None:
    broken = values()
    write(tmp_path / "tower_train_lmdb", broken | {key(4): broken[key(4)][:20]})
    with pytest.raises(DataError, match=f"tower_train_lmdb: {key(4).decode()}: cannot be decoded"):
        lsun_tower.load("train", 64, tmp_path, HERE, COUNT)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".npy", ".part")]


def test_an_image_that_is_too_small_is_named_by_its_key(tmp_path: Path) -> None:
    write(tmp_path / "tower_train_lmdb", values() | {key(2): encoded(2, (256, 63))})
    with pytest.raises(DataError, match=f"{key(2).decode()}: .*256 x 63 pixels, too few for size 64"):
        lsun_tower.load("train", 64, tmp_path, HERE, COUNT)


def test_a_file_that_is_cut_off_is_an_error_and_not_a_crash(tmp_path: Path, file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) - 8192])
    with pytest.raises(DataError, match=r"data\.mdb: \d+ bytes, at least \d+ needed: the file is cut off"):
        lsun_tower.load("train", 64, tmp_path, HERE, COUNT)
    for broken in (b"", b"<html>" * 4000):
        file.write_bytes(broken)
        with pytest.raises(DataError, match=r"data\.mdb: "):
            lsun_tower.load("train", 64, tmp_path, HERE, COUNT)


def test_another_number_of_entries_is_refused(tmp_path: Path, file: Path) -> None:
    with pytest.raises(DataError, match=r"data\.mdb: 6 entries; expected 7$"):
        lsun_tower.load("train", 64, tmp_path, HERE, COUNT + 1)
    with pytest.raises(DataError, match=r"6 entries; expected 708264$"):
        load("lsun-tower", root=tmp_path)


def test_it_is_read_where_nothing_may_be_written(tmp_path: Path, file: Path) -> None:
    """No lock file is made beside the data."""
    (file.parent / "lock.mdb").unlink()
    lsun_tower.load("train", 64, tmp_path, Preparation(cache=tmp_path / "cache", workers=0), COUNT)
    assert [path.name for path in file.parent.iterdir()] == ["data.mdb"]


def test_what_is_there(tmp_path: Path, file: Path) -> None:
    status = lsun_tower.inspect(tmp_path, COUNT)
    assert (status.path, status.images) == (file.parent, COUNT)
    assert status.fingerprint == lsun_tower.load("train", 64, tmp_path, HERE, COUNT).fingerprint
    write(tmp_path / "other" / "tower_train_lmdb", values() | {key(0): encoded(99, (256, 256), "WEBP")})
    assert lsun_tower.inspect(tmp_path / "other", COUNT).fingerprint != status.fingerprint
    with pytest.raises(DataError, match=r"lsun-tower: data\.mdb not found in .*tower_train_lmdb"):
        lsun_tower.inspect(tmp_path / "nowhere", COUNT)
