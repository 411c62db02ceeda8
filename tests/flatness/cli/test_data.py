"""Arrays and folders of images as the network knows them, and what is refused."""

from __future__ import annotations

import contextlib
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flatness.cli import arrays, image_data
from flatness.cli.data import Data, fingerprint, found_data
from flatness.cli.errors import CommandError
from flatness.cli.options import DataOptions

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3), dtype=np.uint8)


def data_of(path: Path, shape: tuple[int, ...] | None = None, **options: Any) -> Data:
    """The data of a path."""
    return found_data(DataOptions(data=str(path), **options), shape)


def saved(path: Path, **arrays: Any) -> Path:
    """An .npz."""
    np.savez(path, **arrays)
    return path


def declared(path: Path, shape: str, content: bytes) -> Path:
    """An .npz whose one array has a header of this shape, whatever follows it."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content)
    return path


@pytest.mark.parametrize(
    "shape", ["(1000000000000, 4)", "(3, 4)", "(1, 4)", "(2, -4)", "(0, 4)", "(2, 4, 99999999999)"]
)
def test_an_archive_holds_what_its_header_says_or_is_refused_unread(shape: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="is damaged: x says that it has"):
        data_of(declared(tmp_path / "d.npz", shape, bytes(32)))
    assert len(data_of(declared(tmp_path / "d.npz", "(2, 4)", bytes(32))).chosen(2, 0)[0]) == 2


def test_an_archive_that_unpacks_to_more_than_the_memory_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = declared(tmp_path / "bomb.npz", "(4096, 1024)", bytes(2**24))
    assert path.stat().st_size < 2**16
    monkeypatch.setattr(arrays, "MEMORY", 2**23)
    with pytest.raises(CommandError, match="does not fit into memory: x has 16777"):
        data_of(path)


@pytest.mark.parametrize("name", ["x.png", "metadata.jsonl", "dataset.json", "0.txt"])
@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_and_devices_among_images_are_not_waited_for(name: str, kind: str, tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(PIXELS[number]).save(tmp_path / f"{number}.png")
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with contextlib.suppress(CommandError):  # refused, or not needed
        data_of(tmp_path).chosen(3, 0)


def test_what_a_zip_unpacks_to_is_known_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(2):
            archive.writestr(f"{number}.png", bytes(10**6))
    monkeypatch.setattr(image_data, "LARGEST_FILE", 10**5)
    with pytest.raises(CommandError, match="it unpacks to 1000000 bytes; allowed: at most 100000"):
        data_of(tmp_path / "d.zip").chosen(2, 0)


def test_images_are_not_resized_beyond_the_limit_of_pixels(tmp_path: Path) -> None:
    for number in range(2):
        Image.fromarray(PIXELS[number]).save(tmp_path / f"{number}.png")
    with pytest.raises(CommandError, match="resize is 200000, 40000000000 pixels; allowed: at most --pixel-limit"):
        data_of(tmp_path, resize=200000)


def rows(data: Data, count: int = 5, seed: int = 0) -> torch.Tensor:
    """The samples in the file's order."""
    x, _ = data.chosen(count, seed)
    return x[np.argsort(data.indices(count, seed))]


def test_arrays_of_either_layout_are_scaled_and_turned(tmp_path: Path) -> None:
    expected = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2) / 127.5 - 1.0).float()
    last, first = saved(tmp_path / "last.npz", arr_0=PIXELS), tmp_path / "first.npy"
    np.save(first, PIXELS.transpose(0, 3, 1, 2))
    for path in (last, first):
        for shape in (None, (3, 6, 8)):
            # pixels / 127.5 - 1 in float32 against float64
            assert torch.allclose(rows(data_of(path, shape)), expected, atol=1e-6)
    assert torch.allclose(rows(data_of(last, layout="nhwc")), expected, atol=1e-6)
    grey = saved(tmp_path / "grey.npz", images=PIXELS[..., 0])
    assert torch.allclose(rows(data_of(grey, (1, 6, 8))), expected[:, :1], atol=1e-6)


def test_floats_are_taken_as_they_are_with_their_labels(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 5 * 7).reshape(5, 7)
    path = saved(tmp_path / "v.npz", x=values, labels=np.arange(5))
    data = data_of(path, (7,))
    x, labels = data.chosen(4, 1)
    assert labels is not None
    assert labels.dtype == torch.int64
    assert torch.allclose(x, torch.from_numpy(values).float()[labels])
    assert len(set(labels.tolist())) == 4
    assert data.chosen(4, 2)[1] is not None
    assert labels.tolist() != data.chosen(4, 2)[1].tolist()  # type: ignore[union-attr]
    assert data.note == ""
    for high in (0.5, 255.0):
        note = data_of(saved(tmp_path / "u.npz", x=np.full((3, 1, 2, 2), high))).note
        assert f"within 0 and {max(high, 1.0):g} and is taken as it is; most networks know -1 to 1" in note
    assert data_of(saved(tmp_path / "w.npz", x=np.linspace(-3, 9, 12).reshape(3, 1, 2, 2))).note == ""


def test_folders_are_read_as_the_network_wants_and_resized_when_told(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for index, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / "inner" / f"{index}.png")
    expected = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2) / 127.5 - 1.0).float()
    assert torch.allclose(rows(data_of(tmp_path)), expected, atol=1e-6)
    assert data_of(tmp_path, (1, 6, 8)).chosen(2, 0)[0].shape == (2, 1, 6, 8)
    square = data_of(tmp_path, (3, 6, 6), resize=6).chosen(5, 0)[0]
    assert square.shape == (5, 3, 6, 6)
    # the shorter side has 6 pixels already, so that only columns are cut away
    assert torch.allclose(rows(data_of(tmp_path, resize=6)), expected[..., 1:7], atol=1e-6)
    assert data_of(tmp_path, resize=2).chosen(5, 0)[0].shape == (5, 3, 2, 2)
    with pytest.raises(CommandError, match=r"has 8 x 6 pixels.*6 x 6: --resize N"):
        data_of(tmp_path, (3, 6, 6)).chosen(2, 0)
    Image.fromarray(PIXELS[0, :3]).save(tmp_path / "z.png")
    with pytest.raises(CommandError, match="--resize N"):
        data_of(tmp_path).chosen(6, 0)
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(CommandError, match=r"broken.jpg cannot be read"):
        data_of(tmp_path, resize=2).chosen(7, 0)


def test_fingerprints_tell_data_and_labels_apart() -> None:
    x, labels = torch.zeros(3, 1, 2, 2), torch.arange(3)
    prints = [fingerprint(x, None), fingerprint(x + 1, None), fingerprint(x, labels), fingerprint(x.view(3, 4), None)]
    assert len(set(prints)) == 4
    assert fingerprint(x.clone(), labels.clone()) == prints[2]


class Trap:
    """Would be noticed if it were unpickled."""

    def __reduce__(self) -> Any:
        """Fail."""
        return (exec, ("raise SystemExit('unpickled')",))


def test_what_is_not_data_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "trap.npy", np.array([Trap()] * 2), allow_pickle=True)
    (tmp_path / "text.npz").write_text("no archive")
    (tmp_path / "x.csv").write_text("1")
    (tmp_path / "empty").mkdir()
    saved(tmp_path / "names.npz", a=PIXELS)
    saved(tmp_path / "whole.npz", x=np.arange(4).reshape(2, 2))
    saved(tmp_path / "one.npz", x=PIXELS[:1])
    saved(tmp_path / "vague.npz", x=np.zeros((2, 3, 5, 3)))
    saved(tmp_path / "labels.npz", x=PIXELS, labels=np.zeros(4, dtype=int))
    saved(tmp_path / "nan.npz", x=np.full((3, 2), np.nan))
    cases: list[tuple[str, dict[str, Any], tuple[int, ...] | None, str]] = [
        ("nowhere", {}, None, "does not exist"),
        ("trap.npy", {}, None, "cannot be read as an array"),
        ("text.npz", {}, None, "cannot be read as an array"),
        ("x.csv", {}, None, "is not read"),
        ("empty", {}, None, "holds 0 images that Pillow reads"),
        ("names.npz", {}, None, "allowed: one of arr_0"),
        ("whole.npz", {}, None, "allowed: uint8, or floats"),
        ("one.npz", {}, None, "two samples or more"),
        ("vague.npz", {}, None, "--layout nchw or --layout nhwc"),
        ("labels.npz", {}, None, "holds labels of shape"),
        ("labels.npz", {"resize": 2}, None, "--resize is for folders of images"),
        ("names.npz", {}, (3, 8, 8), "allowed: one of"),
        ("one.npz", {}, (3, 8, 8), "two samples"),
        ("nan.npz", {}, None, "not finite"),
    ]
    for name, options, shape, message in cases:
        with pytest.raises(CommandError, match=message):
            data_of(tmp_path / name, shape, **options).chosen(2, 0)
    with pytest.raises(CommandError, match=r"holds samples of shape \(3, 6, 8\); the network takes \(1, 6, 8\)"):
        data_of(saved(tmp_path / "y.npz", x=PIXELS), (1, 6, 8))
    with pytest.raises(CommandError, match="--data is missing"):
        found_data(DataOptions(), None)
