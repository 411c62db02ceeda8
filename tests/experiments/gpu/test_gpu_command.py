"""Sections in processes of their own, documents after each part, and what --check finds."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from experiments.__main__ import main
from experiments.commands import gpu as command
from experiments.data import fashion_mnist
from experiments.gpu import requirements, wheels
from experiments.gpu.options import SECTIONS, SHARES, GPUOptions, plan_lines, shares
from experiments.gpu.record import Record
from experiments.gpu.wheels import recorded

BARE = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from experiments.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
WRITES = """
import json, pathlib
pathlib.Path({path!r}).write_text(json.dumps({{"complete": True, "parts": {{}}}}))
"""


def tiny(out: Path, **changes: object) -> GPUOptions:
    return GPUOptions(**{"out": out, "device": "cpu", "tiny": True, **changes})  # type: ignore[arg-type]


def record(out: Path, minutes: float = 1.0) -> tuple[Record, list[str]]:
    lines: list[str] = []
    return Record(out / "s.json", "s", {}, torch.device("cpu"), minutes, lines.append), lines


def written(out: Path) -> dict[str, dict[str, object]]:
    return json.loads((out / "s.json").read_text())["parts"]


def test_a_part_that_fails_is_written_down_and_ends_no_other(tmp_path: Path) -> None:
    section, lines = record(tmp_path)

    def fails() -> dict[str, int]:
        assert written(tmp_path) == {"a": {"x": 1}}  # at once, not at the end
        raise torch.OutOfMemoryError("the card is full")

    section.part("a", lambda: {"x": 1})
    section.part("b", fails)
    section.part("c", lambda: {"x": float("nan")})
    section.part("d", lambda: {"passed": False})
    section.part("e", lambda: {"passed": True})
    assert list(written(tmp_path)) == ["a", "b", "c", "d", "e"]
    assert written(tmp_path)["b"] == {"failed": "OutOfMemoryError: the card is full"}
    assert section.failures() == ["b", "c", "d"]
    assert not json.loads((tmp_path / "s.json").read_text())["complete"]
    assert any("b failed" in line for line in lines)


def test_a_part_that_does_not_fit_is_skipped(tmp_path: Path) -> None:
    section, _ = record(tmp_path)
    section.part("long", lambda: {"x": 1}, needs=61.0)
    section.part("short", lambda: {"x": 1}, needs=30.0)
    assert "skipped" in written(tmp_path)["long"]
    assert written(tmp_path)["short"] == {"x": 1}
    assert section.failures() == []


def test_sections_share_the_minutes() -> None:
    minutes = shares(9, SECTIONS)
    assert sum(minutes.values()) == pytest.approx(9)
    assert minutes["rung4"] / minutes["parity"] == pytest.approx(SHARES["rung4"] / SHARES["parity"])
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
    other = command.own_command(tiny(tmp_path, sections=("parity",), radii=(0.1, 0.2)))
    assert "--rho" not in other, "which it would refuse"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--device", "cpu"], "device is 'cpu'; allowed"),
        (["--minutes", "0"], "minutes is 0"),
        (["--rho", "0.1"], "two different ones"),
        (["--rho", "0.1", "0.1"], "two different ones"),
        (["--sections", "parity", "parity"], "each once"),
        (["--reference", "/nowhere"], "guided_diffusion/unet.py"),
        (["--sections", "all"], "invalid choice"),
        (["--sections", "parity", "--rho", "0.1", "0.2"], "rho is [0.1, 0.2]; allowed: --sections with rung4"),
    ],
)
def test_what_is_not_allowed_ends_with_2(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["gpu", "--out", str(tmp_path / "o"), *given])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("sections", [["parity"], ["parity", "speed"], []])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_machine_without_a_card_is_told_before_a_process_is_started(
    sections: list[str],
    device: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(command, "_ended", lambda *given: pytest.fail("a process was started"))
    words = ["--sections", *sections] if sections else []
    assert main(["gpu", "--out", str(tmp_path / "o"), "--device", device, *words]) == 1
    error = capsys.readouterr().err
    assert "torch finds no CUDA device" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def checked(out: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, list[str]]:
    """The status of --check, and its lines; where it is not 0, a line says so apart."""
    status = main(["gpu", "--out", str(out / "o"), "--check", *more])
    assert not (out / "o").exists()
    said = capsys.readouterr()
    assert said.err.count("\n") == status
    assert said.err.startswith("error: what a section cannot do without is missing: " * status)
    return status, said.out.splitlines()


def mebibytes(lines: list[str], what: str) -> float:
    """The size that the line of one thing has."""
    (line,) = [line for line in lines if line.startswith(f"{what}  ")]
    (size,) = re.findall(r"([\d,]+\.\d) MiB", line)
    return float(size.replace(",", ""))


def test_a_rehearsal_misses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = checked(tmp_path, capsys, "--device", "cpu", "--tiny")
    assert status == 0
    assert lines[-1] == "Nothing is missing"
    assert "fashion-mnist" not in "".join(lines)  # made images need no files
    assert "CUDA" not in "".join(lines)


def test_the_check_names_what_is_missing_and_weighs_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(requirements.PACKAGES, "lmdb", "no_such_module")
    monkeypatch.setitem(requirements.PACKAGES, "no-such-thing", "no_such_thing")
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.setattr(requirements.shutil, "which", lambda name: None)
    status, lines = checked(tmp_path, capsys, "--data", str(tmp_path))
    assert status == 1
    missing = lines[-1].partition(": ")[2].split(", ")
    for name in ("lmdb", "no-such-thing", "images: fashion-mnist", "C compiler"):
        assert name in missing
    assert "numpy" not in missing
    assert "CUDA device" in missing or torch.cuda.is_available()
    assert mebibytes(lines, "lmdb") == pytest.approx(recorded()["lmdb"].size / 2**20, abs=0.05)
    assert mebibytes(lines, "images: fashion-mnist") == pytest.approx(29.4)
    sizes = [mebibytes(lines, name) for name in missing if name in recorded() or "mnist" in name or "'s" in name]
    (carried,) = re.findall(r"Missing, ([\d,]+) MiB to carry", lines[-1])
    assert float(carried.replace(",", "")) == pytest.approx(sum(sizes), abs=1)


@pytest.mark.parametrize("cuda", ["13.0", None])
def test_a_build_for_the_cpu_is_no_build_for_a_card(
    cuda: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    _, lines = checked(tmp_path, capsys)
    missing = lines[-1].partition(": ")[2].split(", ")
    assert ("torch" in missing) == ("CUDA's libraries" in missing) == (cuda is None)
    if cuda is None:
        assert mebibytes(lines, "torch") == pytest.approx(recorded()["torch"].size / 2**20, abs=0.05)
        of_cuda = [wheel.size for wheel in recorded().values() if wheel.of_cuda]
        assert len(of_cuda) > 10
        assert mebibytes(lines, "CUDA's libraries") == pytest.approx(sum(of_cuda) / 2**20, abs=0.05)


def test_the_check_answers_where_nothing_is_installed(tmp_path: Path) -> None:
    """A Python without any package, as on a fresh machine."""
    command = [sys.executable, "-I", "-S", "-c", BARE, str(requirements.ROOT), "gpu", "--check", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: what a section cannot do without is missing: torch, ")
    assert done.stderr.count("\n") == 1
    lines = done.stdout.splitlines()
    missing = lines[-1].partition(": ")[2].split(", ")
    assert set(requirements.PACKAGES) <= set(missing)
    assert all(mebibytes(lines, name) > 0 for name in requirements.PACKAGES)


def test_the_record_of_wheels_has_every_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewed by `python -m experiments.gpu.wheels`, where this fails after a pin has changed."""
    pins = dict(line.lower().split("==") for line in requirements.CONSTRAINTS.read_text().split() if "==" in line)
    pins = {wheels.normalised(name): version for name, version in pins.items()}
    have = recorded()
    assert {wheels.normalised(name) for name in requirements.PACKAGES} <= set(have)
    assert {name: wheel.version for name, wheel in have.items() if name in pins} == {
        name: version for name, version in pins.items() if name in have
    }
    # Everything that is no library of CUDA's comes from the pins
    assert {name for name, wheel in have.items() if not wheel.of_cuda} <= set(pins) | {"setuptools"}


def test_a_record_of_wheels_is_what_pip_says(monkeypatch: pytest.MonkeyPatch) -> None:
    report = {
        "environment": {"python_version": "3.11", "sys_platform": "linux", "platform_machine": "x86_64"},
        "install": [
            {"metadata": {"name": name, "version": "1.0"}, "download_info": {"url": f"https://index/{name}"}}
            for name in ("Typing_Extensions", "nvidia-nccl-cu13", "triton")
        ],
    }
    monkeypatch.setattr(wheels, "weighed", lambda url: len(url))
    document = wheels.document(report)
    assert document["platform"] == "CPython 3.11, linux, x86_64"
    assert document["wheels"]["typing-extensions"] == {
        "version": "1.0",
        "bytes": len("https://index/Typing_Extensions"),
    }
    of_cuda = {name: wheels.Wheel(name, "1.0", 1).of_cuda for name in document["wheels"]}
    assert of_cuda == {"typing-extensions": False, "nvidia-nccl-cu13": True, "triton": True}


def test_images_are_weighed_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in fashion_mnist.FILES:
        (tmp_path / name).write_bytes(b"x" * 10)
    status = type("Found", (), {"path": tmp_path})
    monkeypatch.setattr(fashion_mnist, "inspect", lambda root: status)
    (need,) = requirements.images(None)
    assert (need.there, need.size) == (True, 10 * len(fashion_mnist.FILES))
