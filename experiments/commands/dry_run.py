"""`python -m experiments train --dry-run`: the resolved configuration, and what the run needs and takes."""

from __future__ import annotations

import os
import statistics

import torch
from rich.console import Console
from rich.table import Table

from experiments.adm.options import ADMOptions
from experiments.commands.progress import rate
from experiments.commands.train_options import Run
from experiments.configuration import PRESETS, flat
from experiments.provenance import device_name
from experiments.training import planning
from experiments.training.distributed import chosen_device

CPU_OPERATIONS = 5e10
"""FLOP of the pass that is timed on a CPU, at most but for one image: some seconds on one core."""
GIB = 2**30


def main(command: Run, console: Console | None = None) -> int:
    """Print it all; the exit status.

    Raises:
        ValueError: the ranks cannot share the global batch, or the device that is asked for is not there.
    """
    console = Console() if console is None else console
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if command.configuration.global_batch % world:
        allowed = f"a multiple of the number of ranks, {world}"
        raise ValueError(f"global_batch is {command.configuration.global_batch}; allowed: {allowed}")
    device = chosen_device(command.options.device, int(os.environ.get("LOCAL_RANK", "0")))
    console.print(f"Configuration: {command.preset}", style="bold")
    console.print(_configuration(command), "", highlight=False)
    _say(console, _operations(command, world))
    console.print("Memory of a device, GiB: counted, not measured", style="bold")
    console.print(_memory(command, world), highlight=False)
    console.print("Activations are what autograd keeps of a pass; temporaries and the allocator's slack come on top.\n")
    with console.status("timing a few steps"):
        lines = _time(command, world, device)
    _say(console, lines)
    return 0


def about(seconds: float) -> str:
    """A time in the unit that suits it: 8.2 s, 5 minutes, 3.4 days, 1,170 days."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}" if seconds >= 100 * size else f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _say(console: Console, lines: list[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in lines:
        table.add_row(name, text)
    console.print(table, "", highlight=False)


def _configuration(command: Run) -> Table:
    changed = PRESETS[command.preset].differing(command.configuration)
    table = Table(box=None, show_header=False)
    table.add_column("option", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in flat(command.configuration.to_dict()).items():
        style = "bold" if name in changed else None
        table.add_row(name, f"{_shown(value)}{'  (not the preset)' if name in changed else ''}", style=style)
    return table


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _operations(command: Run, world: int) -> list[tuple[str, str]]:
    c = command.configuration
    operations = planning.operations(c.network)
    micro = planning.micro_batch_of(c, command.options.micro_batch, world)
    passes = planning.passes_per_step(c, world, command.options.micro_batch)
    perturbed = f" ({planning.perturbed_share(c):.0%} of the steps perturb)" if c.perturbs_weights else ""
    return [
        ("parameters", f"{planning.parameter_count(c.network):,}"),
        (
            "per image",
            f"{operations.forward / 1e9:.4g} GFLOP forward, {operations.training / 1e9:.4g} forward and backward "
            "(multiply-add = 2; matrix products and convolutions)",
        ),
        (
            "per step",
            f"{planning.flop_per_step(c) / 1e12:.4g} TFLOP: {c.global_batch} images, {passes:.4g} passes each in the "
            f"mean over the run{perturbed}",
        ),
        ("ranks", f"{world}, each with {c.global_batch // world} images a step in micro-batches of {micro}"),
        ("disk", f"{planning.disk(c) / GIB:.3g} GiB for checkpoints and snapshots"),
        ("EMA", planning.start_in_words(c, c.steps)),
        ("run", f"{c.steps} steps, {planning.flop_per_step(c) * c.steps / 1e15:.4g} PFLOP"),
    ]


def _memory(command: Run, world: int) -> Table:
    needed = planning.memory(command.configuration, command.options.micro_batch, world)
    table = Table(box=None, show_header=False)
    table.add_column("for")
    table.add_column("GiB", justify="right")
    for name, size in needed.items():
        table.add_row(name, f"{size / GIB:.3f}")
    table.add_row("together", f"{sum(needed.values()) / GIB:.3f}", style="bold")
    return table


def cpu_images(network: ADMOptions, micro_batch: int) -> int:
    """Images of a pass that is timed on a CPU: of a micro-batch as many as take some seconds, but one at least."""
    return max(1, min(micro_batch, int(CPU_OPERATIONS / planning.operations(network).training)))


def _time(command: Run, world: int, device: torch.device) -> list[tuple[str, str]]:
    c = command.configuration
    images = planning.micro_batch_of(c, command.options.micro_batch, world)
    if device.type == "cpu":
        images = cpu_images(c.network, images)
    name = device_name(device)
    try:
        seconds = planning.timed(c, device, images, command.options.compile)
    except torch.OutOfMemoryError:
        return [("time", f"not measured: {images} images in one pass do not fit into {name}; give --micro-batch")]
    step = seconds.step_seconds(c, world)
    lines = [
        (
            "timed",
            f"{name}, {c.precision}: forward and backward of {images} images in "
            f"{statistics.median(seconds.passes):.3g} s, {seconds.rate(c.network) / 1e9:.4g} GFLOP/s (median of "
            f"{len(seconds.passes)}, from {min(seconds.passes):.3g} to {max(seconds.passes):.3g}); update of the "
            f"weights {statistics.median(seconds.update):.3g} s",
        ),
        ("a step", f"{about(step)}, {rate(c.global_batch / step)} images/s, scaled from there to the global batch"),
        ("the run", f"about {about(step * c.steps)} for {c.steps} steps"),
        ("", "Not in it: updates of the averages, sample grids, held-out losses, communication between ranks."),
    ]
    if seconds.peak_memory is not None:
        lines.insert(
            1, ("peak memory", f"{seconds.peak_memory / GIB:.3f} GiB measured, without averages and SAM's copy")
        )
    return lines
