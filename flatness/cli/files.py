"""Files: JSON objects of other people's, and our own, written whole or not at all."""

from __future__ import annotations

import json
import os
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
