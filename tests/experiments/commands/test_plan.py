"""The plan against hand counts."""

import re

import pytest

from experiments.__main__ import main
from experiments.commands import plan
from experiments.configuration import PRESETS
from experiments.training import planning
from findings.names import PAPER_METHODS

Captured = pytest.CaptureFixture[str]


def hours_of(text: str) -> float:
    """The sum at the foot of the table, in device hours."""
    (foot,) = re.findall(r"│ together .*│\s*([\d.,e+-]+) │", text)
    return float(foot.replace(",", ""))


def test_lines_count_training_and_samples_by_hand() -> None:
    adm, sam = plan.lines(["cifar10"], ["adm", "sam"])
    operations = planning.operations(PRESETS["cifar10"].network)
    assert adm.training == pytest.approx(200_000 * 128 * operations.training / 1e15)
    assert sam.training == pytest.approx(2 * adm.training)
    assert adm.sampling == sam.sampling == pytest.approx(3 * 50_000 * 120 * operations.forward / 1e15)


def test_hours_follow_the_rate(capsys: Captured) -> None:
    whole = sum(line.training + line.sampling for line in plan.lines(["cifar10"], PAPER_METHODS)) * 1e15 / 3600
    for rate in (1e12, 2e13):
        assert main(["plan", "--configs", "cifar10", "--flops", str(rate)]) == 0
        shown = capsys.readouterr().out
        assert hours_of(shown) == pytest.approx(whole / rate, rel=0.01)  # printed to three digits
        assert f"Rate: {rate / 1e12:.4g} TFLOP/s for one device (given)" in shown


def test_the_assumption_is_printed(capsys: Captured) -> None:
    assert main(["plan"]) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert f"({plan.ASSUMED_WORDS})" in shown
    for preset in plan.PAPER:
        assert shown.count(f"│ {preset} ") == 1 + len(PAPER_METHODS)
    assert "SAM is counted for one radius" in shown


def test_a_measured_rate_is_used(capsys: Captured) -> None:
    assert main(["plan", "--configs", "fashion-mnist-tiny", "--methods", "adm", "--measure", "--micro-batch", "2"]) == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "in training passes)" in shown
    assert "measured on " in shown
    assert "SAM is counted" not in shown


@pytest.mark.parametrize(
    "words",
    [
        ["--flops", "0"],
        ["--flops", "inf"],
        ["--flops", "nan"],
        ["--flops", "fast"],
        ["--flops", "1e14", "--measure"],
        ["--configs", "mnist"],
        ["--methods", "sgd"],
        ["--micro-batch", "0"],
    ],
)
def test_what_is_not_allowed(words: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit) as exit_of:
        main(["plan", *words])
    assert exit_of.value.code == 2
    assert words[0] in capsys.readouterr().err
