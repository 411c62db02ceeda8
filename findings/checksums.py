"""Files that are read again carry a checksum made at writing: what is read is what was written, or is refused.

    a JSON document      "checksum": "sha256:...", of its canonical content: all other entries, keys sorted, no spaces
    a line of a log      the same, in the line's object
    a safetensors file   "checksum" in the header's metadata, of the rest of the header and of all bytes after it

A file of an older version has none and is read as it is. A person who has edited a document and stands by it accepts
it: `python -m findings.accept FILE` (`accept`) writes the checksum anew and notes in the document that it was edited.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from findings.files import check_regular

CHECKSUM = "checksum"
EDITED = "edited"
"""The key under which a document says on which days edits of it were accepted."""
FORM = re.compile(r"sha256:[0-9a-f]{64}")
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
"""Half a letter of UTF-16, as JSON can write it."""
DEPTH = 100
"""Objects and lists inside one another that a document may have; ours have fewer than ten."""
LARGEST = 2**28
"""Bytes of a JSON document."""
LARGEST_HEADER = 10**8
"""Bytes of a safetensors header, as its library has it."""
CHUNK = 2**22


class ResultError(ValueError):
    """A result cannot be written where it was asked for, or one that is there cannot be read."""


class DamagedError(ResultError):
    """A file is not what was written: cut short, damaged, or edited."""


def parse_object(content: bytes | str) -> dict[str, Any]:
    """A JSON object of finite numbers, whatever the content is.

    Raises:
        ValueError: it is no JSON, no object, deeper than `DEPTH`, or holds a number that is not finite or half a
            letter.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_refuse_constant)
        if SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # halves that make a letter together are one letter by now
    except RecursionError:
        raise ValueError(f"it is nested more than {DEPTH} deep") from None
    except UnicodeEncodeError:
        raise ValueError("it holds half a letter, a surrogate without its pair") from None
    if not isinstance(value, dict):
        raise ValueError(f"it is no JSON object but {type(value).__name__}")
    level: list[Any] = [value]
    for _ in range(DEPTH):
        inside = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
        if any(isinstance(inner, float) and not math.isfinite(inner) for inner in inside):
            raise ValueError("it holds a number that is not finite")
        level = [inner for inner in inside if isinstance(inner, dict | list)]
        if not level:
            return value
    raise ValueError(f"it is nested more than {DEPTH} deep")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def checksum(document: Mapping[str, Any]) -> str:
    """Of a document in JSON's types, its own checksum left out.

    Raises:
        ValueError: a number is not finite.
    """
    content = {name: value for name, value in document.items() if name != CHECKSUM}
    plain = json.loads(json.dumps(content, allow_nan=False))  # keys that are numbers become texts
    return "sha256:" + hashlib.sha256(_canonical(plain)).hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def with_checksum(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with its checksum, as it is to be written."""
    content = {name: value for name, value in document.items() if name != CHECKSUM}
    return {**content, CHECKSUM: checksum(content)}


def checked(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without its checksum, which is held against it; one that has none is taken as it is.

    Raises:
        ValueError: it is not what the checksum was made of.
    """
    if _declares(document) and document.get(CHECKSUM) != checksum(document):
        raise ValueError("its checksum is not its contents'")
    return {name: value for name, value in document.items() if name != CHECKSUM}


def _declares(entries: Mapping[str, Any]) -> bool:
    """Whether there is a checksum, under its key or, where the key is damaged, under another."""
    return CHECKSUM in entries or any(isinstance(v, str) and FORM.fullmatch(v) for v in entries.values())


def _content(path: Path, largest: int) -> bytes:
    check_regular(path)
    size = path.stat().st_size
    if size > largest:
        raise ValueError(f"it has {size} bytes; allowed: at most {largest}")
    return path.read_bytes()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON document, held against its checksum, which is left out of what is returned.

    Raises:
        ResultError: it cannot be read.
        DamagedError: it is no JSON object, or not what was written.
    """
    try:
        document = parse_object(_content(path, LARGEST))
    except OSError as error:
        raise ResultError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise DamagedError(f"{path} cannot be read: {error}; remove it to have it made anew") from error
    try:
        return checked(document)
    except ValueError as error:
        raise DamagedError(
            f"{path} is not what was written: it is damaged, or was edited. Remove it to have it made anew; "
            f"edited on purpose, it is accepted by: python -m findings.accept {path}"
        ) from error


def tensors_checksum(header: Mapping[str, Any], data: Iterable[bytes | memoryview]) -> str:
    """Of a safetensors file: its header, whose metadata's own checksum is left out, and what follows it."""
    metadata = {name: value for name, value in header.get("__metadata__", {}).items() if name != CHECKSUM}
    digest = hashlib.sha256(_canonical({**header, "__metadata__": metadata}))
    for chunk in data:
        digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def check_tensors(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file that is held against its checksum, which is left out.

    Raises:
        DamagedError: it cannot be read, is cut short, or is not what was written.
    """
    try:
        check_regular(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(LARGEST_HEADER, size - 8):
                raise ValueError("it is cut short, or no safetensors file")
            header = parse_object(file.read(length))
            metadata = header.get("__metadata__", {})
            if not isinstance(metadata, dict):
                raise ValueError("its metadata is no JSON object")
            _check_extent(header, size - 8 - length)
            if _declares(metadata):
                digest = tensors_checksum(header, iter(lambda: file.read(CHUNK), b""))
                if metadata.get(CHECKSUM) != digest:
                    raise ValueError("its checksum is not its contents'")
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    return {name: value for name, value in metadata.items() if name != CHECKSUM}


def _check_extent(header: Mapping[str, Any], size: int) -> None:
    ends = [0]
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
        if not isinstance(offsets, list) or not all(isinstance(place, int) for place in offsets):
            raise ValueError(f"{name!r} has no place in it")
        ends += offsets
    if max(ends) != size:
        raise ValueError(f"it holds {size} bytes of tensors; {max(ends)} were written")
