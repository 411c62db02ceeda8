"""The commands that are written down are commands that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import experiments
from experiments.commands import COMMANDS, train_options
from experiments.configuration import Configuration
from experiments.presets import PRESETS
from experiments.training import planning

FOLDER = Path(experiments.__file__).parent
README = FOLDER / "README.md"
SLURM = FOLDER / "launch" / "train.slurm"


def written(path: Path) -> list[list[str]]:
    """The words after `-m experiments` of each line that has it in a block of code or a script."""
    text = path.read_text().replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"```(?:sh)?\n(.*?)```", text, re.DOTALL)) if path.suffix == ".md" else text
    return [shlex.split(line, comments=True) for line in re.findall(r"-m experiments (\w.*)", blocks)]


def test_documented_runs_can_be_parsed() -> None:
    commands = written(README)
    assert len(commands) >= 8
    for command, *words in commands:
        assert command in COMMANDS
        if command == "train":
            train_options.parse(words)


def test_the_slurm_script_passes_its_arguments_on() -> None:
    ((command, *words),) = [words for words in written(SLURM) if "$@" in words]
    assert command == "train"
    (example,) = re.findall(r"sbatch \S+ (--.*)", SLURM.read_text())
    found = train_options.parse([*words[:-1], *shlex.split(example)])
    assert (found.preset, found.options.device, found.configuration.precision) == ("lsun-tower", "cuda", "bfloat16")
    subprocess.run(["bash", "-n", str(SLURM)], check=True)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_table_has_the_presets_numbers(preset: str) -> None:
    c: Configuration = {str(name): found for name, found in PRESETS.items()}[preset]
    (row,) = re.findall(rf"^\| {preset} \|.*$", README.read_text(), re.MULTILINE)
    _, _, parameters, gflop, batch, steps, disk = (cell.strip() for cell in row.strip("|").split("|"))
    assert int(parameters.replace(",", "")) == planning.parameter_count(c.network)
    assert float(gflop) == pytest.approx(planning.operations(c.network).forward / 1e9, rel=0.01)
    assert (int(batch), int(steps.replace(",", ""))) == (c.global_batch, c.steps)
    assert float(disk.removesuffix(" GiB")) == pytest.approx(planning.disk(c) / 2**30, rel=0.1)
