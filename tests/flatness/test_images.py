"""One opener of images: every kind of file gives the pixels that a person sees, or is refused in words."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flatness.images import FORMATS, ImageError, image_files, is_grey, opened, passed_over, pixels_of

COLOUR = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]


def encoded(image: Image.Image, kind: str = "PNG", **own: Any) -> bytes:
    """An image's file."""
    stream = io.BytesIO()
    image.save(stream, format=kind, **own)
    return stream.getvalue()


def pixels(content: bytes | Path, mode: str = "RGB") -> np.ndarray[Any, Any]:
    """As they come out, channels last or none."""
    values = pixels_of(opened(content, mode).image)
    return values[0] if mode == "L" else values.transpose(1, 2, 0)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "TGA", "WEBP", "GIF", "QOI", "JPEG2000", "PCX", "DDS"])
def test_formats_without_loss_give_their_pixels_whatever_the_files_ending(kind: str, tmp_path: Path) -> None:
    own = {"lossless": True} if kind == "WEBP" else {}
    colour = np.where(COLOUR > 127, 255, 0).astype(np.uint8)  # few colours, for GIF's palette
    file = tmp_path / "image.jpeg"
    file.write_bytes(encoded(Image.fromarray(colour), kind, **own))
    assert np.array_equal(pixels(file), colour)


@given(st.lists(st.integers(0, 255), min_size=1, max_size=30))
def test_sixteen_bits_of_an_eight_bit_image_are_that_image(values: list[int]) -> None:
    flat = np.array([values], dtype=np.uint8)
    image = opened(encoded(Image.fromarray(flat.astype(np.uint16) * 257)), "L")
    assert np.array_equal(pixels_of(image.image)[0], flat)
    assert image.conversions == ("16 bits, rounded to 8",)


@given(st.integers(0, 65535))
def test_sixteen_bits_are_rounded_to_the_nearest_level(value: int) -> None:
    level_read = pixels(encoded(Image.fromarray(np.full((1, 1), value, dtype=np.uint16))), "L")
    assert abs(int(level_read[0, 0]) - value / 257) <= 0.5


def test_both_byte_orders_of_sixteen_bits() -> None:
    deep = GREY.astype(np.uint16) * 257
    big = Image.frombytes("I;16B", deep.shape[::-1], deep.astype(">u2").tobytes())
    assert np.array_equal(pixels(encoded(big, "TIFF"), "L"), GREY)
    assert np.array_equal(pixels(encoded(Image.fromarray(deep), "TIFF"), "L"), GREY)


def test_alpha_is_laid_over_white_and_dropped_where_it_is_opaque() -> None:
    opaque = np.dstack([COLOUR, np.full(GREY.shape, 255, np.uint8)])
    image = opened(encoded(Image.fromarray(opaque)), "RGB")
    assert np.array_equal(pixels(encoded(Image.fromarray(opaque))), COLOUR)
    assert image.conversions == ()
    clear = opaque.copy()
    clear[0, :, 3] = 0
    hidden = opened(encoded(Image.fromarray(clear)), "RGB")
    assert (pixels_of(hidden.image)[:, 0] == 255).all()
    assert np.array_equal(pixels_of(hidden.image).transpose(1, 2, 0)[1:], COLOUR[1:])
    assert hidden.conversions == ("transparent pixels laid over white",)
    half = Image.fromarray(np.full((1, 1, 2), (0, 128), dtype=np.uint8), "LA")
    assert abs(int(pixels(encoded(half), "L")[0, 0]) - 127) <= 1  # 255 - 128, rounded by Pillow


def test_transparency_of_palettes_and_of_a_colour() -> None:
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    assert pixels(encoded(palette)).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert pixels(encoded(palette, transparency=0)).tolist() == [[[255, 255, 255], [40, 50, 60]]]
    keyed = encoded(Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)), transparency=(1, 2, 3))
    assert pixels(keyed).tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(orientation: int) -> None:
    """The file holds the picture turned by the inverse; EXIF says so."""
    turns: dict[int, Any] = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(turns[orientation](COLOUR)))
    image = opened(encoded(stored, exif=exif), "RGB")
    assert np.array_equal(pixels_of(image.image).transpose(1, 2, 0), COLOUR)
    assert bool(image.conversions) == (orientation != 1)


def test_other_modes_are_converted_and_said() -> None:
    assert np.array_equal(pixels(encoded(Image.fromarray(GREY > 127))), np.dstack([(GREY > 127) * 255] * 3))
    cmyk = Image.fromarray(np.array([[[0, 0, 0, 0], [0, 0, 0, 255]]], dtype=np.uint8), "CMYK")
    image = opened(encoded(cmyk, "TIFF"), "RGB")
    assert pixels_of(image.image).transpose(1, 2, 0).tolist() == [[[255] * 3, [0] * 3]]
    assert image.conversions == ("CMYK converted to RGB without a colour profile",)
    assert opened(encoded(Image.fromarray(GREY)), "RGB").conversions == ("grey repeated in three channels",)
    assert opened(encoded(Image.fromarray(COLOUR)), "L").conversions == ("colour turned into grey",)
    same = np.dstack([GREY] * 3)
    assert opened(encoded(Image.fromarray(same)), "L").conversions == ()
    assert np.array_equal(pixels(encoded(Image.fromarray(same)), "L"), GREY)
    frames = [Image.fromarray(np.full((2, 2), level, np.uint8)) for level in (0, 255)]
    moving = opened(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), "L")
    assert pixels_of(moving.image).max() == 0
    assert moving.conversions == ("several frames, the first taken",)


def test_what_has_no_range_or_is_broken_is_refused_in_words(tmp_path: Path) -> None:
    floats = encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    deep = encoded(Image.fromarray(np.full((2, 2), 2**20, np.int32)), "TIFF")
    whole = encoded(Image.fromarray(COLOUR.repeat(20, 0).repeat(20, 1)))
    for content, message in {
        floats: "floating-point", deep: "32 bits", b"": "none of PNG", b"<html>": "none of PNG", whole[:200]: ".",
    }.items():  # fmt: skip
        with pytest.raises(ImageError, match=message):
            opened(content, "RGB")
    with pytest.raises(ImageError, match="it does not exist"):
        opened(tmp_path / "none.png", "RGB")
    with pytest.raises(ImageError, match="6 x 4 pixels, more than the limit of 23"):
        opened(encoded(Image.fromarray(COLOUR)), "RGB", pixel_limit=23)
    assert opened(encoded(Image.fromarray(COLOUR)), "RGB", pixel_limit=24).image.size == (6, 4)
    with pytest.raises(ValueError, match="mode is 'CMYK'"):
        opened(whole, "CMYK")


def test_large_images_are_read_up_to_the_limit_and_pillows_own_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    assert opened(encoded(Image.fromarray(COLOUR)), "RGB").image.size == (6, 4)
    assert Image.MAX_IMAGE_PIXELS == 5


def test_no_other_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An EPS that is called .png; and the same of any other that Pillow hands on."""
    assert not set(FORMATS) & {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5", "FPX", "MIC"}

    def started(*arguments: object, **own: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "check_call", started)
    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n0 0 moveto showpage\n"
    (tmp_path / "a.png").write_bytes(text)
    with pytest.raises(ImageError, match="none of PNG"):
        opened(tmp_path / "a.png", "RGB")


def test_hidden_files_and_systems_copies_do_not_count(tmp_path: Path) -> None:
    places = ["a.png", "inner/b.JPG", "._a.png", ".hidden.png", "__MACOSX/a.png", ".ipynb_checkpoints/a.png",
              "@eaDir/a.png/thumb.jpg", "inner/.thumbnails/b.png", "notes.txt", "inner/x.webp", "hash0123"]  # fmt: skip
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"text" if place == "notes.txt" else encoded(Image.fromarray(COLOUR)))
    (tmp_path / "no_image").write_bytes(b"no image")
    (tmp_path / "link").symlink_to(tmp_path / "inner", target_is_directory=True)
    (tmp_path / "inner" / "loop").symlink_to(tmp_path, target_is_directory=True)
    files = image_files(tmp_path)
    names = [str(path) for path in files.images]
    assert len(names) == 4
    assert {"a.png", "hash0123"} <= set(names)
    assert {PurePath(name).name for name in names} == {"a.png", "b.JPG", "x.webp", "hash0123"}
    assert passed_over(files) == "passed over: 1 .txt, 1 without an ending, 6 hidden"
    assert passed_over(files, {PurePath("notes.txt")}) == "passed over: 1 without an ending, 6 hidden"
    # a folder that is itself below a hidden one counts
    below = tmp_path / ".cache" / "x"
    below.mkdir(parents=True)
    (below / "a.png").write_bytes(encoded(Image.fromarray(COLOUR)))
    assert len(image_files(below).images) == 1


def test_grey_is_told_from_colour() -> None:
    palette = Image.fromarray(GREY).convert("P")
    coloured = Image.fromarray(COLOUR).convert("P")
    deep = Image.fromarray(GREY.astype(np.uint16))
    kinds = [
        (Image.fromarray(GREY), True),
        (palette, True),
        (coloured, False),
        (Image.fromarray(COLOUR), False),
        (deep, True),
    ]
    for image, grey in kinds:
        assert is_grey(encoded(image)) is grey


def test_the_package_does_not_load_pillow() -> None:
    code = "import sys, flatness.images; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_passed_over_and_links_to_nothing_are_images_that_are_missing(tmp_path: Path) -> None:
    """A pipe would be waited for without end; a link to nothing is damage, which reading it tells."""
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "nowhere.png")
    files = image_files(tmp_path)
    assert [str(path) for path in files.images] == ["a.png", "c.png"]
    assert [str(path) for path in files.others] == ["b.png"]
