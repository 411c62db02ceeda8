"""The command line of a run: every field an option, presets as defaults, and errors in a line."""

import ast
import dataclasses
import inspect
import itertools
import re
import typing
from pathlib import Path
from typing import Any

import pytest

from experiments.adm import ADMOptions
from experiments.commands import train_options
from experiments.configuration import PRESETS, AverageOptions, Configuration, PresetName, RunOptions, SAMOptions
from experiments.diffusion import ProcessOptions

PARTS: tuple[Any, ...] = (RunOptions, Configuration, ADMOptions, ProcessOptions, SAMOptions, AverageOptions)
NAMED = {(ProcessOptions, "steps"): "--process.steps"}
WITHOUT = {(ProcessOptions, "learn_sigma"), (ADMOptions, "num_classes")}  # the network's sets it; training has none


def parse(*words: str, out: str = "somewhere") -> train_options.Run:
    return train_options.parse([*words, "--out", out])


def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """On one line, without the boxes."""
    monkeypatch.setenv("COLUMNS", "110")  # wider, it stands in two columns
    with pytest.raises(SystemExit) as exit_of:
        train_options.parse([*words, "--help"])
    assert exit_of.value.code == 0
    return re.sub(r"[\s│─╭╮╰╯]+", " ", capsys.readouterr().out)


def docstrings(kind: type) -> dict[str, str]:
    """What stands under each field."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    body = typing.cast("ast.ClassDef", tree).body
    by_field = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            by_field[ast.unparse(field.target)] = re.sub(r"\s+", " ", ast.literal_eval(text.value))
    return by_field


def test_every_field_is_in_the_help_with_its_docstring(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(capsys, monkeypatch)
    for kind in PARTS:
        by_field = docstrings(kind)
        for field in dataclasses.fields(kind):
            if (kind, field.name) in WITHOUT or dataclasses.is_dataclass(
                type(getattr(PRESETS["cifar10"], field.name, 0))
            ):
                continue
            name = NAMED.get((kind, field.name), "--" + field.name.replace("_", "-"))
            assert re.search(rf" {re.escape(name)}[ ,]", text), name
            assert by_field[field.name].rstrip(".") in text, name


def test_help_shows_the_presets_values(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = help_of(capsys, monkeypatch, "--config", "fashion-mnist-tiny")
    for default in ("4000", "0.995", "0.0005", "uniform", "1 2 2"):
        assert f"(default: {default})" in text
    assert "(default: 200000)" in help_of(capsys, monkeypatch, "--config=ffhq")


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_alone_is_the_preset(preset: PresetName) -> None:
    configuration = parse("--config", preset)
    assert configuration == train_options.Run(preset, PRESETS[preset], RunOptions(out=Path("somewhere")), dry_run=False)


def test_options_change_the_preset() -> None:
    configuration = parse(
        "--config=fashion-mnist", "--method", "ip+sam", "--rho", ".01", "--steps", "100", "--process.steps", "50",
        "--channel-mult", "1", "2", "--attention-resolutions", "--power-widths", "0.1", "--no-flip", "--no-learn-sigma",
        "--num-heads", "4", "--num-head-channels", "None", "--micro-batch", "7", "--data", "images",
    )  # fmt: skip
    c, preset = configuration.configuration, PRESETS["fashion-mnist"]
    network = dataclasses.replace(
        preset.network, channel_mult=(1, 2), attention_resolutions=(), learn_sigma=False, num_heads=4,
        num_head_channels=None,
    )  # fmt: skip
    assert c == dataclasses.replace(
        preset, method="ip+sam", steps=100, flip=False, network=network,
        process=ProcessOptions(steps=50, learn_sigma=False), sam=SAMOptions(rho=0.01),
        averages=dataclasses.replace(preset.averages, power_widths=(0.1,)),
    )  # fmt: skip
    assert configuration.options == RunOptions(out=Path("somewhere"), data=Path("images"), micro_batch=7)
    assert all(type(part) in PARTS for part in (c, c.network, c.process, c.sam, c.averages, configuration.options))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("--steps", "0"), "steps is 0"),
        (("--rho", "-1"), "rho is -1.0"),
        (("--rho", "nan"), "rho is nan"),
        (("--dropout", "1"), "dropout is 1.0"),
        (("--channel-mult", "1", "2", "3", "4", "5", "6", "7"), "image_size is 32"),
        (("--micro-batch", "0"), "micro_batch is 0"),
        (("--steps", "100", "--until", "101"), "until is 101; allowed: at most the run's 100 steps"),
        (("--steps", "100", "--points", "50", "101"), "points is (50, 101); allowed: at most the run's 100 steps"),
        (("--process.steps", "1"), "process.steps is 1"),
        (("--points", "5", "5"), "points is (5, 5); allowed: steps that differ"),
        (("--power-widths", "1e-7"), "power_widths is 1e-07; allowed: a finite number of at least 1e-06"),
        (("--power-widths", "0.1", "0.1000000001"), "power_widths is (0.1, 0.1000000001); allowed: widths that differ"),
    ],
)
def test_values_that_are_not_allowed_are_told_in_a_line(
    words: tuple[str, ...], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_of:
        parse(*words)
    assert exit_of.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name}")
    assert "allowed: " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "words", [("--config", "cifar"), ("--method", "sgd"), ("--steps", "many"), ("--rhoo", "1"), ("stray",)]
)
def test_what_cannot_be_read_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_of:
        parse(*words)
    assert exit_of.value.code == 2
    assert words[-1] in "".join(capsys.readouterr())


def test_ranks_other_than_the_first_are_silent(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    for words in (("--steps", "0"), ("--method", "sgd"), ("--help",)):
        with pytest.raises(SystemExit):
            parse(*words)
    assert capsys.readouterr() == ("", "")


def test_a_run_needs_a_folder_and_a_dry_run_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_of:
        train_options.parse(["--config", "ffhq"])
    assert exit_of.value.code == 2
    assert "--out" in "".join(capsys.readouterr())
    assert train_options.parse(["--dry-run"]).dry_run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rho", "0.01"), "rho is 0.01, which method 'adm' does not use; allowed with --method sam"),
        (("--rho", "0.1"), "rho is 0.1, which method 'adm' does not use; allowed with --method sam"),
        (("--rho=0.1", "--method", "ip"), "rho is 0.1, which method 'ip' does not use"),
        (("--no-adaptive",), "adaptive is False, which method 'adm' does not use"),
        (("--noise_sigma", "0.01"), "noise_sigma is 0.01, which method 'adm' does not use; allowed with --method rwp"),
        (("--method", "sam", "--input-perturbation", "0.1"), "input_perturbation is 0.1, which method 'sam' does not"),
        (("--method", "ip", "--sam-schedule", "late"), "sam_schedule is 'late', which method 'ip' does not use"),
        (("--method", "sam", "--input-perturbation", "0.2"), "input_perturbation is 0.2, which method 'sam' does not"),
        (("--method", "sam", "--every", "5"), "every is 5, which schedule 'always' does not use"),
        (
            ("--no-resblock-updown", "--conv-resample", "--channel-mult", "1", "--attention-resolutions"),
            "resblock_updown is False, which a network of one level does not use",
        ),
        (("--conv-resample",), "conv_resample is True, which a network that resamples inside its residual blocks"),
        (("--no-conv-resample",), "conv_resample is False, which a network that resamples inside its residual blocks"),
    ],
)
def test_options_of_another_method_are_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_of:
        parse(*words)
    assert exit_of.value.code == 2
    assert message in capsys.readouterr().err
    assert parse("--method", "ip+sam", "--rho", "0.01", "--input-perturbation", "0.2").configuration.sam.rho == 0.01
    assert not parse("--no-resblock-updown", "--no-conv-resample").configuration.network.conv_resample
    assert parse("--steps", "100", "--until", "100", "--points", "1", "100").options.points == (1, 100)
