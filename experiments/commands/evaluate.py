"""`python -m experiments evaluate RUN`: every measure of a run's raw, EMA and SWA weights, a result file each."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from experiments.measures.options import EVALUATIONS, EvaluationOptions, PresetName, evaluation_of
from findings.files import check_out
from flatness import arguments as checks

FOLDER = "evaluation"
DEFAULT: PresetName = "tiny"
T = TypeVar("T")
BATCH_SIZES = {"cpu": 128, "cuda": 500}
"""Images in one pass, where none is given."""


@dataclass(frozen=True)
class Place:
    """Where an evaluation is carried out; changes results by rounding, but for the features and the kind of device.

    Noise is drawn on the device and differs between kinds of it, so a result names its kind, and one of another is
    refused.
    """

    data: Path | None = None
    """The data root; FLATNESS_DATA, or ./data, by default."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes CUDA where there is one. All rows of a table need the same."""
    batch_size: int | None = None
    """Images in one pass; 128 on the CPU and 500 on CUDA by default."""
    gradient_batch: int = 32
    """Images in one backward pass, for which the loss along the gradient needs much more memory: in float32 some 3 GiB
    for CIFAR-10's network, 25 GiB for LSUN tower's."""
    features: Literal["auto", "classifier", "inception", "none"] = "auto"
    """Of the Frechet distance: the shipped classifier's (auto, for Fashion-MNIST), Inception's, or no distances."""
    inception_weights: Path | None = None
    """The file of Inception's weights, where they are not in torch's folder."""
    inception_download: bool = False
    """Fetch Inception's weights, 91 MiB, where the file is missing; they are held against their SHA-256."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.batch_size is not None:
            checks.count("batch_size", self.batch_size, at_least=1)
        checks.count("gradient_batch", self.gradient_batch, at_least=1)
        for name in ("inception_weights", "inception_download"):
            if getattr(self, name) and self.features in ("classifier", "none"):
                raise checks.refuse(name, getattr(self, name), f"left out with features {self.features!r}")

    def batch(self, device: str) -> int:
        """Images in one pass on a kind of device."""
        return self.batch_size or BATCH_SIZES[device]


@dataclass(frozen=True)
class Evaluate:
    """What `evaluate` was asked to do."""

    run: tyro.conf.Positional[Path]
    """A run's folder (its newest checkpoint is taken), or a checkpoint's."""
    average: Literal["raw", "ema", "swa", "all"] = "all"
    """Which weights; all are those that the checkpoint holds."""
    out: Path | None = None
    """The folder of result files METHOD-AVERAGE.json; the run's folder evaluation by default."""
    shard: str | None = None
    """K/N: measure the K-th of N equal parts of the rows, K from 0; where torchrun sets the rank, it does so."""
    workers: int = 1
    """Processes among which the rows are spread, each with its share of the cores."""
    evaluation: Annotated[
        PresetName,
        tyro.conf.arg(
            help="Preset whose values are the defaults of the options below; by default full for runs on the paper's "
            "data, tiny for those on Fashion-MNIST."
        ),
    ] = DEFAULT
    place: Place = dataclasses.field(default_factory=Place)
    options: EvaluationOptions = dataclasses.field(default_factory=EvaluationOptions)

    def __post_init__(self) -> None:
        """Check how rows are spread."""
        check_spread(self.workers, self.shard)


def check_spread(workers: int, shard: str | None) -> None:
    """Refuse rows that are spread twice.

    Raises:
        ValueError: the number of workers is below 1, or above where this process has a part of the rows itself.
    """
    checks.count("workers", workers, at_least=1)
    part, parts = share(shard)
    if workers > 1 and parts > 1:
        raise checks.refuse("workers", workers, f"1 where a process has part {part} of {parts}")


def share(shard: str | None) -> tuple[int, int]:
    """Which part of how many this process has: as --shard says, or torchrun's environment.

    Raises:
        ValueError: the shard is no K/N, or both name a part.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if shard is None:
        return int(os.environ.get("RANK", "0")), world
    part, slash, parts = shard.partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise checks.refuse("shard", shard, "K/N, whole numbers with K below N, as in 0/4")
    if world > 1:
        raise checks.refuse("shard", shard, f"none where torchrun has started {world} processes")
    return int(part), int(parts)


def given(arguments: Sequence[str], option: str, default: str) -> str:
    """The value that an option has on the command line, read before tyro does, whose defaults depend on it."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option:
            return value if equals else "".join(arguments[index + 1 : index + 2])
    return default


def parsed(command: type[T], arguments: Sequence[str], default: T, prog: str, description: str) -> T:
    """The command line. Prints help, or what is wrong, and exits, as command lines do.

    Raises:
        SystemExit: 0 after --help, 2 for what is not allowed.
    """
    try:
        options = tyro.cli(
            command,
            prog=prog,
            description=description,
            args=list(arguments),
            default=default,
            config=(tyro.conf.OmitArgPrefixes,),
        )
        if (out := getattr(options, "out", None)) is not None:
            check_out(out)
    except ValueError as error:  # the options' own checks
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return options


def parse(arguments: Sequence[str]) -> Evaluate:
    """The command line of `evaluate`; the defaults of the measures follow from the run's data set."""
    command = _parsed(arguments, given_evaluation(arguments) or DEFAULT)
    meant = given_evaluation(arguments) or _meant(command.run)
    return command if meant == command.evaluation else _parsed(arguments, meant)


def given_evaluation(arguments: Sequence[str]) -> PresetName | None:
    """What `--evaluation` says; None where it is not there, or names none, which tyro refuses."""
    name = typing.cast("PresetName", given(arguments, "--evaluation", ""))
    return name if name in EVALUATIONS else None


def _meant(run: Path) -> PresetName:
    """By the configuration in a run's, or a checkpoint's, folder; what is wrong with it is told when it is loaded."""
    try:
        return evaluation_of(json.loads((run / "configuration.json").read_bytes())["dataset"])
    except (OSError, ValueError, KeyError, TypeError):
        return DEFAULT


def _parsed(arguments: Sequence[str], evaluation: PresetName) -> Evaluate:
    return parsed(
        Evaluate,
        arguments,
        Evaluate(run=tyro.MISSING, evaluation=evaluation, options=EVALUATIONS[evaluation]),
        prog="python -m experiments evaluate",
        description="Measure a trained run: flatness, exposure bias, distances of its samples and quantisation, a "
        "result file for each average of its weights. Given again, the same command goes on where it stopped. Under "
        "torchrun, or with --workers, rows are measured side by side. The defaults shown are those of the preset that "
        "--evaluation names; without it, a run on the paper's data has those of full.",
    )


def main(arguments: list[str]) -> int:
    """Run the command line; 0 when every row's file of this process's part is there."""
    command = parse(arguments)
    options = command.options
    # Here, not above: --help and what is wrong with the options do not wait for them
    from rich.console import Console

    from experiments.commands.progress import ShownRows
    from experiments.measures.rows import Checkpoint, evaluate
    from experiments.measures.subject import gathered
    from experiments.training.distributed import chosen_device
    from experiments.training.planning import start_in_words
    from findings.comparisons import failures
    from findings.names import Average
    from findings.tables import shown

    place, (part, parts) = command.place, share(command.shard)
    device = chosen_device(place.device, int(os.environ.get("LOCAL_RANK", "0")))
    checkpoint = Checkpoint.of(command.run)
    if checkpoint.configuration.train_split == "all" and part == 0:
        print("note: this run was trained on all images, also on those that are measured here", file=sys.stderr)
    held = checkpoint.averages()
    averages: tuple[Average, ...] = held if command.average == "all" else (command.average,)
    run = command.run if (command.run / "checkpoints").is_dir() else checkpoint.folder.parent.parent
    out = command.out or run / FOLDER
    paths = {average: out / f"{checkpoint.configuration.method}-{average}.json" for average in averages}
    watch = ShownRows(len(averages[part::parts]))
    if command.workers > 1 and not all(path.exists() for path in paths.values()):
        failed = rows_side_by_side("evaluate", arguments, command.workers, out, watch.say)
        if failed:
            return 1
    material = gathered(
        checkpoint.configuration, options, run, root=place.data, features=place.features,
        inception=place.inception_weights, download=place.inception_download, device=device,
    )  # fmt: skip
    if command.average in ("all", "ema") and part == 0 and "ema" in held:
        step = checkpoint.settings("ema")["step"]
        print(f"note: the EMA: {start_in_words(checkpoint.configuration, step)}", file=sys.stderr)

    def row(average: Average, watch: Callable[[Any], None]) -> dict[str, Any]:
        return evaluate(
            checkpoint, average, options, material, paths[average], device=device,
            batch_size=place.batch(device.type), gradient_batch=place.gradient_batch, watch=watch,
        )  # fmt: skip

    own = {average: row(average, watch) for average in averages[part::parts]}
    if not all(path.exists() for path in paths.values()):
        watch.say(f"part {part} of {parts} is measured; the last process to be done shows all rows")
        return 0
    results = [own[average] if average in own else row(average, lambda progress: None) for average in averages]
    console = Console()
    shown(results, console)
    for line in failures(results):
        console.print(line, highlight=False, markup=False)
    watch.say(f"results: {out}")
    return 0


def rows_side_by_side(
    command: str, arguments: Sequence[str], workers: int, out: Path, say: Callable[[str], None] = print
) -> list[str]:
    """Measure the rows by so many processes of this command, a part of them each; the names of those that failed."""
    from experiments.study import Job, side_by_side

    commands = {
        f"rows-{part}": [sys.executable, "-m", "experiments", command, *arguments, "--workers", "1",
                         "--shard", f"{part}/{workers}"]
        for part in range(workers)
    }  # fmt: skip
    return side_by_side([Job(name, 1.0, False) for name in commands], commands.__getitem__, out, workers, say)
