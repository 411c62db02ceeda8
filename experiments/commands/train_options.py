"""The command line of a run: every field of Configuration and RunOptions as an option, by tyro.

Names are flat (`--rho`, `--dropout`); a name that two parts have keeps its part's prefix in the later one
(`--steps` of the run, `--process.steps` of the diffusion process).
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from experiments.commands.evaluate import given
from experiments.configuration import PRESETS, Configuration, PresetName, RunOptions
from findings.files import check_out

DEFAULT_PRESET: PresetName = "cifar10"
FOLLOWERS = {("process", "learn_sigma"): "network"}
"""Fields that must equal the one of the same name in another part: no option of their own."""
CLOSED = {("network", "num_classes")}
"""Fields that training allows one value of: no option."""
SCHEDULED = {"late_start": "late", "every": "every-k"}
"""SAM's options that one schedule alone uses."""
NO_FOLDER = Path("runs")
DESCRIPTION = (
    "Train by one of the paper's methods. A run carries averages of its weights along, so that one run gives three "
    "rows of the paper's tables (raw, +EMA, +SWA). Given again, the same command resumes a run."
)


@dataclass(frozen=True)
class Run:
    """What `train` was asked to do."""

    preset: PresetName
    configuration: Configuration
    options: RunOptions
    dry_run: bool


def given_preset(arguments: Sequence[str]) -> PresetName:
    """The preset that `--config` names, read before the options proper, whose defaults depend on it."""
    option = given(arguments, "--config", DEFAULT_PRESET)
    return option if option in PRESETS else DEFAULT_PRESET  # tyro refuses the others


def parse(arguments: Sequence[str]) -> Run:
    """The command line of `train`. Prints help, or what is wrong, and exits, as command lines do.

    Raises:
        SystemExit: 0 after --help, 2 for what is not allowed.
    """
    rank = int(os.environ.get("RANK", "0"))
    preset = given_preset(arguments)
    command = _command()
    parts: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(command)}
    # A dry run writes nothing, so it needs no folder
    run = parts["run"](out=NO_FOLDER if "--dry-run" in arguments else tyro.MISSING)
    parsed = tyro.cli(
        command,
        prog="python -m experiments train",
        description=f"{DESCRIPTION} The defaults shown are those of --config {preset}.",
        args=list(arguments),
        default=command(preset, False, run, _converted(PRESETS[preset], parts["configuration"])),
        config=(tyro.conf.OmitArgPrefixes,),
        console_outputs=rank == 0,
    )
    try:
        for (part, name), leader in FOLLOWERS.items():
            followed = getattr(getattr(parsed.configuration, leader), name)
            object.__setattr__(getattr(parsed.configuration, part), name, followed)
        if not parsed.dry_run:
            check_out(parsed.run.out)
        configuration = _converted(parsed.configuration, Configuration)
        _check_used(configuration, PRESETS[preset], arguments)
        options = _converted(parsed.run, RunOptions)
        options.check_within(configuration.steps)
        return Run(preset, configuration, options, parsed.dry_run)
    except ValueError as error:
        if rank == 0:
            print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


class _Unused(NamedTuple):
    """Options that a run does not use.

    Attributes:
        names: of fields.
        of, before: the dataclass that has them, of the run and of its preset.
        by: what does not use them.
        needed: what option would.
    """

    names: Sequence[str]
    of: Any
    before: Any
    by: str
    needed: str


def _check_used(configuration: Configuration, preset: Configuration, arguments: Sequence[str]) -> None:
    """Refuse options that would do nothing, of a method that the run has not say, also where the value is the default.

    Raises:
        ValueError: naming the first such option.
    """
    c, method = configuration, f"method {configuration.method!r}"
    unused: list[_Unused] = []
    if not c.perturbs_weights:
        names = [field.name for field in dataclasses.fields(c.sam)]
        unused.append(_Unused(names, c.sam, preset.sam, method, "--method sam or ip+sam"))
    for name, schedule in SCHEDULED.items():
        if schedule != c.sam.sam_schedule:
            by = f"schedule {c.sam.sam_schedule!r}"
            unused.append(_Unused([name], c.sam, preset.sam, by, f"--sam-schedule {schedule}"))
    if "ip" not in c.method:
        unused.append(_Unused(["input_perturbation"], c, preset, method, "--method ip or ip+sam"))
    if c.method != "rwp":
        names = [field.name for field in dataclasses.fields(c.weight_noise)]
        unused.append(_Unused(names, c.weight_noise, preset.weight_noise, method, "--method rwp"))
    if len(c.network.channel_mult) == 1:
        names, by = ["resblock_updown", "conv_resample"], "a network of one level"
        unused.append(_Unused(names, c.network, preset.network, by, "--channel-mult of two levels or more"))
    elif c.network.resblock_updown:
        by = "a network that resamples inside its residual blocks"
        unused.append(_Unused(["conv_resample"], c.network, preset.network, by, "--no-resblock-updown"))
    words = {word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")}
    for one in unused:
        for name in one.names:
            option, value = name.replace("_", "-"), getattr(one.of, name)
            named = any(word.split(".")[-1] in (f"--{option}", option, f"--no-{option}") for word in words)
            if named or value != getattr(one.before, name):
                raise ValueError(f"{name} is {value!r}, which {one.by} does not use; allowed with {one.needed}")


@functools.cache
def _command() -> Any:
    """The dataclass whose fields are the options."""
    taken = {f.name for kind in (RunOptions, Configuration) for f in dataclasses.fields(kind)}
    preset = Annotated[PresetName, tyro.conf.arg(help="Preset whose values are the defaults of the options below.")]
    dry_run = Annotated[bool, tyro.conf.arg(help="Say what the run would be, need and take. Writes nothing.")]
    fields = [
        ("config", preset),
        ("dry_run", tyro.conf.FlagCreatePairsOff[dry_run]),
        ("run", _open(RunOptions, taken)),
        ("configuration", _open(Configuration, taken)),
    ]
    return dataclasses.make_dataclass("Train", fields, frozen=True)


def _open(kind: type, taken: set[str], part: str = "") -> Any:
    """A subclass without the checks, so that what is wrong is told in our words, with option names as said above.

    Args:
        kind: the dataclass.
        taken: names that options have; a part's own are added.
        part: the field that holds it; none for the outermost.
    """
    hints = typing.get_type_hints(kind)
    changed: dict[str, Any] = {}
    for name in (f.name for f in dataclasses.fields(kind)):
        if dataclasses.is_dataclass(hints[name]):
            changed[name] = _open(typing.cast("type", hints[name]), taken, name)
        elif (part, name) in FOLLOWERS or (part, name) in CLOSED:
            changed[name] = Annotated[hints[name], tyro.conf.Suppress]
        elif part and name in taken:
            changed[name] = Annotated[hints[name], tyro.conf.arg(name=f"{part}.{name}")]
        taken.add(name)
    body = {"__annotations__": changed, "__post_init__": lambda self: None, "__doc__": kind.__doc__}
    return dataclass(frozen=True, kw_only=True)(type(kind.__name__, (kind,), body))


def _converted(value: Any, kind: Any, part: str = "") -> Any:
    """A dataclass with the same fields, of another type, and so its parts; runs the other type's checks.

    Raises:
        ValueError: a check's; where another part has a field of that name too, with this part's name before it.
    """
    if not dataclasses.is_dataclass(value):
        return value
    hints = typing.get_type_hints(kind)
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    parts = {name: _converted(values, hints[name], name) for name, values in fields.items()}
    try:
        return kind(**parts)
    except ValueError as error:
        if part and str(error).partition(" ")[0] in {f.name for f in dataclasses.fields(Configuration)}:
            raise ValueError(f"{part}.{error}") from error
        raise
