"""The command line of `evaluate`: options, defaults by preset, missing runs and images, and a run measured."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments import data
from experiments.__main__ import main
from experiments.commands import evaluate as command
from experiments.commands.rows_shown import ShownRows
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
    asked: list[tuple[Any, ...]] = []

    def load(name: str, split: str, size: int, root: Path | None) -> Images:
        asked.append((name, split, size, root))
        return images(split)

    monkeypatch.setattr(data, "load", load)
    return asked


def small(**changes: Any) -> list[str]:
    """The small options as a command line."""
    values = {name: getattr(OPTIONS, name) for name in EvaluationOptions.__dataclass_fields__} | changes
    found = []
    for name, value in values.items():
        found += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else (value,))]
    return found


def test_the_defaults_are_those_of_the_preset_and_every_field_is_an_option() -> None:
    for name, options in EVALUATIONS.items():
        assert command.parse(["run", "--evaluation", name]).options == options
        assert command.parse(["run", f"--evaluation={name}"]).options == options
    assert command.parse(["run", *small()]).options == OPTIONS
    assert command.parse(["run"]).average == "all"


@pytest.mark.parametrize(
    ("given", "said"),
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
    given: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.parse(given)
    assert ended.value.code == 2
    captured = capfd.readouterr()
    assert said.lower() in (captured.out + captured.err).lower()


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
    assert "holds no checkpoint" in capsys.readouterr().err
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
    asked: list[bool] = []

    def recorded(*args: Any, download: bool, **kwargs: Any) -> None:
        asked.append(download)
        raise ValueError("far enough")

    monkeypatch.setattr("experiments.measures.material.gathered", recorded)
    given = {
        "evaluate": ["evaluate", str(run)],
        "reproduce": ["reproduce", "--config", "fashion-mnist-tiny", "--out", str(tmp_path / "o")],
    }[name]
    assert main([*given, "--inception-download"]) == 1
    assert main(given) == 1
    assert asked == [True, False]
