"""The command line of `reproduce`, on the real network of the preset for a handful of images."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from experiments import data
from experiments.__main__ import main
from experiments.commands import reproduce as command
from experiments.configuration import PRESETS
from experiments.data import Images, fashion_mnist
from experiments.measures.options import EVALUATIONS
from flatness import EMA
from tests.experiments.commands.test_evaluate import small
from tests.experiments.measures.small_rows import CONFIGURATION, images


def test_options_change_the_preset_and_leave_the_rest() -> None:
    options = command.parse(["--config", "fashion-mnist-tiny", "--out", "o"])
    assert options.base() == PRESETS["fashion-mnist-tiny"]
    given = ["--config", "fashion-mnist-tiny", "--out", "o", "--steps", "400", "--global-batch", "16"]
    options = command.parse([*given, "--precision", "bfloat16", "--rho", "0.1", "0.01", "--seeds", "0", "1"])
    base = options.base()
    assert (base.steps, base.global_batch, base.precision) == (400, 16, "bfloat16")
    assert base.averages.swa_cycle == 1
    assert (options.rho, options.seeds) == ((0.1, 0.01), (0, 1))
    assert (
        dataclasses.replace(
            base, steps=4000, global_batch=64, precision="float32", averages=PRESETS["fashion-mnist-tiny"].averages
        )
        == PRESETS["fashion-mnist-tiny"]
    )
    assert options.run_options(Path("o")).checkpoint_every == 40
    options = command.parse([*given, "--ema-start", "0.5", "--ema-warmup", "0.75"])
    assert options.base().ema == EMA(base.averages.ema_decay, start=200, warmup=0.75)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_papers_configurations_are_measured_at_its_sizes(preset: str) -> None:
    name: Any = "tiny" if preset.startswith("fashion-mnist") else "full"
    options = command.parse(["--config", preset, "--out", "o"])
    assert (options.evaluation, options.options) == (name, EVALUATIONS[name])
    options = command.parse([f"--config={preset}", "--out", "o", "--evaluation", "demo", "--images", "99"])
    assert options.options == dataclasses.replace(EVALUATIONS["demo"], images=99)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--steps", "0"], "steps is 0"),
        (["--rho", "-1"], "rho is -1"),
        (["--rho", "1", "1"], "each value once"),
        (["--micro-batch", "0"], "micro_batch is 0"),
        (["--global-batch", "0"], "global_batch is 0"),
        (["--noise-sigma", "-1"], "noise_sigma is -1"),
        (["--noise-sigma", "0.1", "--methods", "adm"], "noises is"),
        (["--training-images", "0"], "training_images is 0"),
        (["--ema-start", "1"], "averages.ema_start is 1"),
        (["--ema-warmup", "0"], "ema_warmup is 0"),
        (["--at", "5000"], "at is"),
        (["--only", "nobody"], "only is 'nobody'"),
        (["--no-rows"], "rows is False"),
    ],
)
def test_what_is_not_allowed_ends_with_2_before_anything_is_written(
    given: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o"
    assert main(["reproduce", "--config", "fashion-mnist-tiny", "--out", str(out), *given]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("option", ["--batch-size", "--gradient-batch"])
@pytest.mark.parametrize("value", ["0", "-5"])
def test_sizes_of_measuring_are_checked_before_anything_is_trained(
    option: str, value: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o"
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", "--config", "fashion-mnist-tiny", "--out", str(out), option, value])
    assert ended.value.code == 2
    captured = capfd.readouterr()
    assert f"{option[2:].replace('-', '_')} is {value}; allowed" in " ".join((captured.out + captured.err).split())
    assert not out.exists()


def test_missing_images_are_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLATNESS_DATA", raising=False)
    assert main(["reproduce", "--config", "fashion-mnist-tiny", "--out", str(tmp_path / "o")]) == 1
    assert "python -m experiments data fashion-mnist" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_matrix_is_carried_out_shown_and_its_shortness_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def load(name: str, split: str, size: int, root: Path | None) -> Images:
        calls.append(split)
        return images("train" if split == "all" else split)

    monkeypatch.setattr(data, "load", load)
    preset = dataclasses.replace(CONFIGURATION, steps=20, train_split="all")
    preset = dataclasses.replace(preset, averages=dataclasses.replace(preset.averages, ema_decay=0.99))
    monkeypatch.setitem(PRESETS, "fashion-mnist-tiny", preset)
    changes: dict[str, Any] = {"surface_points": 0, "gradient_distances": (), "sampling_steps": (2,), "samples": (24,)}
    given = [
        "reproduce",
        "--config",
        "fashion-mnist-tiny",
        "--out",
        str(tmp_path),
        "--steps",
        "2",
        "--features",
        "none",
    ]
    assert main([*given, "--device", "cpu", *small(**changes)]) == 0
    assert calls == ["all", "test", "train"]  # to train on as configured; held out; to compare with
    captured = capsys.readouterr()
    assert "sam+swa" in captured.out
    assert "These runs made 2 steps; fashion-mnist-tiny is meant to make 20" in captured.out.replace("\n", " ")
    assert "prove nothing about the paper" in captured.out.replace("\n", " ")
    assert f"The EMA: {0.9**2:.2%} of it is the initial weights after 2 steps" in captured.out.replace("\n", " ")
    assert "Differences are called lower or higher" in captured.out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "plan.json",
        "rows",
        "runs",
        "samples",
        "tables.json",
        "tables.md",
    ]
    assert (tmp_path / "runs/sam/metrics.jsonl").exists()
