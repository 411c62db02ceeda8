"""`python -m experiments evaluate RUN`: every measure of a run's raw, EMA and SWA weights, a result file each."""

from __future__ import annotations

import dataclasses
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from experiments.measures.options import EVALUATIONS, EvaluationOptions, PresetName
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
    evaluation: Annotated[
        PresetName, tyro.conf.arg(help="Preset whose values are the defaults of the options below.")
    ] = DEFAULT
    place: Place = dataclasses.field(default_factory=Place)
    options: EvaluationOptions = dataclasses.field(default_factory=EvaluationOptions)


def given(arguments: Sequence[str], option: str, default: str) -> str:
    """The value that an option has on the command line, read before tyro does, whose defaults depend on it."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == option:
            return value if equals else "".join(arguments[index + 1 : index + 2])
    return default


def preset_options(arguments: Sequence[str], default: PresetName) -> EvaluationOptions:
    """The values of the preset that `--evaluation` names; where there is no such one, tyro refuses it later."""
    name = given(arguments, "--evaluation", default)
    return EVALUATIONS.get(typing.cast("PresetName", name), EVALUATIONS[default])


def parsed(command: type[T], arguments: Sequence[str], default: T, prog: str, description: str) -> T:
    """The command line. Prints help, or what is wrong, and exits, as command lines do.

    Raises:
        SystemExit: 0 after --help, 2 for what is not allowed.
    """
    try:
        return tyro.cli(
            command,
            prog=prog,
            description=description,
            args=list(arguments),
            default=default,
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except ValueError as error:  # the options' own checks
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def parse(arguments: Sequence[str]) -> Evaluate:
    """The command line of `evaluate`."""
    return parsed(
        Evaluate,
        arguments,
        Evaluate(run=tyro.MISSING, options=preset_options(arguments, DEFAULT)),
        prog="python -m experiments evaluate",
        description="Measure a trained run: flatness, exposure bias, distances of its samples and quantisation, a "
        "result file for each average of its weights. Given again, the same command goes on where it stopped. The "
        "defaults shown are those of the preset that --evaluation names.",
    )


def main(arguments: list[str]) -> int:
    """Run the command line; 0 when every row's file is there."""
    asked = parse(arguments)
    options = asked.options
    # Here, not above: --help and what is wrong with the options do not wait for them
    from rich.console import Console

    from experiments.commands.rows_shown import ShownRows
    from experiments.measures.evaluate import evaluate
    from experiments.measures.material import gathered
    from experiments.measures.rows import Checkpoint
    from experiments.training.distributed import chosen_device
    from findings.comparisons import failures
    from findings.names import AVERAGES, Average
    from findings.tables import shown

    place = asked.place
    device = chosen_device(place.device)
    checkpoint = Checkpoint.of(asked.run)
    if checkpoint.configuration.train_split == "all":
        print("note: this run was trained on all images, also on those that are measured here", file=sys.stderr)
    averages: tuple[Average, ...] = AVERAGES if asked.average == "all" else (asked.average,)
    if asked.average == "all":
        averages = tuple(a for a in AVERAGES if _has(checkpoint, a))
    run = asked.run if (asked.run / "checkpoints").is_dir() else checkpoint.folder.parent.parent
    material = gathered(
        checkpoint.configuration, options, run, root=place.data, features=place.features,
        inception=place.inception_weights, download=place.inception_download, device=device,
    )  # fmt: skip
    out = asked.out or run / FOLDER
    watch = ShownRows(len(averages))
    found = [
        evaluate(
            checkpoint, average, options, material, out / f"{checkpoint.configuration.method}-{average}.json",
            device=device, batch_size=place.batch(device.type), gradient_batch=place.gradient_batch, watch=watch,
        )
        for average in averages
    ]  # fmt: skip
    console = Console()
    shown(found, console)
    for line in failures(found):
        console.print(line, highlight=False, markup=False)
    watch.say(f"results: {out}")
    return 0


def _has(checkpoint: Any, average: Any) -> bool:
    try:
        checkpoint.settings(average)
    except ValueError:
        return False
    return True
