"""Which code a result was computed with: the checkout's commit, and versions; nothing that names the computer."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
"""The checkout."""


def versions(*packages: ModuleType) -> dict[str, str]:
    """Python's version, and those of packages as they name it themselves."""
    return {"python": platform.python_version(), **{one.__name__: str(one.__version__) for one in packages}}


@functools.cache
def commit(root: Path = ROOT) -> str | None:
    """The checkout's commit when first asked, with "+changes" where files differ from it; None outside of one."""
    try:
        head, status = (_git(root, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain")))
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if status else "")


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
