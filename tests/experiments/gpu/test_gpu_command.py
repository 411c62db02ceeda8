"""Sections in processes of their own, documents after each part, and what --check finds."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from experiments.__main__ import main
from experiments.commands import gpu as command
from experiments.data import fashion_mnist
from experiments.gpu import requirements
from experiments.gpu.options import SECTIONS, SHARES, GPUOptions, plan_lines, shares
from experiments.gpu.record import Record

WRITES = """
import json, pathlib
pathlib.Path({path!r}).write_text(json.dumps({{"complete": True, "parts": {{}}}}))
"""


def tiny(out: Path, **changes: object) -> GPUOptions:
    return GPUOptions(**{"out": out, "device": "cpu", "tiny": True, **changes})  # type: ignore[arg-type]


def record(out: Path, minutes: float = 1.0) -> tuple[Record, list[str]]:
    said: list[str] = []
    return Record(out / "s.json", "s", {}, torch.device("cpu"), minutes, said.append), said


def written(out: Path) -> dict[str, dict[str, object]]:
    return json.loads((out / "s.json").read_text())["parts"]


def test_a_part_that_fails_is_written_down_and_ends_no_other(tmp_path: Path) -> None:
    found, said = record(tmp_path)

    def fails() -> dict[str, int]:
        assert written(tmp_path) == {"a": {"x": 1}}  # at once, not at the end
        raise torch.OutOfMemoryError("the card is full")

    found.part("a", lambda: {"x": 1})
    found.part("b", fails)
    found.part("c", lambda: {"x": float("nan")})
    found.part("d", lambda: {"passed": False})
    found.part("e", lambda: {"passed": True})
    assert list(written(tmp_path)) == ["a", "b", "c", "d", "e"]
    assert written(tmp_path)["b"] == {"failed": "OutOfMemoryError: the card is full"}
    assert found.failures() == ["b", "c", "d"]
    assert not json.loads((tmp_path / "s.json").read_text())["complete"]
    assert any("b failed" in line for line in said)


def test_a_part_that_does_not_fit_is_skipped(tmp_path: Path) -> None:
    found, _ = record(tmp_path)
    found.part("long", lambda: {"x": 1}, needs=61.0)
    found.part("short", lambda: {"x": 1}, needs=30.0)
    assert "skipped" in written(tmp_path)["long"]
    assert written(tmp_path)["short"] == {"x": 1}
    assert found.failures() == []


def test_sections_share_the_minutes() -> None:
    found = shares(9, SECTIONS)
    assert sum(found.values()) == pytest.approx(9)
    assert found["rung4"] / found["parity"] == pytest.approx(SHARES["rung4"] / SHARES["parity"])
    assert shares(9, ("parity",)) == {"parity": 9}
    lines = plan_lines(tiny(Path("o")))
    assert len(lines) == 1 + len(SECTIONS)
    assert "rung4" in lines[-1]


def test_a_process_that_fails_or_hangs_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "GRACE", 0.5)
    begun: dict[str, float] = {}

    def process(options: GPUOptions) -> list[str]:
        (name,) = options.sections
        begun[name] = options.minutes
        path = str(tmp_path / f"{name}.json")
        code = {
            "parity": WRITES.format(path=path), "speed": "import sys; sys.exit(3)",
            "processes": "import time; time.sleep(60)", "rung4": WRITES.format(path=path),
        }[name]  # fmt: skip
        return [sys.executable, "-S", "-c", code]

    begin = time.monotonic()
    assert command.apart(tiny(tmp_path, minutes=0.1), process) == 1
    assert time.monotonic() - begin < 40
    assert list(begun) == list(SECTIONS)
    documents = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in SECTIONS}
    assert documents["parity"]["complete"]
    assert documents["rung4"]["complete"]
    assert documents["speed"]["failed"] == "its process ended with status 3"
    assert "failed" in documents["processes"]
    assert "speed: its process ended with status 3" in capsys.readouterr().err


def test_a_section_gets_what_earlier_ones_left(tmp_path: Path) -> None:
    minutes: dict[str, float] = {}

    def process(options: GPUOptions) -> list[str]:
        minutes[options.sections[0]] = options.minutes
        return ["true"]

    command.apart(tiny(tmp_path, minutes=9.0), process)
    assert minutes["parity"] == pytest.approx(1.0, abs=0.1)
    assert minutes["rung4"] == pytest.approx(9.0, abs=0.5)


def test_a_process_is_asked_for_the_same_of_one_section(tmp_path: Path) -> None:
    options = tiny(tmp_path, sections=("rung4",), minutes=2.5, radii=(0.1, 0.2), data=tmp_path)
    words = command.own_command(options)
    assert words[1:4] == ["-m", "experiments", "gpu"]
    parsed = command._parser().parse_args(words[4:])
    assert (parsed.out, parsed.minutes, parsed.sections, parsed.device) == (tmp_path, 2.5, ["rung4"], "cpu")
    assert (parsed.tiny, parsed.data, parsed.rho) == (True, tmp_path, [0.1, 0.2])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--device", "cpu"], "device is 'cpu'; allowed"),
        (["--minutes", "0"], "minutes is 0"),
        (["--rho", "0.1"], "two different ones"),
        (["--rho", "0.1", "0.1"], "two different ones"),
        (["--sections", "parity", "parity"], "each once"),
        (["--reference", "/nowhere"], "guided_diffusion/unet.py"),
        (["--sections", "all"], "invalid choice"),
    ],
)
def test_what_is_not_allowed_ends_with_2(
    given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["gpu", "--out", str(tmp_path / "o"), *given])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_machine_without_a_card_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert main(["gpu", "--out", str(tmp_path / "o"), "--sections", "parity"]) == 1
    assert "torch finds no CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_check_names_what_is_missing_and_weighs_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["gpu", "--out", str(tmp_path / "o"), "--check"]
    assert main([*given, "--device", "cpu", "--tiny"]) == 0
    rehearsal = capsys.readouterr().out
    assert "Nothing is missing" in rehearsal
    assert "fashion-mnist" not in rehearsal  # made images need no files
    monkeypatch.setitem(requirements.PACKAGES, "lmdb", "no_such_module")
    monkeypatch.setitem(requirements.PACKAGES, "no-such-thing", "no_such_thing")
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setattr(requirements.shutil, "which", lambda name: None)
    assert main([*given, "--data", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    missing = said.splitlines()[-1]
    for name in ("lmdb", "no-such-thing", "images: fashion-mnist", "C compiler"):
        assert name in missing
    assert "numpy" not in missing
    assert "CUDA device" in missing or torch.cuda.is_available()
    assert not (tmp_path / "o").exists()


def test_images_are_weighed_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in fashion_mnist.FILES:
        (tmp_path / name).write_bytes(b"x" * 10)
    found = type("Found", (), {"path": tmp_path})
    monkeypatch.setattr(fashion_mnist, "inspect", lambda root: found)
    (need,) = requirements.images(None)
    assert (need.there, need.size) == (True, 10 * len(fashion_mnist.FILES))
