"""Result files: one row of the tables each, written once, never over another; partial results until it is whole.

    results/sam-ema.json          the row, when all its measures are there
    results/.sam-ema.work/        until then: settings.json, and one file for each measure that is done

What a result depends on stands in its `settings`. A file, or partial results, of other settings are refused with the
differences; of the same settings they are used.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from findings.checksums import DamagedError, ResultError, read_json, with_checksum
from findings.files import remove_leftovers, write_whole

VERSION = 2
FAILED = "failed"
"""The key under which a measure that could not be taken says why."""
WIDTH = 100
"""Characters of a value that is written in one line."""
SHOWN = 12
"""Differences that an error lists."""


def json_text(document: Mapping[str, Any]) -> bytes:
    """For people and diffs; long lists of numbers in one line.

    Raises:
        ValueError: a number is not finite.
    """
    return (_compact(json.loads(json.dumps(document, allow_nan=False)), 0) + "\n").encode()


def document_text(document: Mapping[str, Any]) -> bytes:
    """A document of this version with its checksum, as it is written.

    Raises:
        ValueError: a number is not finite.
    """
    return json_text(with_checksum({"version": VERSION, **document}))


def _compact(value: Any, depth: int) -> str:
    """Indented by one, but a dictionary or list that holds no dictionary stands in one line."""
    flat = json.dumps(value)
    nested = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    short = len(flat) < WIDTH and not any(isinstance(item, dict) for item in nested)
    if short or not nested or _numbers(value):
        return flat
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_compact(item, depth + 1)}" for key, item in value.items()]
        return "{" + inner + ("," + inner).join(lines) + outer + "}"
    return "[" + inner + ("," + inner).join(_compact(item, depth + 1) for item in value) + outer + "]"


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(not isinstance(item, dict | list) for item in value)


def read_document(path: Path, version: int | None = VERSION) -> dict[str, Any]:
    """A result file, or another document written here, held against its checksum; any version where it is None.

    Raises:
        ResultError: it cannot be read, is not what was written, or is of another version.
    """
    document = read_json(path)
    if version is not None and document.get("version") != version:
        raise ResultError(f"{path} is no result, or its version is {document.get('version')!r}; allowed: {version}")
    if not isinstance(document.get("settings", {}), dict):
        raise ResultError(f"{path}: its settings are no JSON object; allowed: what was written here")
    return document


def at(content: Any, keys: Sequence[str | int], path: Path) -> Any:
    """What stands in a document under these keys, one inside the other.

    Raises:
        ResultError: one is not there; the file and the keys are named.
    """
    for depth, key in enumerate(keys):
        try:
            content = content[key]
        except (KeyError, IndexError, TypeError):
            raise ResultError(f"{path} lacks {'.'.join(map(str, keys[: depth + 1]))}") from None
    return content


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line for each setting that differs: its name, the value there, the value asked for now."""
    return _differences(json.loads(json.dumps(there)), json.loads(json.dumps(wanted)), "")


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str) -> list[str]:
    lines = []
    for name in {**there, **wanted}:
        ours, theirs = there.get(name), wanted.get(name)
        if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
            lines += _differences(ours, theirs, f"{prefix}{name}.")
        elif ours != theirs:
            lines.append(f"{prefix}{name}: {_shown(ours)}, {_shown(theirs)}")
    return lines


def _shown(value: Any) -> str:
    return "{...}" if isinstance(value, Mapping) else repr(value)


def refuse_other(path: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise where settings differ.

    Raises:
        ResultError: with the differences.
    """
    lines = differences(there, wanted)
    if lines:
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        listed = "\n".join(["setting: there, asked for now", *lines[:SHOWN], *more])
        raise ResultError(f"{path} is of other settings; write elsewhere, or remove it. Nothing was changed.\n{listed}")


class ResultFile:
    """One row's file and its partial results.

    Args:
        path: of the file, ending in .json.
        settings: what the result depends on, in JSON's types.
        current: gives settings that were stored by an earlier version in the form of this one.

    Attributes:
        path: as given.
        work: the folder of partial results.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        current: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda stored: stored,
    ) -> None:
        """Nothing is read or written yet."""
        self.path, self.settings, self._current = path, settings, current
        self.work = path.with_name(f".{path.stem}.work")

    def finished(self) -> dict[str, Any] | None:
        """The whole result, where it is there.

        Raises:
            ResultError: it is of other settings, or cannot be read.
        """
        if not self.path.exists():
            return None
        document = read_document(self.path)
        refuse_other(self.path, self._current(document.get("settings", {})), self.settings)
        if not isinstance(document.get("measures"), dict):
            raise ResultError(f"{self.path} holds no measures; remove it to have it made anew")
        shutil.rmtree(self.work, ignore_errors=True)  # left where a kill came between the file and this
        return document

    @contextlib.contextmanager
    def begun(self) -> Iterator[None]:
        """Hold the folder of partial results, made if missing, while measures are carried out.

        Partial results whose settings are damaged are done anew, with a warning.

        Raises:
            ResultError: another process holds it, or it is of other settings.
        """
        self.work.mkdir(parents=True, exist_ok=True)
        with (self.work / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ResultError(f"{self.path} is being computed by another process") from error
            remove_leftovers(self.path.parent, self.path.name)
            path = self.work / "settings.json"
            stored = _whole(path) if path.exists() else None
            if stored is not None:
                refuse_other(self.work, self._current(stored.get("settings", {})), self.settings)
            else:
                self._empty()  # of which settings they are cannot be known
                write_whole(path, document_text({"settings": self.settings}))
            yield

    def part(self, name: str) -> dict[str, Any] | None:
        """A measure that is done; None where it is not, or where its file is damaged, of which there is a warning.

        Raises:
            ResultError: it cannot be read, or is of another version.
        """
        path = self._part_path(name)
        return _whole(path) if path.exists() else None

    def keep(self, name: str, part: Mapping[str, Any]) -> None:
        """Write a measure down."""
        write_whole(self._part_path(name), document_text(part))

    def finish(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Write the whole result, and take the partial ones away; returns it as it is read back.

        Raises:
            ResultError: a file has come there in the meantime.
        """
        if self.path.exists():
            raise ResultError(f"{self.path} has been written by another process; nothing was changed")
        write_whole(self.path, document_text(document))
        shutil.rmtree(self.work, ignore_errors=True)
        return read_document(self.path)

    def _empty(self) -> None:
        """Remove all partial results but the lock that is held."""
        for path in self.work.iterdir():
            if path.name != "lock":
                path.unlink()

    def _part_path(self, name: str) -> Path:
        return self.work / f"{name}.json"


def _whole(path: Path) -> dict[str, Any] | None:
    """An intermediate document, None where it is damaged: it can be made anew."""
    try:
        return read_document(path)
    except DamagedError:
        warnings.warn(f"{path} is damaged and made anew", stacklevel=3)
        return None
