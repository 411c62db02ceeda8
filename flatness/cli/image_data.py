"""Images in a folder or a zip, with what belongs to each: its class and its caption.

Labels of a network with classes come, in this order, from

- `dataset.json`, as EDM's tools write it: {"labels": [["00000/img.png", 3], ...]}, whole numbers or one-hot rows;
- `metadata.jsonl` or `metadata.csv`, as the image folders of `datasets` have it: a row an image, with `file_name` and
  `label` (or `class`, `class_label`), a number, a one-hot list or a name that the network's configuration has;
- folders named by class: whole numbers, or names that the configuration has, or as many names as there are classes, in
  alphabetical order. Fewer names would be numbered wrongly, and are refused.

Captions come from `text` (or `caption`, `prompt`) of the metadata, else from `NAME.txt` beside `NAME.png`.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import torch
from torch import Tensor

from flatness.cli.errors import CommandError, MissingPackageError
from flatness.images import (
    ENDINGS,
    ImageError,
    ImageFiles,
    image_files,
    is_grey,
    is_hidden,
    opened,
    passed_over,
    pixels_of,
)

Content = Path | bytes
LARGEST_FILE = 2**30
"""Bytes of one file within a zip, unpacked."""
SPLITS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"})
"""What folders of a data set's splits are called, which are no classes."""
NUMBER = re.compile(r"-?\d+")
METADATA = ("metadata.jsonl", "metadata.csv")
DATASET = "dataset.json"
LABEL_COLUMNS = ("label", "class", "class_label", "labels")
CAPTION_COLUMNS = ("text", "caption", "prompt")


class ImageSource(Protocol):
    """Encoded images by index, with their labels and captions."""

    def __len__(self) -> int:
        """How many there are."""

    def label(self, index: int) -> str:
        """Where an image is, for messages."""

    def reading(self) -> AbstractContextManager[Callable[[int], Content]]:
        """A function that returns an image's file or bytes by its index."""

    def captions(self, indices: Sequence[int]) -> list[str] | None:
        """Captions of these images; None where no image has one."""

    def remarks(self) -> list[str]:
        """What was passed over, and how classes were numbered."""


@dataclass
class Pictures:
    """The images of a folder or of a zip file.

    Attributes:
        path: of the folder or file.
        keys: the images' paths within it, with slashes, sorted.
        texts: other files, by path within.
        words: what was passed over, or "".
        numbering: how classes were numbered, or "".
    """

    path: Path
    keys: list[PurePosixPath]
    texts: set[PurePosixPath] = field(default_factory=set)
    words: str = ""
    numbering: str = ""

    @classmethod
    def of(cls, path: Path) -> Pictures:
        """What there is, by names alone.

        Raises:
            CommandError: a folder or the zip cannot be read; MissingPackageError: Pillow is not installed.
        """
        try:
            import PIL  # noqa: F401
        except ImportError as error:
            raise MissingPackageError("a folder of images", "Pillow", "pillow") from error
        try:
            files = image_files(path) if path.is_dir() else _zipped(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise CommandError(f"{path} cannot be read: {error}") from error
        keys = [PurePosixPath(image.as_posix()) for image in files.images]
        texts = {PurePosixPath(other.as_posix()) for other in files.others}
        used = {key.with_suffix(".txt") for key in keys}
        names = (*METADATA, DATASET)
        words = passed_over(files, {text for text in texts if text in used or text.name in names})
        return cls(path, keys, texts, words)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.keys)

    def label(self, index: int) -> str:
        """Where an image is, for messages."""
        return str(self.path / self.keys[index]) if self.path.is_dir() else f"{self.path}: {self.keys[index]}"

    @contextmanager
    def reading(self) -> Iterator[Callable[[int], Content]]:
        """A function that returns an image's file or bytes by its index."""
        if self.path.is_dir():
            yield lambda index: self.path / self.keys[index]
            return
        with zipfile.ZipFile(self.path) as archive:

            def read(index: int) -> bytes:
                try:
                    size = archive.getinfo(str(self.keys[index])).file_size
                    if size > LARGEST_FILE:
                        raise ValueError(f"it unpacks to {size} bytes; allowed: at most {LARGEST_FILE}")
                    return archive.read(str(self.keys[index]))
                except Exception as error:  # zlib's, for damaged entries; encrypted ones
                    raise CommandError(f"{self.label(index)} cannot be read: {error}") from error

            yield read

    def remarks(self) -> list[str]:
        """What was passed over, and how classes were numbered."""
        return [words for words in (self.words, self.numbering) if words]

    def _text(self, inner: PurePosixPath) -> str | None:
        """The content of a text file within; None where there is none."""
        if inner not in self.texts:
            return None
        try:
            if self.path.is_dir():
                if not (self.path / inner).is_file():
                    raise ValueError("it is no regular file")  # a pipe or a device may never end
                return (self.path / inner).read_text(encoding="utf-8-sig")
            with zipfile.ZipFile(self.path) as archive:
                if (size := archive.getinfo(str(inner)).file_size) > LARGEST_FILE:
                    raise ValueError(f"it unpacks to {size} bytes; allowed: at most {LARGEST_FILE}")
                return archive.read(str(inner)).decode("utf-8-sig")
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise CommandError(f"{self.path / inner} cannot be read as text: {error}") from error

    @cached_property
    def rows(self) -> dict[PurePosixPath, dict[str, Any]]:
        """The metadata's row of each image that has one.

        Raises:
            CommandError: it cannot be read, or names a file that is not there.
        """
        by_image: dict[PurePosixPath, dict[str, Any]] = {}
        there = set(self.keys)
        for folder in sorted({PurePosixPath("."), *(key.parent for key in self.keys)}):
            for name in METADATA:
                text = self._text(folder / name)
                if text is None:
                    continue
                for line, row in _rows(f"{self.path / folder / name}", name, text):
                    key = PurePosixPath(folder, str(row.get("file_name")))
                    if key not in there:
                        where = f"{self.path / folder / name}, line {line}"
                        raise CommandError(f"{where}: file_name is {row.get('file_name')!r}, which is no image here")
                    by_image[key] = row
        return by_image

    def captions(self, indices: Sequence[int]) -> list[str] | None:
        """Captions of these images; None where none has one.

        Raises:
            CommandError: some have one, and others do not.
        """
        texts: list[str | None] = []
        for index in indices:
            row = self.rows.get(self.keys[index], {})
            own = next((row[column] for column in CAPTION_COLUMNS if row.get(column) is not None), None)
            text = own if own is not None else self._text(self.keys[index].with_suffix(".txt"))
            texts.append(None if text is None else str(text).strip())
        if all(text is None for text in texts):
            return None
        for index, text in zip(indices, texts, strict=True):
            if text is None:
                raise CommandError(f"{self.label(index)} has no caption, and other images have: NAME.txt or metadata")
        return [str(text) for text in texts]

    def labels(self, classes: int | None, numbers: Mapping[str, int]) -> Tensor | None:
        """The class of every image, for a network that takes classes; None where nothing names any.

        Args:
            classes: how many the network has; None where it has no table of them.
            numbers: of classes by name, as its configuration has them.

        Raises:
            CommandError: some images have a class and others have none, or classes cannot be numbered for sure.
        """
        text = self._text(PurePosixPath(DATASET))
        if text is not None:
            own = self._of_dataset_json(text)
            if own is not None:
                return own
        given = [next((r[c] for c in LABEL_COLUMNS if r.get(c) is not None), None) for r in self._rows_in_order()]
        if any(value is not None for value in given):
            names = [None if v is None else _label_name(self.label(index), v) for index, v in enumerate(given)]
            return self._numbered(names, classes, numbers, False)
        if min(len(key.parts) for key in self.keys) < 2:
            return None
        folders = {key.parts[0] for key in self.keys}
        if SPLITS.issuperset(name.lower() for name in folders):
            held = ", ".join(sorted(folders))
            raise CommandError(f"{self.path} holds the split {held}, and no classes: give the folder of one split")
        return None if len(folders) < 2 else self._numbered([key.parts[0] for key in self.keys], classes, numbers, True)

    def _rows_in_order(self) -> list[dict[str, Any]]:
        return [self.rows.get(key, {}) for key in self.keys]

    def _numbered(
        self, names: Sequence[str | None], classes: int | None, numbers: Mapping[str, int], folders: bool
    ) -> Tensor:
        where = "folders" if folders else "the metadata's labels"
        for index, name in enumerate(names):
            if name is None:
                raise CommandError(f"{self.label(index)} has no label, and other images have")
        distinct = sorted({str(name) for name in names})
        whole = [name for name in distinct if NUMBER.fullmatch(name)]
        if len(whole) == len(distinct):
            own = {name: int(name) for name in distinct}
        elif all(name in numbers for name in distinct):
            own = {name: numbers[name] for name in distinct}
        elif whole:
            other = next(name for name in distinct if name not in whole)
            raise CommandError(
                f"{self.path}: {where} are numbers and names, {whole[0]!r} and {other!r}; allowed: all of one kind"
            )
        elif len(distinct) == classes or (classes is None and folders):
            own = {name: place for place, name in enumerate(distinct)}
        else:
            unknown = next(name for name in distinct if name not in numbers)
            raise CommandError(
                f"{self.path}: {where} are {len(distinct)} names, {unknown!r} among them, for {classes} classes of the "
                "network: which is which cannot be told; name them by the class's number, or give a label in metadata"
            )
        shown = ", ".join(f"{name} is {own[name]}" for name in distinct[:3]) + (", ..." if len(distinct) > 3 else "")
        self.numbering = f"classes from {where}: {shown}"
        return torch.tensor([own[str(name)] for name in names])

    def _of_dataset_json(self, text: str) -> Tensor | None:
        where = f"{self.path / DATASET}"
        try:
            pairs = json.loads(text)["labels"]
            if pairs is None:
                return None
            by_name = {PurePosixPath(str(name).replace("\\", "/")): label for name, label in pairs}
        except (ValueError, KeyError, TypeError) as error:
            raise CommandError(f"{where} is not as EDM writes it, labels: [[name, label], ...]: {error}") from error
        missing = next((index for index, key in enumerate(self.keys) if key not in by_name), None)
        if missing is not None:
            raise CommandError(f"{where} has no label of {self.keys[missing]}")
        self.numbering = f"classes from {DATASET}"
        return torch.tensor([_class_number(where, by_name[key]) for key in self.keys])


def _zipped(path: Path) -> ImageFiles:
    files = ImageFiles()
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            inner = PurePosixPath(entry.filename)
            if entry.is_dir():
                continue
            if is_hidden(inner):
                files.hidden += 1
            else:
                (files.images if inner.suffix.lower() in ENDINGS else files.others).append(inner)
    files.images.sort()
    return files


def _label_name(where: str, label: object) -> str:
    """A label of the metadata as a name, or as the digits of its number: whole numbers, one-hot lists and names.

    A csv has all of these as text.
    """
    text = label.strip() if isinstance(label, str) else ""
    if text.startswith("["):
        try:
            label = json.loads(text)
        except ValueError:
            return text
    if isinstance(label, str):
        return re.sub(r"^(-?\d+)\.0+$", r"\1", text)
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(_class_number(where, label))


def _class_number(where: str, label: object) -> int:
    if isinstance(label, int) and not isinstance(label, bool):
        return label
    if isinstance(label, list) and all(value in (0, 1) for value in label) and sum(label) == 1:
        return label.index(1)
    raise CommandError(f"{where} holds the label {str(label)[:40]}; allowed: whole numbers or one-hot lists")


def _rows(where: str, name: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows with the lines they stand in."""
    if name.endswith(".csv"):
        for line, row in enumerate(csv.DictReader(io.StringIO(text)), 2):
            if "file_name" not in row:
                raise CommandError(f"{where} has no column file_name")
            yield line, row
        return
    for line, content in enumerate(text.splitlines(), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except ValueError as error:
            raise CommandError(f"{where}, line {line}, is not JSON: {error}") from error
        if not isinstance(row, dict) or "file_name" not in row:
            raise CommandError(f"{where}, line {line}, is no object with file_name")
        yield line, row


def is_grey_image(source: Pictures, pixel_limit: int) -> bool:
    """Whether the first image is grey.

    Raises:
        CommandError: it cannot be read.
    """
    with source.reading() as read:
        try:
            return is_grey(read(0), pixel_limit=pixel_limit)
        except ImageError as error:
            raise CommandError(f"{source.label(0)} cannot be read as an image: {error}") from error


def decoded(
    content: Content, mode: str, resize: int | None, pixel_limit: int, label: str
) -> tuple[Tensor, tuple[str, ...]]:
    """One image (C, H, W), uint8, and what was converted.

    Raises:
        CommandError: it cannot be read.
    """
    from PIL import Image

    try:
        pixels = opened(content, mode, pixel_limit=pixel_limit)
    except ImageError as error:
        raise CommandError(f"{label} cannot be read as an image: {error}") from error
    image = pixels.image
    if resize is not None:
        scale = resize / min(image.size)
        width, height = (max(resize, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - resize) // 2, (height - resize) // 2
        image = image.crop((left, top, left + resize, top + resize))
    return torch.from_numpy(pixels_of(image)), pixels.conversions


def dimensions(image: Tensor) -> str:
    """Width and height of an image (C, H, W)."""
    height, width = image.shape[1:]
    return f"{width} x {height}"
