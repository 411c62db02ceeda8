import os
from pathlib import Path

import pytest

from theory import pages

MARKS = ("<!-- a -->", "<!-- b -->")


def test_only_what_stands_between_the_marks_changes() -> None:
    page = "before <!-- a --> old <!-- b --> after"
    assert pages.renewed(page, MARKS, "new") == "before <!-- a -->\nnew\n<!-- b --> after"
    assert pages.renewed(pages.renewed(page, MARKS, "x"), MARKS, "new") == pages.renewed(page, MARKS, "new")


@pytest.mark.parametrize("page", ["", "<!-- a -->", "<!-- b --> <!-- a -->"])
def test_a_missing_mark_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="lacks one of the marks"):
        pages.renewed(page, MARKS, "new")


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder" / "page.md"
    pages.write_whole(path, "old")

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        pages.write_whole(path, "new")
    assert path.read_text(encoding="utf-8") == "old"
    assert list(path.parent.iterdir()) == [path]
