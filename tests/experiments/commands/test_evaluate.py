"""The command line of `evaluate`: options, defaults by preset, missing runs and images, and a run measured."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from experiments import data
from experiments.__main__ import main
from experiments.commands import evaluate as command
from experiments.commands.progress import ShownRows
from experiments.data import Images
from experiments.measures.options import EVALUATIONS, EvaluationOptions
from experiments.measures.runner import Progress
from experiments.training.trainer import train
from tests.experiments.measures.small_rows import CONFIGURATION, OPTIONS, images
from tests.experiments.training.small_runs import run_options


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "adm"
    train(CONFIGURATION, run_options(out), images("train"))
    return out


@pytest.fixture
def small_images(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Images of the small runs' size in place of the data sets'; what was asked for."""
    calls: list[tuple[Any, ...]] = []

    def load(name: str, split: str, size: int, root: Path | None) -> Images:
        calls.append((name, split, size, root))
        return images(split)

    monkeypatch.setattr(data, "load", load)
    return calls


def small(**changes: Any) -> list[str]:
    """The small options as a command line."""
    values = {name: getattr(OPTIONS, name) for name in EvaluationOptions.__dataclass_fields__} | changes
    line = []
    for name, value in values.items():
        line += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    return line


def test_the_defaults_are_those_of_the_preset_and_every_field_is_an_option() -> None:
    for name, options in EVALUATIONS.items():
        assert command.parse(["run", "--evaluation", name]).options == options
        assert command.parse(["run", f"--evaluation={name}"]).options == options
    assert command.parse(["run", *small()]).options == OPTIONS
    assert command.parse(["run"]).average == "all"


@pytest.mark.parametrize("dataset", ["cifar10", "lsun-tower", "ffhq", "fashion-mnist"])
def test_a_run_on_the_papers_data_is_measured_at_its_sizes(dataset: str, tmp_path: Path) -> None:
    (tmp_path / "configuration.json").write_text(json.dumps({"dataset": dataset}))
    name: Any = "tiny" if dataset == "fashion-mnist" else "full"
    options = command.parse([str(tmp_path), "--average", "ema"])
    assert (options.evaluation, options.options) == (name, EVALUATIONS[name])
    changed = command.parse(["--images", "100", str(tmp_path)]).options
    assert changed == dataclasses.replace(EVALUATIONS[name], images=100)
    assert command.parse([str(tmp_path), "--evaluation", "demo"]).options == EVALUATIONS["demo"]


@pytest.mark.parametrize("given", [["run", "--shard", "2/2"], ["run", "--shard", "x"], ["run", "--workers", "0"]])
def test_parts_that_are_not_there_are_refused(given: list[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse(given)


def test_parts_are_torchruns_or_the_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command.share(None) == (0, 1)
    assert command.share("1/3") == (1, 3)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    assert command.share(None) == (2, 4)
    with pytest.raises(ValueError, match="none where torchrun has started 4 processes"):
        command.share("1/3")
    with pytest.raises(SystemExit):
        command.parse(["run", "--workers", "2"])


def test_ranks_measure_a_part_each_and_the_last_shows_all(
    run: Path,
    small_images: list[tuple[Any, ...]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = ["evaluate", str(run), "--features", "none", "--device", "cpu", "--out", str(tmp_path), *small()]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert main(given) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["adm-ema.json"]
    first = capsys.readouterr()
    assert "Table 3" not in first.out
    assert "part 1 of 2 is measured" in first.err
    monkeypatch.setenv("RANK", "0")
    assert main(given) == 0
    assert len(list(tmp_path.iterdir())) == 3
    last = capsys.readouterr()
    assert "Table 3" in last.out
    assert "row 2/2 adm+swa: done" in last.err


def test_workers_are_processes_with_a_shard_each(
    run: Path, small_images: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Carried out here, one behind the other, in place of processes."""
    begun: list[list[str]] = []

    def here(jobs: Any, command_of: Any, out: Path, workers: int, say: Any) -> list[str]:
        for job in jobs:
            words = command_of(job.name)
            begun.append(words)
            assert main(words[3:]) == 0
        return []

    monkeypatch.setattr("experiments.study.side_by_side", here)
    given = ["evaluate", str(run), "--features", "none", "--device", "cpu", "--out", str(tmp_path), *small()]
    assert main([*given, "--workers", "2"]) == 0
    assert [words[-1] for words in begun] == ["0/2", "1/2"]
    assert len(list(tmp_path.iterdir())) == 3
    assert main([*given, "--workers", "2"]) == 0  # all is there: no process
    assert len(begun) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["run", "--sigma", "0"], "sigma is 0.0; allowed"),
        (["run", "--samples", "5"], "samples"),
        (["run", "--batch-size", "0"], "batch_size is 0; allowed"),
        (["run", "--gradient-batch", "-5"], "gradient_batch is -5; allowed"),
        (["run", "--evaluation", "huge"], "evaluation"),
        (["run", "--average", "all-of-them"], "average"),
        ([], "RUN"),
    ],
)
def test_what_is_not_allowed_ends_with_2_and_says_so(
    given: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.parse(given)
    assert ended.value.code == 2
    captured = capfd.readouterr()
    assert message.lower() in (captured.out + captured.err).lower()


def test_a_run_is_measured_and_shown_and_given_again_is_only_shown(
    run: Path, small_images: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["evaluate", str(run), "--features", "none", "--device", "cpu", *small()]
    assert main(given) == 0
    out = run / "evaluation"
    assert sorted(path.name for path in out.iterdir()) == ["adm-ema.json", "adm-raw.json", "adm-swa.json"]
    assert ("fashion-mnist", "test", 4, None) in small_images
    first = capsys.readouterr()
    assert "adm+swa" in first.out
    assert "Table 3" in first.out
    assert "row 3/3 adm+swa: done" in first.err
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert main(given) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert "loss" not in second.err
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert json.loads((out / "adm-raw.json").read_text())["row"] == "adm"


def test_one_average_and_another_folder(run: Path, small_images: list[tuple[Any, ...]], tmp_path: Path) -> None:
    given = ["evaluate", str(run), "--features", "none", "--average", "ema", "--out", str(tmp_path / "o"), *small()]
    assert main([*given, "--data", str(tmp_path), "--device", "cpu"]) == 0
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["adm-ema.json"]
    assert small_images[0][3] == tmp_path


def test_missing_runs_images_and_features_are_told_in_a_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["evaluate", str(tmp_path / "none")]) == 1
    assert "is no folder" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--data", str(tmp_path)]) == 1  # no size of 4 pixels
    assert capsys.readouterr().err.startswith("error: ")
    monkeypatch.setattr(data, "load", lambda name, split, size, root: images(split))
    assert main(["evaluate", str(run), "--features", "classifier"]) == 1
    assert "allowed: for fashion-mnist at 8 or 16 or 32" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--features", "inception", "--inception-weights", str(tmp_path / "x")]) == 1
    assert "--features none leaves distances out" in capsys.readouterr().err


def test_the_time_left_is_told_at_the_pace_of_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    shown = ShownRows(2)
    shown(Progress("sam", "loss", 0, 4, 0.0))
    shown(Progress("sam", "readout", 2, 4, 0.5))
    shown(Progress("sam", "", 4, 4, 1.0))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "row 1/2 sam: loss (1/4)"
    assert lines[1].startswith("row 1/2 sam: readout (3/4), about 00:00:0")
    assert lines[2].startswith("row 1/2 sam: done in")


@pytest.mark.parametrize("name", ["evaluate", "reproduce"])
def test_the_download_of_inceptions_weights_can_be_allowed(
    name: str, run: Path, small_images: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[bool] = []

    def recorded(*args: Any, download: bool, **kwargs: Any) -> None:
        allowed.append(download)
        raise ValueError("far enough")

    monkeypatch.setattr("experiments.measures.subject.gathered", recorded)
    given = {
        "evaluate": ["evaluate", str(run)],
        "reproduce": ["reproduce", "--config", "fashion-mnist-tiny", "--out", str(tmp_path / "o")],
    }[name]
    assert main([*given, "--inception-download"]) == 1
    assert main(given) == 1
    assert allowed == [True, False]
