"""Pages renewed between two marks, and writes that are interrupted."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from findings import files

MARKS = ("<!-- a -->", "<!-- b -->")


def test_only_what_stands_between_the_marks_changes() -> None:
    page = "before <!-- a --> old <!-- b --> after"
    assert files.renewed(page, MARKS, "new") == "before <!-- a -->\nnew\n<!-- b --> after"
    assert files.renewed(files.renewed(page, MARKS, "x"), MARKS, "new") == files.renewed(page, MARKS, "new")


@pytest.mark.parametrize("page", ["", "<!-- a -->", "<!-- b --> <!-- a -->"])
def test_a_missing_mark_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="lacks one of the marks"):
        files.renewed(page, MARKS, "new")


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "page.md"
    files.write_whole(path, "old")

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        files.write_whole(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError])
def test_an_interruption_between_two_pieces_leaves_the_old_file_whole(
    tmp_path: Path, interruption: type[BaseException]
) -> None:
    path = tmp_path / "figure.pdf"
    files.write_whole(path, b"old")

    def pieces() -> Iterator[bytes]:
        yield b"ne"
        raise interruption

    with pytest.raises(interruption):
        files.write_whole(path, pieces())
    assert path.read_bytes() == b"old"
    assert [there.name for there in tmp_path.iterdir()] == ["figure.pdf"]
