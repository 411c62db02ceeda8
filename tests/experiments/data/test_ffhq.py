"""PNG files in folders and zip files, whole and broken."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from experiments.data import DataError, Images, Preparation, ffhq, load
from tests.experiments.data.made_files import encoded, level

COUNT = 8
FILES = {f"{n // 3 * 1000:05d}/{n:05d}.png": encoded(n) for n in range(COUNT)}
"""In folders of three, as the published ones are in folders of a thousand."""
CLUTTER = {"LICENSE.txt": b"...", "__MACOSX/00000/00001.png": b"...", "00000/._00001.png": b"..."}


def write(path: Path, files: Mapping[str, bytes]) -> Path:
    """A zip file or a folder, by the path's ending; the last files first."""
    if path.suffix == ".zip":
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for name, held in reversed(list(files.items())):
                archive.writestr(f"thumbnails128x128/{name}", held)
        return path
    for name, held in reversed(list(files.items())):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(held)
    return path


def loaded(root: Path, split: str = "all", count: int = COUNT) -> Images:
    return ffhq.load(split, 64, root, Preparation(workers=0), count)


PLACES = (
    "ffhq/thumbnails128x128",
    "ffhq/thumbnails128x128.zip",
    "ffhq",
    "ffhq.zip",
    "thumbnails128x128",
    "thumbnails128x128.zip",
)


@pytest.mark.parametrize("place", PLACES)
def test_folders_and_zip_files_hold_the_same_images(tmp_path: Path, place: str) -> None:
    path = write(tmp_path / place, FILES | CLUTTER)
    images = loaded(tmp_path)
    expected = torch.tensor([level(n) for n in range(COUNT)], dtype=torch.uint8)[..., None, None]
    assert torch.equal(images.pixels, expected.expand(COUNT, 3, 64, 64))
    assert images.source == str(path)
    assert images.fingerprint == ffhq.PngSource(write(tmp_path / "other" / "flat.zip", FILES)).fingerprint
    there = ffhq.inspect(tmp_path, COUNT)
    assert (there.path, there.images, there.fingerprint) == (path, COUNT, images.fingerprint)


def test_the_paper_s_split_is_all_and_the_last_are_held_out(tmp_path: Path) -> None:
    write(tmp_path / "ffhq", FILES)
    every = loaded(tmp_path)
    assert len(every) == COUNT
    assert torch.equal(loaded(tmp_path, "train").pixels, every.pixels[:-1])
    assert torch.equal(loaded(tmp_path, "test").pixels, every.pixels[-1:])


@pytest.mark.parametrize("place", ["ffhq", "ffhq.zip"])
@pytest.mark.parametrize("broken", [FILES["00000/00001.png"][:90], b"<html>", b""], ids=["cut off", "html", "empty"])
def test_a_broken_png_is_named(tmp_path: Path, place: str, broken: bytes) -> None:
    write(tmp_path / place, FILES | {"00000/00001.png": broken})
    with pytest.raises(DataError, match=f"{place}: 00001: cannot be decoded"):
        loaded(tmp_path)
    assert not list(tmp_path.rglob("*.npy"))
    assert not list(tmp_path.rglob("*.part"))


def test_a_zip_file_with_a_flipped_bit_or_a_lost_end_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "ffhq.zip", FILES)
    whole = path.read_bytes()
    at = whole.index(FILES["00000/00001.png"]) + 60
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(DataError, match=r"ffhq\.zip: thumbnails128x128/00000/00001\.png: Bad CRC-32"):
        loaded(tmp_path)
    path.write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"ffhq\.zip: not a whole zip file"):
        loaded(tmp_path)


def test_another_number_of_files_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "ffhq", FILES)
    with pytest.raises(DataError, match="ffhq: 8 PNG files; expected 9"):
        loaded(tmp_path, count=9)
    with pytest.raises(DataError, match="ffhq: 8 PNG files; expected 70000"):
        load("ffhq", root=tmp_path)
    (path / "copy").mkdir()
    (path / "copy" / "00001.png").write_bytes(FILES["00000/00001.png"])
    with pytest.raises(DataError, match="two files are called 00001"):
        loaded(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ffhq: a folder or zip file of PNG files not found in .*128x128\.zip"):
        loaded(tmp_path)


def test_the_fingerprint_changes_with_names_sizes_and_contents(tmp_path: Path) -> None:
    first = FILES["00000/00001.png"]
    changed = [
        FILES,
        {(name if n else "00000/99999.png"): held for n, (name, held) in enumerate(FILES.items())},
        FILES | {"00000/00001.png": first + b"\0"},
        FILES | {"00000/00001.png": first[:-1] + b"\0"},
    ]
    fingerprints = {ffhq.PngSource(write(tmp_path / f"{i}.zip", files)).fingerprint for i, files in enumerate(changed)}
    assert len(fingerprints) == len(changed)
