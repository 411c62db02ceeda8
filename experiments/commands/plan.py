"""`python -m experiments plan`: GPU hours of the whole paper, from operations and a rate."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from rich.console import Console
from rich.table import Table

from experiments.configuration import PRESETS, Configuration, Method, PresetName
from experiments.training import planning
from findings.names import PAPER_METHODS

PAPER: tuple[PresetName, ...] = ("cifar10", "lsun-tower", "ffhq")
ROWS = 3
"""Of the paper's tables for each run: raw weights, +EMA, +SWA."""
SAMPLES = 50_000
SAMPLING_STEPS = (20, 100)
RADII = 3
"""Values of rho that the paper searches."""
ASSUMED = 1e14
MICRO_BATCH = 32
ASSUMED_WORDS = "assumed: a tenth of an H100's dense bfloat16 peak, a third of an A100's; --measure times your device"


class Line(NamedTuple):
    """One run: PFLOP of training it, and of the samples for its rows."""

    preset: PresetName
    method: Method
    passes: float
    training: float
    sampling: float


def lines(presets: Sequence[PresetName], methods: Sequence[Method]) -> list[Line]:
    """A line a run."""
    table = []
    for preset in presets:
        for method in methods:
            c = dataclasses.replace(PRESETS[preset], method=method)
            forward = planning.operations(c.network).forward
            training = planning.flop_per_step(c) * c.steps / 1e15
            sampling = ROWS * SAMPLES * sum(SAMPLING_STEPS) * forward / 1e15
            table.append(Line(preset, method, planning.passes_per_step(c), training, sampling))
    return table


def main(arguments: list[str]) -> int:
    """Run the command line; the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.flops is not None and not 0 < options.flops < math.inf:
        parser.error(f"argument --flops: is {options.flops:g}; allowed: a finite number greater than 0")
    if options.micro_batch is not None and not options.measure:
        parser.error("argument --micro-batch: allowed with --measure, which times passes")
    options.micro_batch = MICRO_BATCH if options.micro_batch is None else options.micro_batch
    if options.micro_batch < 1:
        parser.error(f"argument --micro-batch: is {options.micro_batch}; allowed: a whole number of at least 1")
    console = Console()
    presets: list[PresetName] = options.configs
    rates = dict.fromkeys(presets, options.flops or ASSUMED)
    source = "given" if options.flops else ASSUMED_WORDS
    if options.measure:
        rates, source = _measured(presets, options.micro_batch, console)
    table = lines(presets, options.methods)
    console.print(_presets(presets), _table(table, rates))
    for text in _remarks(table, rates, source):
        console.print(text, highlight=False, soft_wrap=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments plan",
        description="GPU hours of the paper's experiments: every data set and method, training and the samples for "
        "FID, from the operations counted and the device's rate.",
    )
    parser.add_argument(
        "--configs", nargs="+", choices=tuple(PRESETS), default=list(PAPER), metavar="NAME",
        help=f"presets, of {', '.join(PRESETS)} (default: {' '.join(PAPER)})",
    )  # fmt: skip
    parser.add_argument(
        "--methods", nargs="+", choices=get_args(Method), default=list(PAPER_METHODS), metavar="NAME",
        help=f"of {', '.join(get_args(Method))} (default: {' '.join(PAPER_METHODS)})",
    )  # fmt: skip
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--flops", type=float, metavar="RATE", help=f"FLOP/s of one device (default: {ASSUMED:g})")
    group.add_argument(
        "--measure", action="store_true", help="time a few training steps of each preset on this machine's device, "
        "in bfloat16 on CUDA and float32 elsewhere",
    )  # fmt: skip
    parser.add_argument(
        "--micro-batch", type=int, metavar="N", help=f"images in a timed pass on CUDA (default: {MICRO_BATCH})"
    )
    return parser


def _measured(presets: Sequence[PresetName], micro_batch: int, console: Console) -> tuple[dict[PresetName, float], str]:
    """FLOP/s by preset, and how they were found."""
    from experiments.commands.dry_run import cpu_images
    from experiments.provenance import device_name
    from experiments.training.distributed import chosen_device

    device = chosen_device("auto")
    precision: Literal["float32", "bfloat16"] = "bfloat16" if device.type == "cuda" else "float32"
    rates: dict[PresetName, float] = {}
    for preset in presets:
        c: Configuration = dataclasses.replace(PRESETS[preset], precision=precision)
        images = micro_batch if device.type == "cuda" else cpu_images(c.network, micro_batch)
        with console.status(f"timing {preset}"):
            rates[preset] = planning.timed(c, device, images).rate(c.network)
    return rates, f"measured on {device_name(device)}, {precision}, in training passes"


def _hours(pflop: float, rate: float) -> float:
    return pflop * 1e15 / rate / 3600


def _presets(presets: Sequence[PresetName]) -> Table:
    """What the runs of a preset have in common."""
    table = Table(title="Presets", title_justify="left")
    table.add_column("preset")
    for heading in ("parameters", "steps", "batch", "GFLOP/image"):
        table.add_column(heading, justify="right")
    for preset in presets:
        c = PRESETS[preset]
        parameters = f"{planning.parameter_count(c.network) / 1e6:.1f} M"
        cost = f"{planning.operations(c.network).training / 1e9:.4g}"
        table.add_row(preset, parameters, f"{c.steps:,}", str(c.global_batch), cost)
    return table


def _table(lines: Sequence[Line], rates: dict[PresetName, float]) -> Table:
    table = Table(title="Device hours", title_justify="left")
    for heading in ("preset", "method"):
        table.add_column(heading)
    for heading in ("passes", "PFLOP", "training", "samples", "together"):
        table.add_column(heading, justify="right")
    sums = [0.0, 0.0]
    for index, line in enumerate(lines):
        hours = [_hours(pflop, rates[line.preset]) for pflop in (line.training, line.sampling)]
        sums = [a + b for a, b in zip(sums, hours, strict=True)]
        cells = (f"{line.passes:.3g}", f"{line.training + line.sampling:,.0f}", *map(_number, (*hours, sum(hours))))
        last = index + 1 == len(lines) or lines[index + 1].preset != line.preset
        table.add_row(line.preset, line.method, *cells, end_section=last)
    total = f"{sum(line.training + line.sampling for line in lines):,.0f}"
    table.add_row("together", "", "", total, *map(_number, (*sums, sum(sums))), style="bold")
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _remarks(lines: Sequence[Line], rates: dict[PresetName, float], device: str) -> list[str]:
    shown = {f"{rate / 1e12:.4g} TFLOP/s" for rate in rates.values()}
    if len(shown) > 1:
        shown = {f"{preset} {rate / 1e12:.4g} TFLOP/s" for preset, rate in rates.items()}
    remarks = [
        f"Rate: {', '.join(sorted(shown))} for one device ({device}).",
        "GFLOP/image: forward and backward, multiply-add = 2. Passes: of each image at a step, in the mean over the "
        "run; SAM makes two.",
        f"Samples: {SAMPLES:,} images for each of {ROWS} rows a run, with {' and '.join(map(str, SAMPLING_STEPS))} "
        "steps, at the same rate.",
    ]
    further = [line for line in lines if "sam" in line.method]
    if further:
        hours = sum(_hours(line.training + line.sampling, rates[line.preset]) for line in further)
        remarks.append(
            f"SAM is counted for one radius; each of the {RADII - 1} others that the paper tries adds {_number(hours)} "
            "hours."
        )
    return remarks
