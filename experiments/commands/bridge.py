"""`python -m experiments bridge FOLDER`: whether trained networks behave as the theory and the toy say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from experiments.commands.evaluate import BATCH_SIZES, parsed
from experiments.measures.options import LayerOptions
from flatness import arguments as checks

ROOT = Path(__file__).parents[2]

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.measures.layer_rows import Plan


@dataclass(frozen=True)
class BridgeCommand:
    """What `bridge` was asked to do."""

    folder: tyro.conf.Positional[Path]
    """The folder that `reproduce` wrote."""
    stage: Literal["all", "measure", "judge"] = "all"
    """measure: layers, tolerated gaps and snapshots of the trained runs, into FOLDER/layers; rows need not be there
    yet. judge: the predictions, from FOLDER/rows and FOLDER/layers, without weights. all: both."""
    runs: tuple[str, ...] = ()
    """Runs to measure, by name; all of the plan's by default."""
    toy: Path = ROOT / "results" / "toy.json"
    """The toy's results."""
    paper: Path = ROOT / "findings" / "paper_numbers.json"
    """The paper's printed numbers."""
    data: Path | None = None
    """The data root; FLATNESS_DATA, or ./data, by default."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to measure; auto takes CUDA where there is one."""
    batch_size: int | None = None
    """Images in one pass; 128 on the CPU and 500 on CUDA by default."""
    options: LayerOptions = dataclasses.field(default_factory=LayerOptions)

    def __post_init__(self) -> None:
        """Check the number."""
        if self.batch_size is not None:
            checks.count("batch_size", self.batch_size, at_least=1)


def parse(arguments: Sequence[str]) -> BridgeCommand:
    """The command line of `bridge`."""
    return parsed(
        BridgeCommand,
        arguments,
        BridgeCommand(folder=tyro.MISSING),
        prog="python -m experiments bridge",
        description="Hold the rows of `reproduce` against the theory's and the toy's predictions, and write "
        "FOLDER/bridge.json and bridge.md. What needs weights is measured first, a file a row; given again, the same "
        "command goes on where it stopped.",
    )


def main(arguments: list[str]) -> int:
    """Run the command line; 0 when what was asked for is written."""
    command = parse(arguments)
    from rich.console import Console

    from experiments.measures.layer_rows import Plan

    plan, console = Plan.of(command.folder), Console()
    unknown = [run for run in command.runs if run not in plan.runs]
    if unknown:
        raise checks.refuse("runs", unknown, "among the plan's, " + ", ".join(plan.runs))
    if command.stage != "measure":
        from experiments.bridge import document as bridge

        bridge.check(plan, command.toy, command.paper)  # before hours of measuring
    if command.stage != "judge":
        _measure(command, plan)
    if command.stage != "measure":
        predictions = bridge.judged(plan, command.toy, command.paper)
        _show(predictions, console)
        console.print(f"Predictions: {command.folder / bridge.DOCUMENT}", highlight=False, markup=False)
    return 0


def _measure(command: BridgeCommand, plan: Plan) -> None:
    """All rows' and runs' files of the first stage."""
    from rich.console import Console

    from experiments import data
    from experiments.adm.network import ADM
    from experiments.measures.layer_rows import Place, row, snapshots
    from experiments.measures.layers import layers_of
    from experiments.training.distributed import chosen_device
    from findings.documents import FAILED

    errors = Console(stderr=True)

    def say(line: str) -> None:
        errors.print(line, markup=False, highlight=False, soft_wrap=True)

    runs = command.runs or tuple(plan.runs)
    checkpoints = {run: plan.checkpoint(run) for run in runs}  # all are there, before the first is measured
    device, first = chosen_device(command.device), plan.runs[runs[0]]
    size = first.network.image_size
    held_out = data.load(first.dataset, "test", size, command.data)
    place = Place(held_out, device, command.batch_size or BATCH_SIZES[device.type], say)
    passes = command.options.passes(len(layers_of(ADM(first.network))), first.network.channels * size**2)
    say(f"{passes:,} passes of one image a row")
    for run, checkpoint in checkpoints.items():
        documents = [row(plan, run, average, command.options, place) for average in checkpoint.averages()]
        documents += [of for of in [snapshots(plan, run, command.options, place)] if of is not None]
        for document in documents:
            for name, measure in document["measures"].items():
                if FAILED in measure:
                    say(f"{document['row']}: {name} failed: {measure[FAILED]}")
    say(f"measured: {command.folder / 'layers'}")


def _show(document: Mapping[str, Any], console: Console) -> None:
    """The predictions as a table, and the summary."""
    from rich.table import Table

    from findings import predictions

    for name, title in predictions.TITLES.items():
        ours = [one for one in document["predictions"] if predictions.group(one) == name]
        if not ours:
            continue
        table = Table(title=f"{name}: {title}", title_justify="left")
        for head in ("", "claim", "claimed", "predicted", "measured"):
            table.add_column(head)
        table.add_column("verdict", no_wrap=True)
        for one in ours:
            table.add_row(
                one["identifier"], one["statement"], predictions.region(one), predictions.predicted(one),
                predictions.interval(one), one["verdict"],
            )  # fmt: skip
        console.print(table, highlight=False, markup=False)
    for line in document["summary"]:
        console.print(line, highlight=False, markup=False)
