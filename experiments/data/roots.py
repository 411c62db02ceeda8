"""Where data sets are looked for, and what is found there; the error that says what is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "FLATNESS_DATA"
DEFAULT_ROOT = Path("data")
"""Below the folder that the program runs in."""
Root = str | os.PathLike[str] | None


class DataError(ValueError):
    """Files of a data set that are missing, short, corrupt or not the published ones; names the file or the key."""


class NotFoundError(DataError):
    """A data set's files are not there at all."""


@dataclass(frozen=True)
class Found:
    """What `inspect` tells of a data set.

    Attributes:
        path: where it is.
        images: how many, over all splits.
        checksum: in words, what its checksum was held against.
        fingerprint: as in Images.
    """

    path: Path
    images: int
    checksum: str
    fingerprint: str


def data_root(root: Root = None) -> Path:
    """The folder given, else that of the environment variable FLATNESS_DATA, else ./data."""
    if root is not None:
        return Path(root).expanduser()
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else DEFAULT_ROOT


def is_named(root: Root = None) -> bool:
    """Whether a person has named the folder, by an option or by FLATNESS_DATA; another copy then stands for nothing."""
    return root is not None or bool(os.environ.get(VARIABLE))


def check_named(name: str, root: Root = None) -> None:
    """Refuse a data root that is named and is not there, before anything else is said of it.

    Raises:
        NotFoundError: it is no folder.
    """
    base = data_root(root)
    if is_named(root) and not base.is_dir():
        raise NotFoundError(
            f"{name}: the data root is {base}, which is no folder; `python -m experiments data {name}` fetches the "
            f"data or says what to download, and {VARIABLE} or the data root option names another folder"
        )


def places(name: str, root: Root = None) -> list[Path]:
    """The folders in which a data set's files may lie, in the order in which they are looked through."""
    base = data_root(root)
    return [base / name, base]


def not_found(name: str, sought: str, folders: Iterable[Path]) -> NotFoundError:
    """The error to raise where none of the folders has what is needed."""
    where = ", ".join(map(str, folders))
    return NotFoundError(
        f"{name}: {sought} not found in {where}; `python -m experiments data {name}` fetches it or says what to "
        f"download, and {VARIABLE} or the data root option names another folder"
    )
