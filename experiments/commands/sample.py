"""`python -m experiments sample RUN`: images from a run's weights, with a grid, an npz and their provenance."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from findings.files import check_out

if TYPE_CHECKING:
    from experiments.sampling.run import Outcome, SampleSettings

DESCRIPTION = (
    "Sample images from a run's weights. Image i is a function of the weights, the options and (seed, i), but for "
    "rounding, which differs with the batch size and the device. Given again, the same command goes on where it was "
    "left; started by torchrun, or once for each --shard, its processes share the work."
)


def main(arguments: list[str]) -> int:
    """Run the command line; 0 where this process's images are there, 2 for options that are not allowed."""
    parser = _parser()
    given = parser.parse_args(arguments)
    # Here, not above: --help does not wait for torch
    from experiments.commands.evaluate import share
    from experiments.sampling.run import sample_into

    try:
        check_out(given.out)
        settings, (part, parts) = _settings(given), share(given.shard)
    except ValueError as error:
        parser.error(str(error))

    first = part == 0 or given.shard is not None
    outcome = sample_into(
        given.out,
        given.run,
        settings,
        batch_size=given.batch_size,
        device=given.device,
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        part=part,
        parts=parts,
        progress=None if first else False,
        say=_say if first else lambda line: None,
    )
    if first or outcome.result is not None:
        _say(_ending(given.out, outcome))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments sample", description=DESCRIPTION)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run's folder, whose newest checkpoint is taken, or a checkpoint's")
    add("--out", type=Path, required=True, metavar="DIR", help="the samples' folder: made if missing, continued if not")
    add(
        "--average", default="ema", metavar="NAME",
        help="the weights: raw, or an average that the run carries: ema, swa, power-0.05 (default: ema)",
    )  # fmt: skip
    add("--images", type=int, default=1000, metavar="N", help="images 0 to N - 1 (default: 1000)")
    add("--steps", type=int, default=20, metavar="T", help="sampling steps, evenly spaced (default: 20)")
    add("--sampler", choices=("ddpm", "ddim"), default="ddpm", help="ancestral, or DDIM (default: ddpm)")
    add("--eta", type=float, default=argparse.SUPPRESS, help="DDIM's noise, 0 to 1 (default: 0)")
    add("--seed", type=int, default=0, help="of all noise (default: 0)")
    add(
        "--clip", action=argparse.BooleanOptionalAction, default=True,
        help="clamp each predicted image to [-1, 1] on the way (default: yes)",
    )  # fmt: skip
    add("--bits", type=int, default=32, help="32, or 2 to 16 for weights rounded to so many bits (default: 32)")
    add(
        "--granularity", choices=("tensor", "channel"), default=argparse.SUPPRESS,
        help="one grid for each tensor of weights, or for each output channel (default: tensor)",
    )  # fmt: skip
    add(
        "--scheme", choices=("symmetric", "minmax"), default=argparse.SUPPRESS,
        help="a grid around zero, or between the extremes (default: symmetric)",
    )  # fmt: skip
    add(
        "--precision", choices=("float32", "bfloat16"), default="float32",
        help="of the network's passes; float32 is without TF32 (default: float32)",
    )  # fmt: skip
    add("--shard-size", type=int, default=512, metavar="N", help="images in one file (default: 512)")
    add("--batch-size", type=int, metavar="N", help="most images at once (default: 64 on the CPU, 256 on CUDA)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to sample (default: auto)")
    add(
        "--shard",
        metavar="K/N",
        help="make the K-th of N equal parts, K from 0; where torchrun sets the rank, it does so",
    )
    return parser


def _settings(given: argparse.Namespace) -> SampleSettings:
    from experiments.sampling.chains import ChainOptions
    from experiments.sampling.run import FULL, SampleSettings

    if given.batch_size is not None and given.batch_size < 1:
        raise ValueError(f"batch_size is {given.batch_size}; allowed: a whole number of at least 1")
    needs = {"eta": ("--sampler ddim", given.sampler == "ddim")}
    needs |= dict.fromkeys(("granularity", "scheme"), ("--bits of less than 32, which rounds", given.bits != FULL))
    for name, (needed, applies) in needs.items():
        if hasattr(given, name) and not applies:
            raise ValueError(f"{name} is {getattr(given, name)!r}; allowed with {needed}")

    def taken(kind: type) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(kind)]
        return {name: getattr(given, name) for name in names if name in given}

    return SampleSettings(**taken(SampleSettings), chain=ChainOptions(**taken(ChainOptions)))


def _ending(out: Path, outcome: Outcome) -> str:
    if outcome.result is None:
        own = outcome.made + outcome.there
        return (
            f"{out}: this process's {own} images are there; {outcome.missing} of other processes are missing, "
            "the last of which puts all together"
        )
    total = outcome.result["images"]
    if not outcome.made:
        return f"{out} is finished: all {total} images are there, and none was made"
    rate = outcome.result["images_per_second_and_device"]
    return f"{out}: samples.npz, grid.png and samples.json of {total} images, {rate:.3g} images/s on a device"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
