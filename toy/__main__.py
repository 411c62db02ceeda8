"""`python -m toy`: train the toy models, measure them, and print the verdicts on predictions P1 to P9.

The first rung of the ladder is the predictions and, by dose, the regimes; `python -m toy images` is the second.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from findings.boundary import guarded
from findings.files import check_out
from findings.provenance import ROOT
from findings.verdicts import DECIDED, FEWEST_SEEDS, Outcome, Verdict
from toy import ladder_command, study, training_sets
from toy import report as results
from toy import settings as sizes
from toy.claims import PREDICTIONS
from toy.predictions import Prediction, judge

DEFAULT_OUT = ROOT / "results" / "toy.json"
WORKERS = 2
PARTS = ("all", "predictions", "regimes", "images")
COLOURS = {Verdict.CONFIRMED: "green", Verdict.REFUTED: "red", Verdict.UNDECIDED: "yellow"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m toy",
        description="Train small diffusion models by the paper's methods and others, measure flatness, quantisation, "
        "exposure bias and samples, and print the verdicts on predictions P1 to P9. The predictions take ten minutes "
        "on two idle cores; the regimes, which go on where they were stopped, say beforehand how long.",
        epilog="The exit status is 0 whatever the verdicts are, and 1 where the study fails.",
    )
    parser.add_argument(
        "part",
        nargs="?",
        choices=PARTS,
        default="all",
        help="predictions: P1 to P9; regimes: many doses at small and large batches, with few points and many; all "
        "(default): both; images: regimes on Fashion-MNIST at 8 x 8",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few seeds and steps, under a minute: shows that everything runs; its verdicts mean nothing. "
        "Writes nothing unless --out is given",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help=f"number of seeds; verdicts take {FEWEST_SEEDS} or more")
    parser.add_argument("--workers", type=int, metavar="N", help=f"processes, one thread each (default {WORKERS})")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where the predictions' verdicts, or with regimes or images their "
        "rows, go (default results/toy.json, results/ladder/ring.json, results/ladder/images.json)",
    )
    parser.add_argument("--so-far", action="store_true", help="write the rows of the runs that are done; run nothing")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help=f"Fashion-MNIST's files (default {training_sets.ROOT})"
    )
    return parser


def _print_verdicts(outcomes: Sequence[Outcome[Prediction]], console: Console, note: str) -> None:
    table = Table(title="Predictions and verdicts" + note, title_justify="left")
    for heading in ("", "prediction", "claimed by", "verdict", "a comparison that decides, with interval"):
        table.add_column(heading, overflow="fold")
    for outcome in outcomes:
        prediction = outcome.claim
        colour = COLOURS[outcome.verdict]
        table.add_row(
            prediction.identifier, escape(prediction.statement), prediction.source,
            f"[{colour}]{outcome.verdict.value}[/]", escape(_decisive(outcome)),
        )  # fmt: skip
    console.print(table)


def _decisive(outcome: Outcome[Prediction]) -> str:
    """The first comparison that has the verdict of the whole."""
    place = outcome.deciding
    interval = None if place is None else outcome.intervals[place]
    if place is None or interval is None:
        return ""
    return f"{outcome.claim.comparisons[place].label}: {interval.mean:.3g} [{interval.low:.3g}, {interval.high:.3g}]"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = _parser()
    options = parser.parse_args(given)
    settings = sizes.QUICK if options.quick else sizes.Settings()
    try:
        if options.out is not None:
            check_out(options.out, folder=False)
        settings = settings if options.seeds is None else settings.with_seeds(options.seeds)
    except ValueError as error:
        parser.error(str(error))
    if options.workers is not None and options.workers < 0:
        parser.error(f"--workers is {options.workers}; allowed: 0 (this process) or more")
    if options.so_far and options.part not in ("regimes", "images"):
        parser.error(f"--so-far goes with regimes or images, not with {options.part}")
    if options.data is not None and options.part != "images":
        parser.error(f"--data goes with images, not with {options.part}")
    if options.workers is not None and options.so_far:
        parser.error("--workers goes with runs that are made, and --so-far makes none")
    options.data = training_sets.ROOT if options.data is None else options.data
    options.workers = WORKERS if options.workers is None else options.workers
    command = shlex.join(["python", "-m", "toy", *given])
    rungs = [
        ladder_command.chosen(name, options.quick, options.seeds, options.data)
        for name, parts in (("ring", ("all", "regimes")), ("images", ("images",)))
        if options.part in parts
    ]
    if options.part in ("all", "predictions"):
        _predictions(settings, options, command)
    for rung in rungs:
        out = options.out if options.part != "all" else None
        out = out or (None if options.quick else ladder_command.OUT / f"{rung.name}.json")
        ladder_command.make(
            rung, quick=options.quick, workers=options.workers, so_far=options.so_far, out=out, command=command,
            console=Console(), reported=_progress,
        )  # fmt: skip
    return 0


def _predictions(settings: sizes.Settings, options: argparse.Namespace, command: str) -> None:
    """Train, measure, judge P1 to P9, write and print."""
    start = time.monotonic()
    console = Console()
    with _progress() as report:
        measured = study.run(settings, workers=options.workers, report=report)
    outcomes = judge(measured.table, PREDICTIONS)
    content = results.document(
        measured, outcomes, quick=options.quick, command=command, wall_seconds=time.monotonic() - start
    )
    out = options.out or (None if options.quick else DEFAULT_OUT)
    if out is not None:
        results.write_whole(out, content)
    few = options.quick or settings.seeds < FEWEST_SEEDS
    _print_verdicts(outcomes, console, " (QUICK or few seeds: they mean nothing)" if few else "")
    counts = {verdict: sum(o.verdict is verdict for o in outcomes) for verdict in DECIDED}
    console.print(
        ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items()), f"; {settings.seeds} seeds"
    )
    console.print("nothing written (--quick without --out)" if out is None else f"wrote {out}", markup=False)


@contextmanager
def _progress() -> Iterator[Callable[[str, float], None]]:
    """Gives what is told of each job and its share of the time."""
    columns = (
        TextColumn("{task.description:28}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    start = time.monotonic()
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("training and measuring", total=1.0)

        def report(what: str, share: float) -> None:
            progress.update(task, advance=share, description=f"done: {what}")
            if not progress.console.is_terminal:  # a log gets a line a job instead of a bar
                progress.console.print(f"{time.monotonic() - start:5.0f} s  {what}", markup=False, highlight=False)

        yield report


if __name__ == "__main__":
    sys.exit(guarded(main))
