"""One opener of image files for all that reads them: what is in a file is looked at before it is taken as pixels.

Formats are those that Pillow decodes by itself, recognised by content whatever the file's ending: never those for which
it starts another program (Ghostscript for EPS, an EPS that is called .png too) or that it only hands on. Pixels come
out with 8 bits, upright as EXIF says, and in the mode that is wanted; what had to be converted for that is returned, to
be said and recorded:

- 16 bits are rounded to 8, v / 257, so that the file and its 8-bit twin are the same image;
- transparent pixels are laid over white, and alpha that is opaque everywhere is dropped;
- palettes are looked up; CMYK, YCbCr and HSV become RGB without a colour profile; grey is repeated for RGB, and colour
  becomes grey by Pillow's luma;
- of several frames the first is taken.

What has no agreed range (32 bits, floating point) or no conversion here (LAB) is refused.
"""

from __future__ import annotations

import io
import os
import warnings
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = (
    "PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "JPEG2000", "AVIF", "PPM", "TGA", "PCX", "SGI", "DDS", "QOI",
    "PSD", "ICO", "ICNS", "MSP", "PCD", "SUN", "XBM", "XPM",
)  # fmt: skip
"""What Pillow decodes by itself, in its names."""
RECOGNISABLE = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "AVIF", "QOI", "PSD")
"""Those whose first bytes are like no others', looked for in files whose ending says nothing."""
ENDINGS = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".jp2",
    ".j2k", ".jpc", ".jpf", ".jpx", ".j2c", ".avif", ".avifs", ".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".pcx", ".sgi",
    ".rgb", ".rgba", ".bw", ".dds", ".qoi", ".psd", ".ico", ".icns", ".msp", ".pcd", ".ras", ".xbm", ".xpm",
})  # fmt: skip
"""Endings of those formats, in lower case."""
OTHER_ENDINGS = frozenset({
    ".txt", ".json", ".jsonl", ".csv", ".md", ".html", ".xml", ".yaml", ".yml", ".npy", ".npz", ".zip", ".pt", ".log",
    ".lock", ".eps", ".pdf",
})  # fmt: skip
"""Endings of files that need not be opened to know that they are no images."""
SYSTEM = frozenset({"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information", "Thumbs.db"})
"""Files and folders that systems put beside a user's."""
MODES = ("L", "RGB")
PIXEL_LIMIT = 178_956_970
"""Pixels beyond which an image is refused: Pillow's own limit, at which a small file that claims more is an attack."""
GREY = ("1", "L", "LA", "La", "I", "F")


class ImageError(ValueError):
    """A file cannot be taken as an image; the message says why, and not which file."""


@dataclass(frozen=True)
class Opened:
    """An image as it is wanted.

    Attributes:
        image: upright, 8 bits, in the wanted mode.
        conversions: what was done to it, in words, () for nothing.
    """

    image: Image
    conversions: tuple[str, ...] = ()


def opened(source: Path | bytes, mode: str, *, pixel_limit: int = PIXEL_LIMIT) -> Opened:
    """The image in a file, or in its bytes, in a mode: "L" for grey, or "RGB".

    Raises:
        ImageError: it cannot be decoded, has more pixels than the limit, or is of a kind that has no 8-bit form.
        ImportError: Pillow is not installed.
    """
    if mode not in MODES:
        raise ValueError(f"mode is {mode!r}; allowed: {', '.join(map(repr, MODES))}")
    from PIL import ImageOps

    with _decoding(source, pixel_limit) as file:
        conversions = []
        if getattr(file, "is_animated", False):
            conversions.append("several frames, the first taken")
        deep = any(";16" in str(tile[3]) for tile in getattr(file, "tile", ()))
        file.load()
        if deep or file.mode.startswith("I"):
            conversions.append("16 bits, rounded to 8")
        turned = ImageOps.exif_transpose(file)
        if turned is not None and file.getexif().get(0x0112, 1) != 1:
            conversions.append("turned upright as EXIF says")
        image = _eight_bits(file if turned is None else turned)
        image, own = _in_mode(image, mode)
        return Opened(image, (*conversions, *own))


def is_grey(source: Path | bytes, *, pixel_limit: int = PIXEL_LIMIT) -> bool:
    """Whether a file's image has grey levels alone; of a palette, whether all its colours are grey.

    Raises:
        ImageError: as `opened`.
    """
    with _decoding(source, pixel_limit) as file:
        if file.mode not in ("P", "PA"):
            return file.mode in GREY or file.mode.startswith("I;16")
        pixels = np.asarray(file.convert("RGB"))
        return bool((pixels == pixels[..., :1]).all())


def pixels_of(image: Image) -> np.ndarray[Any, Any]:
    """The pixels (C, H, W), uint8: C 1 or 3."""
    pixels = np.array(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


@contextmanager
def _decoding(source: Path | bytes, pixel_limit: int) -> Iterator[Any]:
    """The file as Pillow opens it, among `FORMATS`; whatever its decoders raise becomes one kind of error."""
    from PIL import Image

    if isinstance(source, Path) and source.exists() and not source.is_file():
        raise ImageError("it is no regular file")  # a pipe or a device may never end
    # Pillow's own limit is a global of the process, in place of which the size is checked here
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about broken EXIF data, and transparency in palettes
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as file:
                if file.width * file.height > pixel_limit:
                    size = f"{file.width} x {file.height}"
                    raise ImageError(f"it has {size} pixels, more than the limit of {pixel_limit}")
                yield file
    except (ImageError, MemoryError):
        raise
    except Image.UnidentifiedImageError as error:
        allowed = f"it is none of {', '.join(FORMATS)}"
        raise ImageError(allowed) from error
    except FileNotFoundError as error:
        raise ImageError("it does not exist") from error
    except Exception as error:  # decoders raise nearly anything for broken bytes
        raise ImageError(" ".join(str(error).split())[:200] or type(error).__name__) from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _eight_bits(image: Any) -> Any:
    """An image of more than 8 bits, with 8."""
    if image.mode == "F":
        raise ImageError("its pixels are floating-point numbers, whose range nothing says")
    if not image.mode.startswith("I"):
        return image
    from PIL import Image

    values = np.asarray(image).astype(np.int64)
    if values.size and not 0 <= values.min() <= values.max() <= 65535:
        raise ImageError("its pixels have 32 bits, whose range nothing says")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _in_mode(image: Any, mode: str) -> tuple[Any, list[str]]:
    from PIL import Image

    conversions = []
    grey = image.mode in GREY
    if image.mode == "LAB":
        raise ImageError("its colours are LAB, which is not converted here")
    if image.mode in ("CMYK", "YCbCr", "HSV"):
        conversions.append(f"{image.mode} converted to RGB without a colour profile")
        image = image.convert("RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getextrema()[3][0] < 255:
            conversions.append("transparent pixels laid over white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
        image = image.getchannel(0) if grey else image.convert("RGB")  # of grey all three channels are alike
    if image.mode in ("P", "1"):
        image = image.convert("RGB" if image.mode == "P" else "L")
    if mode == "L" and image.mode != "L":
        pixels = np.asarray(image.convert("RGB"))
        if (pixels == pixels[..., :1]).all():
            return Image.fromarray(np.ascontiguousarray(pixels[..., 0])), conversions
        conversions.append("colour turned into grey")
    elif mode == "RGB" and grey:
        conversions.append("grey repeated in three channels")
    return image.convert(mode), conversions


@dataclass
class ImageFiles:
    """The files of a folder or an archive.

    Attributes:
        images: those that count, sorted.
        others: visible files that are no images.
        hidden: how many hidden files, or files in hidden folders, there are.
    """

    images: list[PurePath] = field(default_factory=list)
    others: list[PurePath] = field(default_factory=list)
    hidden: int = 0


def passed_over(files: ImageFiles, used: Container[PurePath] = ()) -> str:
    """What was not taken, by ending, or ""; files that are used otherwise, as captions are, do not count."""
    endings = Counter(path.suffix.lower() or "without an ending" for path in files.others if path not in used)
    kinds = [f"{number} {kind}" for kind, number in sorted(endings.items())]
    kinds += [f"{files.hidden} hidden"] if files.hidden else []
    return f"passed over: {', '.join(kinds)}" if kinds else ""


def is_hidden(inner: PurePath) -> bool:
    """Whether a path within a folder or an archive is hidden, or a system's own."""
    return any(part.startswith(".") or part in SYSTEM for part in inner.parts)


def image_files(folder: Path) -> ImageFiles:
    """The files of a folder and those below it, by their paths within it; links to folders are followed once.

    An image counts by its ending, in any case; one whose ending says nothing, by its first bytes.

    Raises:
        OSError: a folder cannot be read.
        ImportError: Pillow is not installed.
    """
    files, seen = ImageFiles(), set()

    def fail(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, followlinks=True, onerror=fail):
        real, inner = os.path.realpath(place), PurePath(place).relative_to(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        for name in names:
            path = inner / name
            if is_hidden(path):
                files.hidden += 1
            elif _is_special(folder / path):
                files.others.append(path)
            elif path.suffix.lower() in ENDINGS or _looks_like_an_image(folder / path):
                files.images.append(path)
            else:
                files.others.append(path)
    files.images.sort()
    return files


def _is_special(path: Path) -> bool:
    """Whether it is a pipe, a socket or a device, of which reading may never end; a link to nothing is none."""
    return path.exists() and not path.is_file()


def _looks_like_an_image(path: Path) -> bool:
    if path.suffix.lower() in OTHER_ENDINGS or not path.is_file():
        return False
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=RECOGNISABLE):
                return True
        except Exception:  # whatever is wrong with it, it is not recognised
            return False
