"""Pages renewed between two marks, and writes that are interrupted."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from findings import files
from findings.files import check_out

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


def test_where_nothing_can_be_written_is_refused_and_nothing_is_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("as it was")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    for out in ("folder", "new", "new/below", "folder/new"):
        check_out(tmp_path / out)
    for out in ("file", "new", "new/below", "folder/new"):
        check_out(tmp_path / out, folder=False)
    for out in ("file", "file/below", "file/below/it", "dangling"):
        with pytest.raises(ValueError, match=f"out is .*{out}; allowed: a folder, or a path where one can be made"):
            check_out(tmp_path / out)
    for out in ("folder", "file/below", "dangling/below"):
        with pytest.raises(ValueError, match=f"out is .*{out}; allowed: a file that can be written"):
            check_out(tmp_path / out, folder=False)
    assert sorted(tmp_path.rglob("*")) == before
    check_out(Path("new"))


def test_a_folder_is_made_where_it_may_be_and_a_finished_one_need_not_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    check_out(tmp_path)
    with pytest.raises(ValueError, match="allowed: a folder"):
        check_out(tmp_path / "new")
    with pytest.raises(ValueError, match="allowed: a file"):
        check_out(tmp_path / "new.json", folder=False)
