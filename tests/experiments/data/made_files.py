"""Files the tests make: small photographs of known colours, and Fashion-MNIST's files as they are published."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def level(number: int) -> tuple[int, int, int]:
    """The colour of an image, a function of its number."""
    return (number * 7 % 256, number * 13 % 256, 255 - number)


def encoded(number: int, size: tuple[int, int] = (128, 128), form: str = "PNG", **options: object) -> bytes:
    """One colour all over, so that crops and lossy formats leave it as it is, or nearly."""
    pixels = np.empty((size[1], size[0], 3), np.uint8)
    pixels[:] = level(number)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def as_published(folder: Path, name: str) -> bytes:
    """The published file: Debian's with the name and the date of 31 August 2017 back in gzip's header."""
    dates = {"train": 1504176606, "t10k": 1504176627}
    packed = (folder / name).read_bytes()
    date = dates[name.split("-")[0]].to_bytes(4, "little")
    return b"\x1f\x8b\x08\x08" + date + b"\x00\x03" + name.removesuffix(".gz").encode() + b"\0" + packed[10:]
