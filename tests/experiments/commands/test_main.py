"""`python -m experiments`: commands are found, and what goes wrong is told in a line."""

import importlib
import time
from pathlib import Path

import pytest

from experiments.__main__ import EXTRAS, PATIENCE, main
from experiments.adm import ADM
from experiments.commands import COMMANDS, train
from experiments.training.checkpoints import CheckpointError
from findings.boundary import INTERRUPTED, TRACEBACK

Captured = pytest.CaptureFixture[str]


def test_every_command_is_a_module_with_help(capsys: Captured) -> None:
    assert main(["--help"]) == 0
    usage = capsys.readouterr().out
    for name, what in COMMANDS.items():
        assert f"{name} " in usage
        assert what in usage
        assert callable(importlib.import_module(f"experiments.commands.{name}").main)
        with pytest.raises(SystemExit) as exit_of:
            main([name, "--help"])
        assert exit_of.value.code == 0
        assert f"python -m experiments {name}" in capsys.readouterr().out


def test_without_a_command_or_with_another_one(capsys: Captured) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "error: COMMAND is 'trian'; allowed: " + ", ".join(COMMANDS) + "\n"


def never_built(*arguments: object) -> None:
    raise AssertionError("the network was built")


def test_missing_data_is_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr(ADM, "__init__", never_built)
    words = ["train", "--config", "cifar10", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cifar10: ")
    assert str(tmp_path / "data") in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_rank_0_speaks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """torchrun ends the other ranks when the first has failed: before that they say nothing, and wait."""
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        assert capsys.readouterr() == ("", "")
        waited.append(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    missing = ["train", "--data", str(tmp_path), "--out", str(tmp_path / "run")]
    wrong = ["train", "--steps", "0", "--out", str(tmp_path / "run")]
    assert main(missing) == 1
    with pytest.raises(SystemExit):
        main(wrong)
    assert waited == []
    capsys.readouterr()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(missing) == 1
    assert capsys.readouterr().err.startswith("error (rank 1): cifar10: ")
    with pytest.raises(SystemExit):
        main(wrong)
    assert waited == [PATIENCE, PATIENCE]


@pytest.mark.parametrize(
    "error",
    [CheckpointError("of another run"), FloatingPointError("step 3"), OSError("disk full"), ValueError("wrong")],
)
def test_errors_that_say_what_to_do_are_a_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def fails(options: object) -> int:
        raise error

    monkeypatch.setattr(train, "_train", fails)
    assert main(["train", "--out", "run"]) == 1
    assert capsys.readouterr().err == f"error: {error}\n"
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(type(error)):
        main(["train", "--out", "run"])


class WithoutWordsError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("the shapes do not fit\nand more"), "RuntimeError: the shapes do not fit (test_main.py:"),
        (KeyError("x"), "KeyError: 'x' (test_main.py:"),
        (WithoutWordsError(), "its text cannot be had (RuntimeError)"),
        (AssertionError(), "AssertionError (test_main.py:"),
        (RecursionError("too deep"), "RecursionError: too deep"),
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), "out of memory: DefaultCPU"),
        (ModuleNotFoundError("No module named 'experiments.nonsense'", name="experiments.nonsense"), "ModuleNotFound"),
    ],
)
def test_any_other_error_is_a_line_with_its_place(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def fails(options: object) -> int:
        raise error

    monkeypatch.setattr(train, "_train", fails)
    assert main(["train", "--out", "run"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert words in printed
    assert printed.count("\n") == 1
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(type(error)):
        main(["train", "--out", "run"])


@pytest.mark.parametrize(
    ("name", "value"),
    [("RANK", "abc"), ("RANK", "-1"), ("RANK", ""), ("RANK", "1"), ("LOCAL_RANK", "1.5"), ("WORLD_SIZE", "0"),
     ("WORLD_SIZE", "²"), ("WORLD_SIZE", "9" * 5000)],
)  # fmt: skip
@pytest.mark.parametrize("command", ["train", "sample", "data"])
def test_torchruns_variables_are_checked(
    command: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv(name, value)
    assert main([command, "--help"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {name} is ")


@pytest.mark.parametrize("name", EXTRAS)
def test_a_missing_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def misses(options: object) -> int:
        raise ModuleNotFoundError(name=f"{name}.part")

    monkeypatch.setattr(train, "_train", misses)
    assert main(["train", "--out", "run"]) == 1
    assert f"{name}.part is not installed; pip install" in capsys.readouterr().err


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_train", interrupted)
    assert main(["train", "--out", "run"]) == INTERRUPTED
    assert capsys.readouterr().err == "error: interrupted\n"


def test_data_reports_with_its_status(tmp_path: Path, capsys: Captured) -> None:
    assert main(["data", "cifar10", "--root", str(tmp_path), "--no-download"]) == 1
    assert "cifar10: to download by hand" in capsys.readouterr().out
    for words in (["data"], ["data", "mnist"]):
        with pytest.raises(SystemExit) as exit_of:
            main(words)
        assert exit_of.value.code == 2
