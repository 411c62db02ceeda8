"""JSON objects in files of other people's."""

from __future__ import annotations

import json
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
