"""Result files: whole or not there, never written over, resumed under the same settings alone."""

import json
import os
from pathlib import Path

import pytest

from findings import documents
from findings.documents import ResultError, ResultFile, differences, json_text, read_document

SETTINGS = {"checkpoint": {"step": 4}, "evaluation": {"sigma": 0.01, "bits": [8, 4]}}


def finished(path: Path) -> ResultFile:
    file = ResultFile(path, SETTINGS)
    with file.begun():
        file.keep("loss", {"result": {"value": 1.0}})
        file.finish({"settings": SETTINGS, "measures": {"loss": {"value": 1.0}}})
    return file


def test_a_file_is_read_back_and_partial_results_are_gone(tmp_path: Path) -> None:
    file = finished(tmp_path / "row.json")
    assert file.finished() == {"version": documents.VERSION, "settings": SETTINGS, "measures": {"loss": {"value": 1.0}}}
    assert os.listdir(tmp_path) == ["row.json"]


def test_partial_results_are_found_again(tmp_path: Path) -> None:
    first = ResultFile(tmp_path / "row.json", SETTINGS)
    with first.begun():
        assert first.part("loss") is None
        first.keep("loss", {"result": 2.0})
    second = ResultFile(tmp_path / "row.json", json.loads(json.dumps(SETTINGS)))
    with second.begun():
        assert second.part("loss") == {"version": documents.VERSION, "result": 2.0}
    assert second.finished() is None


@pytest.mark.parametrize("whole", [True, False])
def test_other_settings_are_refused_with_the_differences_and_nothing_changes(tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "row.json"
    if whole:
        finished(path)
    else:
        with ResultFile(path, SETTINGS).begun():
            pass
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    other = ResultFile(path, {"checkpoint": {"step": 5}, "evaluation": {"sigma": 0.01, "bits": [8]}})
    with pytest.raises(ResultError, match=r"checkpoint.step: 4, 5\nevaluation.bits: \[8, 4\], \[8\]") as error:  # noqa: PT012
        other.finished()
        with other.begun():
            raise AssertionError("begun")
    assert "sigma" not in str(error.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_tuples_and_lists_are_the_same_setting() -> None:
    assert differences({"bits": [8, 4]}, {"bits": (8, 4)}) == []
    assert differences({"a": 1}, {"b": 1}) == ["a: 1, None", "b: None, 1"]


def test_two_processes_do_not_compute_one_row(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "row.json", SETTINGS)
    with file.begun(), pytest.raises(ResultError, match="another process"), ResultFile(file.path, SETTINGS).begun():
        pass
    with ResultFile(file.path, SETTINGS).begun():  # let go at the end of the block
        pass


def test_a_file_that_came_in_the_meantime_is_not_written_over(tmp_path: Path) -> None:
    file = ResultFile(tmp_path / "row.json", SETTINGS)
    with file.begun():
        file.path.write_text("mine")
        with pytest.raises(ResultError, match="another process"):
            file.finish({"settings": SETTINGS})
    assert file.path.read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', '{"settings": {}}'])
def test_a_file_that_is_no_result_is_refused_and_kept(tmp_path: Path, content: str) -> None:
    path = tmp_path / "row.json"
    path.write_text(content)
    with pytest.raises(ResultError, match=r"row\.json"):
        ResultFile(path, SETTINGS).finished()
    assert path.read_text() == content


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from findings import files

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    file = ResultFile(tmp_path / "row.json", SETTINGS)
    with file.begun():
        monkeypatch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match="no space"):
            file.finish({"settings": SETTINGS})
    assert not file.path.exists()
    assert file.work.is_dir()


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text({"value": float("nan")})


def test_the_text_is_json_of_the_same_value_and_readable(tmp_path: Path) -> None:
    document = {"version": documents.VERSION, "list": list(range(200)), "deep": [{"a": {"b": [1, 2]}}, {}]}
    document |= {"text": "é", "none": None}
    text = json_text(document)
    assert json.loads(text) == document
    assert len(text.splitlines()) == 12  # one for each entry that holds a dictionary, and each value beside
    path = tmp_path / "x.json"
    path.write_bytes(text)
    assert read_document(path) == document
    assert max(len(line) for line in text.decode().splitlines() if "199" not in line) <= documents.WIDTH + 20
