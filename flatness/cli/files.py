"""Files: JSON objects of other people's, and our own, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from flatness.cli.errors import CommandError


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON file's object; None where there is no such file.

    Raises:
        CommandError: it holds something else.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CommandError(f"{path} holds {type(content).__name__}; allowed: an object")
    return content


def check_results_folder(name: str) -> None:
    """Raise where a folder cannot be made or written to, before minutes are spent; what is refused later leaves none.

    Raises:
        CommandError: it cannot.
    """
    path = Path(name)
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise CommandError(f"--out {name} is no folder that can be written to: {error.strerror or error}") from error
    finally:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in its place whole, over one that may be there, by way of a temporary one beside it.

    Raises:
        OSError: the disk is full, or else; what was there before is intact.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
