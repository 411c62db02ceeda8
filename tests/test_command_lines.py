"""Every option of every command with values that will not do: a line and a status, never a traceback.

Options are those that a command's own help lists, so a new one is swept by itself. A fixed number of command lines of
each command by default; with Hypothesis's profile "thorough" many more.
"""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from flatness.images import PIXEL_LIMIT
from tests.command_lines import Ended, LateError, check, hostile_values, options_of, run

THOROUGH = settings.get_current_profile_name() == "thorough"
"""Whether all command lines are tried."""
EXAMPLES = 1000 if THOROUGH else 5
"""Of each command."""
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
    "bridge": ("experiments", ("bridge",), ("EMPTY",)),
    "plan": ("experiments", ("plan",), ("--configs", "fashion-mnist-tiny")),
    "gpu": ("experiments", ("gpu",), ("--out", "NEW", "--sections", "none")),
}
"""By name: the module, the command's own word, and further words with which it does little or nothing."""
LONG = {
    "--download",
    "--dry-run",
    "--measure",
    "--inception-download",
    "--thorough",
    "--write",
    "--config",
    "--sections",
}
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
    return run(module, placed((*command, *words, *more), folder))


def placed(words: Sequence[str], folder: Path) -> list[str]:
    """The words, with paths in the folder where they name some."""
    paths = {"EMPTY": folder / "empty", "FILE": folder / "file", "NEW": folder / "new", "DATA": folder / "data.npz"}
    paths |= {"BELOW": folder / "file" / "below"}
    return [str(paths.get(word, word)) for word in words]


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
    statuses, wrong = [], []
    for option, value in itertools.product(options(name), values):
        try:
            statuses.append(swept(name, place, option, value, values))
        except (Exception, LateError) as error:  # all of them, not the first alone
            wrong.append(f"{name} {option} {value}: {error!r}"[-600:])
    print(f"{name}: {len(statuses) + len(wrong)} command lines, {sum(map(bool, statuses))} refused, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)


STATUSES: dict[str, int] = {
    **dict.fromkeys(("flatness measure", "flatness compare", "flatness path", "toy", "plan", "train, dry"), 0),
    **dict.fromkeys(("paper_figs", "findings"), 0),
    **dict.fromkeys(("train", "sample", "evaluate", "reproduce", "bridge", "data", "findings.accept"), 1),
    **dict.fromkeys(("measure", "theory", "benchmarks", "gpu"), 2),
}
REASONS: dict[str, str] = {
    **dict.fromkeys(("train", "reproduce"), "lsun-tower: data.mdb"),
    **dict.fromkeys(("sample", "evaluate", "measure"), "checkpoint"),
    "bridge": "plan.json",
    "data": "fashion-mnist is not in",
    "findings.accept": "cannot be accepted",
    "theory": "label is",
    "benchmarks": "ROOM is",
    "gpu": "sections",
}
"""What the line says of those that are refused: they have read their options, and come to what they are for."""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_lines_that_are_swept_from_do_what_is_meant(name: str, place: Path) -> None:
    hostile_values(place)
    before = sorted(place.rglob("*"))
    ended = line(name, place)
    check(ended, name)
    assert ended.status == STATUSES[name], ended.err
    if ended.status:
        assert REASONS[name] in ended.err
        assert sorted(place.rglob("*")) == before


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
        ("train, dry", ("--conv-resample",)),
        ("sample", ("--eta", "0")),
        ("sample", ("--granularity", "tensor")),
        ("sample", ("--scheme", "symmetric")),
        ("reproduce", ("--point-sizes", "small")),
        ("reproduce", ("--features", "none", "--inception-weights", "FILE")),
        ("gpu", ("--sections", "parity", "--rho", ".01", ".03")),
        ("flatness measure", ("--probes", "10")),
        ("flatness compare", ("--gradient-batch", "8")),
        ("measure", ("--rho", "0.05")),
        ("flatness measure", ("--pixel-limit", str(PIXEL_LIMIT))),
        ("flatness path", ("--pixel-limit", str(PIXEL_LIMIT))),
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
@pytest.mark.parametrize("name", [name for name, (module, _, _) in COMMANDS.items() if module == "experiments"])
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


@pytest.mark.parametrize("name", [name for name, (module, _, _) in COMMANDS.items() if module != "experiments"])
def test_what_torchrun_sets_is_nothing_to_the_others(name: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile_values(place)
    for variable, value in (("RANK", "abc"), ("LOCAL_RANK", "x"), ("WORLD_SIZE", "0")):
        monkeypatch.setenv(variable, value)
    ended = line(name, place)
    check(ended, name)
    assert ended.status == STATUSES[name], ended.err


@pytest.mark.parametrize(
    ("variable", "name"),
    [*(("FLATNESS_DATA", name) for name in ("data", "train", "reproduce")),
     *(("FLATNESS_RUNS", name) for name in ("paper_figs", "findings"))],
)  # fmt: skip
def test_folders_of_the_environment_that_are_none_are_a_line(
    variable: str, name: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile_values(place)
    before = sorted(place.rglob("*"))
    for value in ("nowhere", "file", "/dev/null", ""):
        monkeypatch.setenv(variable, value)
        ended = line(name, place)
        check(ended, f"{variable}={value} {name}")
        if ended.status:
            assert sorted(place.rglob("*")) == before


class WithoutWordsError(Exception):
    """An error whose texts cannot be had."""

    def __str__(self) -> str:
        """No text."""
        raise RuntimeError("no text")

    __repr__ = __str__


def fails(error: Exception) -> None:
    raise error


def recurses() -> None:
    recurses()


RAISED: dict[str, Callable[[], object]] = {
    "torch has no memory": lambda: torch.empty(2**62, dtype=torch.uint8),
    "numpy has no memory": lambda: np.empty(2**62, np.uint8),
    "Python has no memory": lambda: bytearray(2**62),
    "a device has no memory": lambda: fails(torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 9 GiB")),
    "no text": lambda: fails(WithoutWordsError()),
    "no text of a part": lambda: fails(ValueError(WithoutWordsError())),
    "too deep": recurses,
    "a key": lambda: dict[str, int]()["weights"],
    "nothing said": lambda: fails(AssertionError()),
    "lines": lambda: fails(RuntimeError("first\n\nsecond")),
}
"""What a command may meet in its midst, by what it is: as it is really raised, where this machine can."""
MIDST: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "flatness measure": ("flatness.cli.runner.gathered", (MODEL, *SMALL, "--out", "NEW")),
    "flatness compare": ("flatness.cli.sources.loaded", (MODEL, MODEL, *SMALL, "--out", "NEW")),
    "flatness path": ("flatness.cli.path.path_of", (MODEL, MODEL, "--data", "DATA", "--out", "NEW")),
    "toy": ("toy.ladder_runs.work_of", ("regimes", "--so-far", "--quick", "--out", "NEW")),
    "theory": ("theory.ledger.statements", None),
    "paper_figs": ("paper_figs.build.up_to_date", ("--out", "NEW")),
    "findings": ("findings.ladder_page.columns_of", None),
    "findings.accept": ("findings.checksums.parse_object", None),
    "benchmarks": ("benchmarks.results.read", ("theory", "--out", "NEW")),
    "data": ("experiments.data.fashion_mnist.inspect", None),
    "train, dry": ("experiments.training.planning.memory", None),
    "train": ("experiments.data.load", None),
    "sample": ("experiments.sampling.run.sample_into", None),
    "evaluate": ("experiments.measures.rows.Checkpoint.of", None),
    "measure": ("experiments.sampling.run.load_source", None),
    "reproduce": ("experiments.data.load", None),
    "bridge": ("experiments.measures.layer_rows.Plan.of", None),
    "plan": ("experiments.training.planning.operations", None),
    "gpu": ("experiments.gpu.requirements.needs", ("--out", "NEW", "--check")),
}
"""By command: a function that it calls when it has read its options, and its words, where others than COMMANDS'."""


@pytest.mark.parametrize("what", RAISED)
@pytest.mark.parametrize("name", MIDST)
def test_whatever_is_raised_in_the_midst_is_one_line_and_nothing_is_written(
    name: str, what: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, words = MIDST[name]
    module, command, own = COMMANDS[name]
    monkeypatch.setitem(COMMANDS, name, (module, command, own if words is None else words))
    called = []

    def instead(*given: object, **named: object) -> object:
        called.append(function)
        return RAISED[what]()

    monkeypatch.setattr(function, instead)
    hostile_values(place)
    before = sorted(place.rglob("*"))
    ended = line(name, place)
    check(ended, name)
    assert called
    assert ended.status in (1, 2)
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1, ended.err
    assert ("out of memory" in ended.err or "fit into memory" in ended.err) == what.endswith("memory"), ended.err
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("command", ["measure", "compare", "path"])
def test_a_model_without_storage_is_a_line(command: str, place: Path) -> None:
    words = [command, *["tests.flatness.cli.models:stored_nowhere"] * (1 if command == "measure" else 2)]
    ended = run("flatness.cli", placed((*words, "--data", "DATA", "--out", "NEW"), place))
    check(ended, command)
    assert ended.status == 2
    assert re.fullmatch("error: .*stored_nowhere.* meta .*\n", ended.err)
    assert not (place / "new").exists()


@pytest.mark.parametrize("name", ["flatness measure", "flatness compare", "flatness path", "measure"])
def test_images_are_not_resized_beyond_the_limit(name: str, place: Path) -> None:
    Image.new("L", (4, 4)).save(place / "a.png")
    Image.new("L", (4, 4)).save(place / "b.png")
    ended = line(name, place, "--data", str(place), "--resize", "200000", "--out", str(place / "new"))
    check(ended, name)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert name == "measure" or ended.err.startswith("error: resize is 200000, 40000000000 pixels; allowed: at most ")
    assert not (place / "new").exists()


WRITING: dict[str, tuple[str, ...]] = {
    **{f"flatness {command}": (command, *(MODEL,) * count, "--data", "DATA")
       for command, count in (("measure", 1), ("compare", 2), ("path", 2))},
    "toy": ("images", "--so-far", "--quick"),
    "paper_figs": (),
    "benchmarks": ("theory",),
    "train": ("train", *MISSING),
    "sample": ("sample", "EMPTY"),
    "evaluate": ("evaluate", "EMPTY"),
    "measure": ("measure", "EMPTY", "--data", "DATA"),
    "reproduce": ("reproduce", *MISSING),
    "gpu": ("gpu", "--tiny"),
}  # fmt: skip
"""By command that writes to --out: words with which, given such a folder, it would go on to work."""


@pytest.mark.parametrize("name", WRITING)
def test_out_is_no_file_where_a_folder_is_meant_nor_the_other_way_round(name: str, place: Path) -> None:
    hostile_values(place)
    before = sorted(place.rglob("*"))
    for out in ("EMPTY" if name in ("toy", "benchmarks") else "FILE", "BELOW"):
        words = placed((*WRITING[name], "--out", out), place)
        ended = run(COMMANDS[name][0], words)
        check(ended, name)
        assert ended.status == 2
        assert re.search(f"error: (--)?out (is )?{re.escape(words[-1])}", ended.err)
    assert (place / "file").read_bytes() == b"\x00\xff{not a result"
    assert sorted(place.rglob("*")) == before
