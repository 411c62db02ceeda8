"""Pages that commands write: whole or not at all, or one marked part of a page renewed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all; its folder is made where it is missing.

    Raises:
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def renewed(page: str, marks: tuple[str, str], content: str) -> str:
    """The page with what stands between its two marks replaced by the content.

    Raises:
        ValueError: a mark is missing.
    """
    before, opening, rest = page.partition(marks[0])
    _, closing, after = rest.partition(marks[1])
    if not opening or not closing:
        raise ValueError(f"page lacks one of the marks {marks}; allowed: a page that holds both, in this order")
    return f"{before}{opening}\n{content}\n{closing}{after}"
