"""Every option of every command with values that will not do: a line and a status, never a traceback.

Options are those that a command's own help lists, so a new one is swept by itself. A fixed number of command lines of
each command by default; with Hypothesis's profile "thorough" many more.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.command_lines import Ended, check, hostile_values, options_of, run

EXAMPLES = max(5, settings.get_profile(settings.get_current_profile_name()).max_examples // 40)
"""Of each command."""
THOROUGH = EXAMPLES >= 250
"""Whether all command lines are tried."""
MODEL = "tests.flatness.cli.models:mlp"
SMALL = (
    *("--images", "4", "--draws", "2", "--curve-draws", "2", "--curve-rms", ".01", "--bits", "4", "--steps", "2"),
    *("--exposure-images", "4", "--device", "cpu", "--data", "DATA"),
)
TINY = ("--config", "fashion-mnist-tiny", "--out", "NEW")
MISSING = ("--config", "lsun-tower", "--out", "NEW", "--data", "EMPTY")
"""Of a data set that is not there."""
COMMANDS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "flatness measure": ("flatness.cli", ("measure",), (MODEL, *SMALL)),
    "flatness compare": ("flatness.cli", ("compare",), (MODEL, MODEL, *SMALL)),
    "flatness path": ("flatness.cli", ("path",), (MODEL, MODEL, "--images", "4", "--points", "3", "--data", "DATA")),
    "toy": ("toy", (), ("regimes", "--so-far", "--quick")),
    "theory": ("theory", (), ("explain", "no-such-claim")),
    "paper_figs": ("paper_figs", (), ("--list",)),
    "findings": ("findings", (), ("--folder", "EMPTY")),
    "findings.accept": ("findings.accept", (), ("FILE",)),
    "benchmarks": ("benchmarks", (), ("no-such-room",)),
    "data": ("experiments", ("data",), ("fashion-mnist", "--no-download", "--root", "EMPTY")),
    "train, dry": ("experiments", ("train",), (*TINY, "--dry-run")),
    "train": ("experiments", ("train",), MISSING),
    "sample": ("experiments", ("sample",), ("EMPTY", "--out", "NEW")),
    "evaluate": ("experiments", ("evaluate",), ("EMPTY",)),
    "measure": ("experiments", ("measure",), ("EMPTY", *SMALL)),
    "reproduce": ("experiments", ("reproduce",), MISSING),
    "bridge": ("experiments", ("bridge",), ("--runs", "EMPTY", "--toy", "EMPTY")),
    "plan": ("experiments", ("plan",), ("--configs", "fashion-mnist-tiny")),
    "gpu": ("experiments", ("gpu",), ("--out", "NEW", "--sections", "none")),
}
"""By name: the module, the command's own word, and further words with which it does little or nothing."""
LONG = {"--download", "--measure", "--inception-download", "--thorough", "--write", "--config", "--sections"}
"""Options that ask for downloads, for minutes, or for files of this repository, or that undo the words above."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run, with data for the instruments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FLATNESS_DATA", str(tmp_path / "empty"))
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).uniform(-1, 1, (4, 1, 4, 4)))
    return tmp_path


@functools.cache
def options(name: str) -> list[str]:
    module, command, _ = COMMANDS[name]
    return [option for option in options_of(module, *command) if option not in LONG]


def line(name: str, folder: Path, *more: str) -> Ended:
    """A command with its own words and more."""
    module, command, words = COMMANDS[name]
    paths = {"EMPTY": folder / "empty", "FILE": folder / "file", "NEW": folder / "new", "DATA": folder / "data.npz"}
    return run(module, [*command, *(str(paths.get(word, word)) for word in words), *more])


@pytest.mark.parametrize("name", COMMANDS)
@given(data=st.data())
@settings(
    deadline=None, max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
def test_whatever_stands_after_an_option_is_a_line_and_a_status(name: str, place: Path, data: st.DataObject) -> None:
    values = hostile_values(place)
    if not options(name):
        check(line(name, place, *data.draw(st.sampled_from(sorted(values.values())))), name)
        return
    option = data.draw(st.sampled_from(options(name)))
    value = data.draw(st.sampled_from(sorted(values)))
    swept(name, place, option, value, values)


def swept(name: str, place: Path, option: str, value: str, values: dict[str, list[str]]) -> int:
    """The status of one command line, which is held to what all of them are: refused, it has written nothing."""
    before = sorted(place.rglob("*"))
    ended = line(name, place, option, *values[value])
    check(ended, f"{name} {option} {value}")
    if ended.status == 2:
        assert sorted(place.rglob("*")) == before, f"{name} {option} {value}: refused, and something was written"
    return ended.status


@pytest.mark.skipif(not THOROUGH, reason="all of them take an hour: --hypothesis-profile=thorough")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_with_every_value(name: str, place: Path) -> None:
    values = hostile_values(place)
    statuses = [swept(name, place, option, value, values) for option in options(name) for value in values]
    print(f"{name}: {len(statuses)} command lines, {sum(map(bool, statuses))} refused")


STATUSES = {
    **dict.fromkeys(("flatness measure", "flatness compare", "flatness path", "toy", "plan", "train, dry"), 0),
    **dict.fromkeys(("train", "sample", "evaluate", "findings.accept"), 1),
    "gpu": 2,
}


@pytest.mark.parametrize("name", STATUSES)
def test_the_command_lines_that_are_swept_from_do_what_is_meant(name: str, place: Path) -> None:
    hostile_values(place)
    ended = line(name, place)
    check(ended, name)
    assert ended.status == STATUSES[name], ended.err


FOLDERS = [
    "flatness measure",
    "flatness path",
    "train, dry",
    "sample",
    "evaluate",
    "measure",
    "reproduce",
    "gpu",
    "toy",
]


@pytest.mark.parametrize("name", [*FOLDERS, "paper_figs", "benchmarks"])
def test_a_value_that_is_empty_is_refused_and_not_taken_for_this_folder(name: str, place: Path) -> None:
    """As where a variable of the shell is not set."""
    before = sorted(place.iterdir())
    for words in (("--out", ""), ("--out=",)):
        ended = line(name, place, *words)
        check(ended, name)
        assert (ended.status, ended.err.count("\n")) == (2, 1)
        assert ended.err.startswith("error: --out is ''; allowed: ")
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plan", ("--micro-batch", "32")),
        ("toy", ("--workers", "2")),
        ("toy", ("--data", "EMPTY")),
        ("train, dry", ("--rho", "0.1")),
        ("train, dry", ("--method", "sam", "--late-start", "0.9")),
        ("train, dry", ("--method", "sam", "--every", "5")),
        ("sample", ("--eta", "0")),
        ("sample", ("--granularity", "tensor")),
        ("sample", ("--scheme", "symmetric")),
        ("reproduce", ("--point-sizes", "small")),
        ("reproduce", ("--features", "none", "--inception-weights", "FILE")),
        ("gpu", ("--sections", "parity", "--rho", ".01", ".03")),
        ("flatness measure", ("--probes", "10")),
        ("flatness compare", ("--gradient-batch", "8")),
        ("measure", ("--rho", "0.05")),
    ],
)
def test_an_option_that_cannot_apply_is_refused_at_its_defaults_value(
    name: str, words: tuple[str, ...], place: Path
) -> None:
    ended = line(name, place, *words)
    check(ended, name)
    assert ended.status == 2
    named = [word.lstrip("-") for word in words if word.startswith("--")][-1]
    assert re.search(named.replace("-", "[-_]"), ended.err)


def test_every_module_that_is_a_command_is_swept() -> None:
    root = Path(__file__).parent.parent
    rooms = ("flatness", "toy", "theory", "paper_figs", "findings", "benchmarks", "experiments")
    begun = {path.parent for room in rooms for path in (root / room).rglob("__main__.py")}
    swept = {module.replace(".", os.sep) for module, _, _ in COMMANDS.values()}
    assert {str(folder.relative_to(root)) for folder in begun} <= swept


@pytest.mark.parametrize(
    ("variables", "wrong"),
    [
        ({"RANK": "abc"}, "RANK"),
        ({"RANK": ""}, "RANK"),
        ({"RANK": "-1"}, "RANK"),
        ({"RANK": "1"}, "RANK"),
        ({"RANK": "9" * 40}, "RANK"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE"),
    ],
)
@pytest.mark.parametrize("name", ["train", "sample", "evaluate", "measure", "reproduce", "bridge", "plan"])
def test_the_environment_is_told_in_a_line(
    name: str, variables: dict[str, str], wrong: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    ended = line(name, place)
    check(ended, name)
    assert ended.status == 2
    assert ended.err.startswith(f"error: {wrong} is ")
    assert ended.err.count("\n") == 1
