"""Errors out of the user's own code: their part of the traceback, one line, and no other measure lost to it."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from flatness.cli import errors
from flatness.cli.command import run
from flatness.cli.errors import TRACEBACK
from tests.flatness import measures_common as common

Captured = pytest.CaptureFixture[str]
Told = Callable[[str], tuple[int, list[str]]]
NUMBERS = itertools.count()
SMALL = [
    *("--draws", "2", "--curve-draws", "2", "--curve-rms", ".01", "--bits", "4", "--steps", "3"),
    *("--exposure-images", "4", "--device", "cpu"),
]
BEGINNING = """
import torch
from torch import nn
from flatness.diffusion.losses import epsilon_loss
from tests.flatness.networks import BARS, MLP, seeded

def with_loss(loss):
    return seeded(MLP), loss
"""


@pytest.fixture
def data(tmp_path: Path) -> str:
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).uniform(-1, 1, (6, 1, 4, 4)))
    return str(tmp_path / "d.npz")


def written(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's, in the folder that the command is run from; its name."""
    name = f"mine_{next(NUMBERS)}"
    (folder / f"{name}.py").write_text(BEGINNING + code)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.fixture
def lines_of(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> Told:
    """Runs `measure` on what the code's `f` returns: the exit status, and the lines of standard error."""

    def runs(code: str) -> tuple[int, list[str]]:
        name = written(code, tmp_path, monkeypatch)
        status = run(["measure", f"{name}:f", "--data", data, *SMALL])
        return status, capsys.readouterr().err.replace(name, "mine").splitlines()

    return runs


RAISING = {
    "def f():\n    return {}['weights']": ("return {}['weights']", "mine:f raised an error: KeyError: 'weights'"),
    "def f():\n    open('/no/such/file')": ("open('/no/such/file')", "mine:f raised an error: FileNotFoundError: "),
    "def f():\n    raise SystemExit('bye')": ("SystemExit", "mine:f raised an error: SystemExit: bye"),
    "def f():\n    return epsilon_loss(3)": ("return epsilon_loss(3)", "mine:f raised an error: path is 3; allowed: "),
    "import no_such_thing": ("import no_such_thing", "module mine cannot be imported: ModuleNotFoundError: No module"),
    "torch.no_such_thing": ("torch.no_such_thing", "module mine cannot be imported: AttributeError: "),
    "def f(:": ("def f(:", "module mine cannot be imported: SyntaxError: "),
    "def f():\n    return with_loss(lambda m, b: m.absent)": (
        "return with_loss(lambda m, b: m.absent)",
        "f cannot be run on samples of shape (1, 4, 4): AttributeError: 'MLP' object has no attribute 'absent'",
    ),
    "def f():\n    return with_loss(lambda m, b: epsilon_loss(3)(m, b))": (
        "epsilon_loss(3)(m, b)",
        "path is 3; allowed",
    ),
    "def f():\n    return seeded(lambda: nn.Linear(5, 5)), lambda m, b: m(b.x_0)": (
        "lambda m, b: m(b.x_0)",
        "f cannot be run on samples of shape (1, 4, 4): mat1 and mat2 shapes cannot be multiplied",
    ),
}


@pytest.mark.parametrize("code", RAISING)
def test_what_the_users_code_raises_is_shown_where_and_then_told_in_a_line(code: str, lines_of: Told) -> None:
    shown, line = RAISING[code]
    status, lines = lines_of(code)
    assert status == 2
    assert lines[-1].startswith("error: ")
    assert line in lines[-1]
    assert any(shown in above for above in lines[:-1])
    # no frame of this package before theirs
    files = [above for above in lines if above.lstrip().startswith("File ")]
    assert 'mine.py", line' in files[0]


TOLD = {
    "f = 3": "mine:f is no function without arguments; allowed: a function that returns (model, loss)",
    "def f(path):\n    return 3": "mine:f is no function without arguments",
    "g = 3": "module mine has no f",
    "def f():\n    raise torch.OutOfMemoryError('CUDA out of memory')": "mine:f raised an error: out of memory",
    "def f():\n    return with_loss(lambda m, b: None)": "error: f: what loss returned for batch 0 is None; allowed:",
    "def f():\n    return with_loss(lambda m, b: m.last.weight.sum(1) * float('nan'))": (
        "error: f: loss is nan for sample 0 at the unperturbed weights; allowed: finite losses"
    ),
    "def f():\n    model, loss = with_loss(epsilon_loss(BARS))\n    nn.init.constant_(model.last.bias, float('inf'))\n"
    "    return model, loss": "allowed: finite losses (its weight last.bias is not finite)",
    "def f():\n    def loss(m, b):\n        raise MemoryError\n    return with_loss(loss)": (
        "error: f: out of memory with 6 images in a pass: a smaller --batch-size"
    ),
}


@pytest.mark.parametrize("code", TOLD)
def test_what_is_not_raised_by_their_code_is_a_line_alone(code: str, lines_of: Told) -> None:
    status, lines = lines_of(code)
    assert status == 2
    assert len(lines) == 1
    assert TOLD[code] in lines[0]


LATER = """
calls = 0

def f():
    def loss(model, batch):
        global calls
        calls += 1
        if calls > {good}:
            raise KeyError("later")
        return epsilon_loss(BARS)(model, batch)

    return with_loss(loss)

def g():
    return with_loss(epsilon_loss(BARS))

def h():
    def loss(model, batch):
        if len(batch.x_0) > 2:
            raise MemoryError
        return epsilon_loss(BARS)(model, batch)

    return with_loss(loss)
"""


def test_what_is_raised_later_costs_the_measures_it_is_raised_in(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    name = written(LATER.format(good=4), tmp_path, monkeypatch)
    assert run(["measure", f"{name}:f", "--data", data, *SMALL, "--out", "out"]) == 1
    printed = capsys.readouterr().out
    assert "rise, noise 0.01" in printed
    assert f"f: lpf-layer failed: KeyError: 'later' ({name}.py, line 17)" in printed
    measures = json.loads(Path("out/measure.json").read_text())["sources"]["f"]["measures"]
    assert "rise" in measures["lpf-absolute"]
    assert measures["curve"]["failed"].startswith("KeyError")
    monkeypatch.setenv(TRACEBACK, "1")
    anew = written(LATER.format(good=4), tmp_path, monkeypatch)
    with pytest.raises(KeyError):
        run(["measure", f"{anew}:f", "--data", data, *SMALL])


def test_no_network_is_measured_before_all_have_been_run_once(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    name = written(LATER.format(good=0), tmp_path, monkeypatch)
    assert run(["compare", f"{name}:g", f"{name}:f", "--data", data, *SMALL]) == 2
    printed = capsys.readouterr()
    assert "passes" not in printed.err
    assert printed.err.splitlines()[-1] == "error: f cannot be run on samples of shape (1, 4, 4): KeyError: 'later'"


def test_a_network_without_memory_does_not_cost_those_before_it(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    name = written(LATER.format(good=0), tmp_path, monkeypatch)
    assert run(["compare", f"{name}:g", f"{name}:h", "--data", data, *SMALL, "--out", "out"]) == 1
    printed = capsys.readouterr()
    assert "error: h: out of memory with 6 images in a pass" in printed.err
    assert "rise, noise 0.01" in printed.out
    assert list(json.loads(Path("out/measure.json").read_text())["sources"]) == ["g"]


def test_the_check_sees_frames_of_this_package(lines_of: Told) -> None:
    with common.patched(errors, "BETWEEN", ("<frozen ",)), pytest.raises(AssertionError):
        test_what_the_users_code_raises_is_shown_where_and_then_told_in_a_line(next(iter(RAISING)), lines_of)
