"""`python -m experiments reproduce`: runs, rows and tables of the paper, all from one command."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from experiments.commands.evaluate import Place, check_spread, given, given_evaluation, parsed, rows_side_by_side, share
from experiments.configuration import PRESETS, Configuration, Method, PresetName, RunOptions
from experiments.measures.options import EVALUATIONS, EvaluationOptions, evaluation_of
from experiments.measures.options import PresetName as EvaluationName
from flatness import arguments as checks

if TYPE_CHECKING:
    from experiments.measures.points import SizesName
    from experiments.reproduce import Run

DEFAULT: EvaluationName = "tiny"
LONG = 1000
"""Steps from which a run shows grids and held-out losses on its way."""
PAPER_STEPS = 200_000


@dataclass(frozen=True)
class Reproduce:
    """What `reproduce` was asked to do."""

    config: Annotated[PresetName, tyro.conf.arg(help="Preset of all runs.")]
    out: Path
    """The folder; the same command with it goes on where it stopped."""
    steps: int | None = None
    """Optimizer steps of each run; the preset's by default. The averages keep their share of the run."""
    global_batch: int | None = None
    """Images a step; the preset's by default."""
    methods: tuple[Method, ...] | None = None
    """Which; the paper's three by default, and rwp where --noise-sigma names noises."""
    rho: tuple[float, ...] = ()
    """SAM's radii, a run each; the preset's by default."""
    noise_sigma: tuple[float, ...] = ()
    """Random weight perturbation's noises, a run each; no such run by default."""
    training_images: int | None = None
    """Train each run on so many images alone, drawn by its seed; on all by default."""
    seeds: tuple[int, ...] = ()
    """Training seeds, the whole matrix for each; the preset's by default."""
    ema_start: float | None = None
    """Share of each run at which its EMA begins; the preset's by default."""
    ema_warmup: float | None = None
    """Exponent of EMA's warm-up, as of `train`; the preset's by default."""
    precision: Literal["float32", "bfloat16"] | None = None
    """Of the network's passes in training; the preset's by default."""
    micro_batch: int | None = None
    """Most images in one pass of training; all at once by default."""
    compile: bool = False
    """torch.compile the network in training."""
    at: tuple[int, ...] = ()
    """Steps after which weights are put aside and measured, besides the last: losses and distances of all of them, the
    rest at the late ones. Writes out/points/RUN.json."""
    point_sizes: Literal["full", "small", "quick"] | None = None
    """How finely points are measured: full by default for fashion-mnist-mini, small for larger networks."""
    rows: bool = True
    """Measure the rows of the tables; without them, runs are trained and measured at their points alone."""
    workers: int = 1
    """Runs carried out side by side, each by a process of its own with its share of the cores."""
    only: tuple[str, ...] = ()
    """Names of runs to train and measure at their points, and nothing else."""
    shard: str | None = None
    """K/N: measure the K-th of N equal parts of the rows of trained runs, K from 0, and nothing else; where torchrun
    sets the rank, it does so, and rank 0 writes the tables when all rows are there."""
    dry_run: bool = False
    """Say what the study would take, from a few timed steps on this device. Writes nothing."""
    evaluation: Annotated[
        EvaluationName,
        tyro.conf.arg(
            help="Preset whose values are the defaults of the measures' options below; by default full for the "
            "paper's configurations, tiny for Fashion-MNIST's."
        ),
    ] = DEFAULT
    place: Place = dataclasses.field(default_factory=Place)
    options: EvaluationOptions = dataclasses.field(default_factory=EvaluationOptions)

    def __post_init__(self) -> None:
        """Check how rows are spread."""
        check_spread(self.workers, self.shard)

    def base(self) -> Configuration:
        """What all runs have in common.

        Raises:
            ValueError: a value is not allowed.
        """
        from experiments.reproduce import shortened

        preset = PRESETS[self.config]
        own = {"ema_start": self.ema_start, "ema_warmup": self.ema_warmup}
        averages: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        configuration = dataclasses.replace(
            preset,
            averages=dataclasses.replace(preset.averages, **averages),
            global_batch=preset.global_batch if self.global_batch is None else self.global_batch,
            precision=self.precision or preset.precision,
            training_images=self.training_images,
        )
        return configuration if self.steps is None else shortened(configuration, self.steps)

    @property
    def sizes(self) -> SizesName:
        """Of the measures at points."""
        return self.point_sizes or ("full" if self.config == "fashion-mnist-mini" else "small")

    def run_options(self, folder: Path) -> RunOptions:
        """Of a run: a tenth of its steps between checkpoints, and short runs without grids on their way."""
        steps = self.base().steps
        return RunOptions(
            out=folder,
            data=self.place.data,
            device=self.place.device,
            micro_batch=self.micro_batch,
            compile=self.compile,
            checkpoint_every=max(steps // 10, 10),
            log_every=max(steps // 20, 1),
            sample_every=steps // 5 if steps >= LONG else 0,
            points=self.points,
        )

    @property
    def points(self) -> tuple[int, ...]:
        """Steps whose weights are measured, the last one among them; none where none was asked for.

        Raises:
            ValueError: a step beyond the run's.
        """
        steps = self.base().steps
        for step in self.at:
            if not 1 <= checks.count("at", step) <= steps:
                raise checks.refuse("at", self.at, f"steps from 1 to the runs' {steps}")
        return tuple(sorted({*self.at, steps})) if self.at else ()


def parse(arguments: Sequence[str]) -> Reproduce:
    """The command line of `reproduce`; the defaults of the measures follow from `--config`."""
    preset = given(arguments, "--config", "")
    meant = evaluation_of(PRESETS[preset].dataset) if preset in PRESETS else DEFAULT  # tyro refuses the others
    evaluation = given_evaluation(arguments) or meant
    return parsed(
        Reproduce,
        arguments,
        Reproduce(config=tyro.MISSING, out=tyro.MISSING, evaluation=evaluation, options=EVALUATIONS[evaluation]),
        prog="python -m experiments reproduce",
        description="Train adm, ip and sam, measure the raw, EMA and SWA weights of each, and write the tables. Under "
        "torchrun runs are trained by all ranks together, and rows measured side by side, as with --workers. The "
        "defaults shown are those of the preset that --evaluation names; without it, the paper's configurations have "
        "those of full.",
    )


def main(arguments: list[str]) -> int:
    """Run the command line; 0 when the tables are written."""
    command = parse(arguments)
    # Here, not above: --help and what is wrong with the options do not wait for them
    from rich.console import Console

    from experiments import data
    from experiments.commands.progress import ShownRows, Watched
    from experiments.measures.points import SIZES
    from experiments.measures.subject import gathered
    from experiments.reproduce import Matrix, matrix
    from experiments.study import own_command
    from experiments.training.distributed import chosen_device
    from findings.tables import shown

    try:
        base = command.base()
        runs = matrix(base, command.rho, command.seeds, command.noise_sigma, command.methods)
        command.run_options(command.out)
        chosen = chosen_runs(runs, command.only)
        if command.point_sizes is not None and not command.at:
            raise checks.refuse("point_sizes", command.point_sizes, "left out, or points to measure at (--at)")
        if not (command.rows or command.at):
            raise checks.refuse("rows", command.rows, "True, or points to measure at (--at)")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    place, (part, parts) = command.place, share(command.shard)
    device = chosen_device(place.device, int(os.environ.get("LOCAL_RANK", "0")))
    first = part == 0 or command.shard is not None
    # Before hours of training, what measuring needs
    images = data.load(base.dataset, base.train_split, base.network.image_size, place.data)
    material = gathered(
        base, command.options, command.out / "runs", root=place.data, features=place.features,
        inception=place.inception_weights, download=place.inception_download, device=device,
    )  # fmt: skip
    console = Console()
    watched = Watched(material.held_out)
    try:
        whole = Matrix(
            command.out, runs, command.options, images, material, run_options=command.run_options,
            watchers=watched if first else tuple, device=device, batch_size=place.batch(device.type),
            gradient_batch=place.gradient_batch, watch=ShownRows(len(range(part, 3 * len(runs), parts))),
            points=command.points, point_options=SIZES[command.sizes], part=part, parts=parts,
        )  # fmt: skip
        if command.dry_run:
            for line in whole.plan(command.workers):
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            return 0
        if command.only:
            whole.trained_and_measured(chosen)
            return 0
        if command.workers > 1:
            failed = whole.side_by_side(command.workers, lambda name: own_command(arguments, name))
            if failed:
                print(f"error: {len(failed)} runs were not finished: {', '.join(failed)}", file=sys.stderr)
                return 1
        if command.shard is not None:
            whole.measured_rows()
            return 0
        if command.workers > 1 and command.rows and not whole.measured:
            failed = rows_side_by_side("reproduce", arguments, command.workers, command.out)
            if failed:
                print(f"error: rows were not all measured: {', '.join(failed)}", file=sys.stderr)
                return 1
        if not first:
            whole.trained_and_measured(runs)
            if command.rows:
                whole.measured_rows()
            return 0
        if not command.rows:
            whole.trained_and_measured(runs)
            console.print(f"Points: {command.out / 'points'}", highlight=False, markup=False)
            return 0
        results = whole.carried_out()
    finally:
        watched.close()
    shown(results.results, console)
    for line in [*results.statement, *warnings_of(base, command)]:
        console.print(line, highlight=False, markup=False)
    console.print(f"Rows, samples and tables: {command.out}", highlight=False, markup=False)
    return 0


def chosen_runs(runs: Sequence[Run], names: Sequence[str]) -> list[Run]:
    """The runs of these names, or all.

    Raises:
        ValueError: a name is no run's.
    """
    by_name = {run.name: run for run in runs}
    for name in names:
        if name not in by_name:
            raise checks.refuse("only", name, f"a run of this study: {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else list(runs)


def warnings_of(base: Configuration, command: Reproduce) -> list[str]:
    """How far the runs are from what the preset, and the paper, mean by one."""
    from experiments.training.planning import LARGEST_START, start_in_words

    meant, share = PRESETS[command.config].steps, base.ema.share_of_start(base.steps)
    warnings = [f"The EMA: {start_in_words(base, base.steps)}."] if share > LARGEST_START else []
    if base.steps >= meant:
        if meant < PAPER_STEPS:
            warnings.append(f"The paper trains for {PAPER_STEPS:,} steps; {command.config}, {base.steps:,}.")
        return warnings
    return [
        *warnings,
        f"These runs made {base.steps:,} steps; {command.config} is meant to make {meant:,}, the paper's "
        f"{PAPER_STEPS:,}. Runs this short prove nothing about the paper: they show that every part of the chain "
        "works.",
    ]
