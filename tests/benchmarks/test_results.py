"""The benchmarks' command line and the file it keeps results in, on rooms that measure nothing."""

from __future__ import annotations

import importlib
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import benchmarks.__main__ as command
from benchmarks import results
from benchmarks.timing import Row

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Three rooms: two that count how often they run, and one whose second benchmark raises; the runs in order."""
    seen: list[str] = []

    def counts(name: str) -> Callable[[], list[Row]]:
        def part() -> list[Row]:
            seen.append(name)
            return [(f"{name}, run {seen.count(name)}", f"{len(seen)} ± 1 s", "[bold]nothing[/bold]")]

        return part

    def fails() -> list[Row]:
        raise RuntimeError("measured nothing")

    parts_of = {"first": (counts("first"),), "second": (counts("second"),) * 2, "bad": (counts("bad"), fails)}
    for name, parts in parts_of.items():
        module = ModuleType(f"benchmarks.{name}", f"What {name} costs.\n\nMore of it.")
        module.PARTS = parts  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    monkeypatch.setattr(command, "ROOMS", ("first", "second", "bad"))
    return seen


def rooms(path: Path) -> dict[str, Any]:
    of_rooms: dict[str, Any] = json.loads(path.read_text())["rooms"]
    return of_rooms


def test_rooms_are_kept_with_title_rows_and_provenance(ran: list[str], tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "new" / "b.json"
    command.main(["second", "first", "--out", str(out)])
    assert f"results: {out}" in capsys.readouterr().out.replace("\n", "")
    of_rooms = rooms(out)
    assert list(of_rooms) == ["first", "second"]  # in the rooms' own order, however they ran
    assert ran == ["second", "second", "first"]
    assert of_rooms["second"]["title"] == "What second costs."
    assert of_rooms["second"]["rows"] == [
        {"measured": "second, run 1", "result": "1 ± 1 s", "against": "[bold]nothing[/bold]"},
        {"measured": "second, run 2", "result": "2 ± 1 s", "against": "[bold]nothing[/bold]"},
    ]
    where = of_rooms["first"]["provenance"]
    assert set(where) == {"versions", "commit", "device", "cores"}
    assert {"torch", "numpy", "scipy", "flatness", "diffusers", "guided-diffusion-sdk"} <= set(where["versions"])
    assert where["device"].startswith(f"cpu, {platform.machine()}, ")
    assert platform.node() not in out.read_text()
    assert list(out.parent.iterdir()) == [out]


def test_only_the_rooms_that_ran_are_renewed(ran: list[str], tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    command.main(["first", "second", "--out", str(out)])
    before = json.loads(out.read_text())
    before["rooms"]["first"]["provenance"]["commit"] = "older"
    before["rooms"] = {"retired": {"rows": []}} | before["rooms"]
    out.write_text(json.dumps(before))
    command.main(["second", "--out", str(out)])
    of_rooms = rooms(out)
    assert list(of_rooms) == ["first", "second", "retired"]
    assert of_rooms["first"] == before["rooms"]["first"]
    assert of_rooms["second"]["rows"][0]["measured"] == "second, run 3"
    assert of_rooms["second"]["provenance"]["commit"] != "older"


def test_an_error_leaves_the_file_as_it_was(ran: list[str], tmp_path: Path) -> None:
    out = tmp_path / "b.json"
    with pytest.raises(RuntimeError, match="measured nothing"):
        command.main(["first", "bad", "--out", str(out)])
    assert list(tmp_path.iterdir()) == []
    command.main(["first", "--out", str(out)])
    before = out.read_bytes()
    with pytest.raises(RuntimeError, match="measured nothing"):
        command.main(["first", "bad", "--out", str(out)])
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "is no results of benchmarks"),
        ('{"version": 1}', "is no results of benchmarks"),
        ('{"version": 0, "rooms": {}}', "is no results of benchmarks"),
    ],
)
def test_a_file_that_is_something_else_is_refused_before_work(
    content: str, message: str, ran: list[str], tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "b.json"
    out.write_text(content)
    with pytest.raises(SystemExit) as ended:
        command.main(["first", "--out", str(out)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert ran == []
    assert out.read_text() == content


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("first", "third"), "ROOM is 'third'; allowed: first, second, bad"),
        (("first",), "allowed: a file that can be written"),
    ],
)
def test_unknown_rooms_and_folders_are_refused_before_work(
    words: tuple[str, ...], message: str, ran: list[str], tmp_path: Path, capsys: Captured
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main([*words, "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert ran == []


def test_without_a_file_the_tables_are_printed_and_nothing_is_written(
    ran: list[str], tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "ROOMS", ("first", "second"))
    command.main([])
    printed = capsys.readouterr().out
    assert "first, run 1" in printed
    assert "second, run 2" in printed
    assert "[bold]nothing[/bold]" in printed  # as it stands in the file
    assert list(tmp_path.iterdir()) == []


def test_every_room_says_in_a_line_what_it_measures() -> None:
    for room in command.ROOMS:
        module = importlib.import_module(f"benchmarks.{room}")
        assert module.PARTS
        assert str(module.__doc__).partition("\n")[0].endswith("."), room


def test_a_result_that_is_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        results.entry("title", [("one", "two")], {}, 1.0)  # type: ignore[list-item]


def test_processes_whose_memory_is_measured_begin_without_torch() -> None:
    code = "import sys, benchmarks.__main__; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
