"""The commands that are written down are commands that exist."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import experiments
from experiments.commands import COMMANDS, gpu, plan, reproduce, train_options
from experiments.configuration import PRESETS, Configuration
from experiments.gpu.wheels import recorded
from experiments.measures.options import EVALUATIONS
from experiments.measures.tasks import passes_of, tasks
from experiments.training import planning
from findings.names import PAPER_METHODS

FOLDER = Path(experiments.__file__).parent
README = FOLDER / "README.md"
SLURM = FOLDER / "launch" / "train.slurm"
GPU_SLURM = FOLDER / "launch" / "gpu.slurm"


def written(path: Path) -> list[list[str]]:
    """The words after `-m experiments` of each line that has it in a block of code or a script."""
    text = path.read_text().replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"```(?:sh)?\n(.*?)```", text, re.DOTALL)) if path.suffix == ".md" else text
    return [shlex.split(line, comments=True) for line in re.findall(r"-m experiments (\w.*)", blocks)]


def test_documented_runs_can_be_parsed() -> None:
    commands = written(README)
    assert len(commands) >= 12
    for command, *words in commands:
        assert command in COMMANDS
        if command == "train":
            train_options.parse(words)
        if command == "gpu":
            gpu._parser().parse_args(words)


def test_minutes_from_a_fresh_machine_are_the_plans() -> None:
    page = README.read_text()
    whole = EVALUATIONS["full"]
    forward = planning.operations(PRESETS["cifar10"].network).forward
    measuring = 9 * passes_of(tasks(whole, whole.images, whole.exposure_images, True)) * forward / 1e15
    training = sum(line.training for line in plan.lines(["cifar10"], PAPER_METHODS))
    for what, pflop in (("trained", training), ("measured at the paper's sizes", measuring)):
        (minutes,) = re.findall(rf"{what} \| (\d+) \|", page)
        assert int(minutes) == round(pflop * 1e15 / plan.ASSUMED / 60)


def test_the_wheels_to_fetch_are_those_recorded() -> None:
    (gibibytes,) = re.findall(r"([\d.]+) GiB of wheels", README.read_text())
    assert float(gibibytes) == round(sum(wheel.size for wheel in recorded().values()) / 2**30, 1)


def test_the_fresh_machines_commands_are_five_and_known() -> None:
    (section,) = re.findall(r"## From a fresh GPU machine\n(.*?)\n## ", README.read_text(), re.DOTALL)
    (block,) = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    lines = [line.partition("#")[0].strip() for line in block.splitlines()]
    assert len(lines) == 5
    assert lines[0].startswith("pip install")
    words = [shlex.split(line.removeprefix("python -m experiments ")) for line in lines[1:]]
    assert [command for command, *_ in words] == ["gpu", "gpu", "data", "reproduce"]
    # The paper's configuration is measured at its sizes without being told
    options = reproduce.parse(words[-1][1:])
    assert options.config == "cifar10"
    assert options.options == EVALUATIONS["full"]


def test_the_gpu_script_passes_its_arguments_on() -> None:
    commands = written(GPU_SLURM)
    assert [words[0] for words in commands] == ["gpu", "gpu"]
    (example,) = re.findall(r"sbatch \S+ (--.*)", GPU_SLURM.read_text())
    for _, *words in commands:
        gpu._parser().parse_args([*words[:-1], *shlex.split(example)])
    assert "--check" in commands[0]
    subprocess.run(["bash", "-n", str(GPU_SLURM)], check=True)


def test_the_slurm_script_passes_its_arguments_on() -> None:
    ((command, *words),) = [words for words in written(SLURM) if "$@" in words]
    assert command == "train"
    (example,) = re.findall(r"sbatch \S+ (--.*)", SLURM.read_text())
    options = train_options.parse([*words[:-1], *shlex.split(example)])
    assert (options.preset, options.options.device, options.configuration.precision) == (
        "lsun-tower",
        "cuda",
        "bfloat16",
    )
    subprocess.run(["bash", "-n", str(SLURM)], check=True)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_table_has_the_presets_numbers(preset: str) -> None:
    c: Configuration = {str(name): configuration for name, configuration in PRESETS.items()}[preset]
    (row,) = re.findall(rf"^\| {preset} \|.*$", README.read_text(), re.MULTILINE)
    _, _, parameters, gflop, batch, steps, disk = (cell.strip() for cell in row.strip("|").split("|"))
    assert int(parameters.replace(",", "")) == planning.parameter_count(c.network)
    assert float(gflop) == pytest.approx(planning.operations(c.network).forward / 1e9, rel=0.01)
    assert (int(batch), int(steps.replace(",", ""))) == (c.global_batch, c.steps)
    assert float(disk.removesuffix(" GiB")) == pytest.approx(planning.disk(c) / 2**30, rel=0.1)
