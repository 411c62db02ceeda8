"""`python -m experiments gpu`: what one GPU and a quarter of an hour tell, by one command."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.gpu.options import SECTIONS, SHARES, GPUOptions, Section, plan_lines
from findings.files import check_out

if TYPE_CHECKING:
    import torch

GRACE = 15.0
"""Seconds that a section's process gets beyond its time, then those from being asked to end to being ended."""
SECTION_OF: dict[str, Section] = {"rho": "rung4", "reference": "speed"}
"""Options of one section alone."""
STOPPED = "its process ended"


def main(arguments: list[str]) -> int:
    """Run the command line; 0 where all parts passed, or with --check where nothing is missing."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        check_out(given.out)
        options = GPUOptions(
            out=given.out, minutes=given.minutes, sections=tuple(given.sections), device=given.device, tiny=given.tiny,
            data=given.data, radii=tuple(given.rho), reference=given.reference,
        )  # fmt: skip
        for name, section_of_it in SECTION_OF.items():
            if getattr(given, name) and section_of_it not in options.sections:
                allowed = f"--sections with {section_of_it}, the one that it is for"
                raise ValueError(f"{name} is {getattr(given, name)}; allowed: {allowed}")
    except ValueError as error:
        parser.error(str(error))
    if given.check:
        return check(options)
    if len(options.sections) == 1:
        return section(options)
    _device(options)  # before a process is started for each section
    _say("\n".join(plan_lines(options)))
    return apart(options)


def check(options: GPUOptions) -> int:
    """Say what is there and what is missing; 1 where a section cannot do without it."""
    from experiments.gpu.requirements import lines, needs

    needed = needs(options)
    print("\n".join(lines(needed)))
    missing = [need.what for need in needed if need.fatal and not need.there]
    if missing:
        print(f"error: what a section cannot do without is missing: {', '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


def section(options: GPUOptions) -> int:
    """The one section, in this process; 1 where a part failed or did not pass.

    Raises:
        ValueError: there is no CUDA device, and the CPU was not asked for.
    """
    import importlib

    from experiments.gpu.record import Record

    (name,) = options.sections
    device = _device(options)
    settings = {**dataclasses.asdict(options), "out": None, "data": None, "reference": options.reference is not None}
    settings = json.loads(json.dumps(settings, default=str))
    record = Record(_path(options, name), name, settings, device, options.minutes, _say)
    importlib.import_module(f"experiments.gpu.{name}").run(options, device, record)
    record.write(complete=True)
    failures = record.failures()
    _say(f"{name}: {_path(options, name)}" + (f"; did not pass: {', '.join(failures)}" if failures else ""))
    return 1 if failures else 0


def _device(options: GPUOptions) -> torch.device:
    """Where sections run.

    Raises:
        ValueError: there is no CUDA device, and the CPU was not asked for.
    """
    from experiments.training.distributed import chosen_device

    return chosen_device("cpu" if options.device == "cpu" else "cuda")


def apart(options: GPUOptions, command: Callable[[GPUOptions], Sequence[str]] | None = None) -> int:
    """Each section in a process of its own, which an error on the card does not outlast; 1 where one did not pass.

    Args:
        options: of all sections.
        command: the command line of a section's process, from its options.
    """
    end = time.monotonic() + 60.0 * options.minutes
    statuses: dict[Section, int] = {}
    for index, name in enumerate(options.sections):
        rest = options.sections[index:]
        left = max(end - time.monotonic(), 1.0)
        own = left * SHARES[name] / sum(SHARES[other] for other in rest)
        limited = dataclasses.replace(options, sections=(name,), minutes=own / 60.0)
        statuses[name] = _ended(list((command or own_command)(limited)), own + GRACE)
        if not _complete(_path(options, name)):
            _failed(_path(options, name), name, statuses[name])
            _say(f"{name}: {STOPPED} with status {statuses[name]}")
    return 1 if any(statuses.values()) else 0


def own_command(options: GPUOptions) -> list[str]:
    """This command for one section."""
    words = [sys.executable, "-m", "experiments", "gpu", "--out", str(options.out), "--device", options.device]
    words += ["--minutes", f"{options.minutes:.4f}", "--sections", *options.sections]
    words += ["--tiny"] * options.tiny
    words += ["--data", str(options.data)] if options.data else []
    values = {"rho": options.radii, "reference": [options.reference] if options.reference else []}
    for name, section_of_it in SECTION_OF.items():
        if values[name] and section_of_it in options.sections:
            words += [f"--{name}", *map(str, values[name])]
    return words


def _ended(command: list[str], seconds: float) -> int:
    """The process's status; asked to end after so many seconds, and ended where it does not."""
    process = subprocess.Popen(command)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            return process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return -1
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _path(options: GPUOptions, name: Section) -> Path:
    return options.out / f"{name}.json"


def _complete(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_bytes())["complete"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _failed(path: Path, name: Section, status: int) -> None:
    """Add to the section's document, or to an empty one, that its process ended before its time."""
    from findings.documents import FAILED, VERSION, json_text
    from findings.files import write_whole

    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError):
        document = {"version": VERSION, "what": "a section of the check of one GPU", "section": name, "parts": {}}
    write_whole(path, json_text({**document, "complete": False, FAILED: f"{STOPPED} with status {status}"}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m experiments gpu",
        description="Hold one GPU against the CPU, time training steps on it, run two processes on it, and train and "
        "measure rung 4 of the ladder, in the minutes given. Each section writes OUT/SECTION.json after each of its "
        "parts; one that fails does not end the others.",
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="the folder of the results")
    add("--minutes", type=float, default=9.0, help="for all sections together (default: 9)")
    add("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="which (default: all)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="cpu takes --tiny alone (default: auto)")
    add("--tiny", action="store_true", help="a rehearsal: everything at its smallest, on made images")
    add("--check", action="store_true", help="say what the sections need, what is missing, and how large it is")
    add("--data", type=Path, metavar="DIR", help="the data root (default: FLATNESS_DATA, or ./data)")
    add(
        "--rho", nargs="+", type=float, default=[], metavar="R",
        help="SAM's two radii on rung 4 (default: those that recorded studies chose, else .01 and .03)",
    )  # fmt: skip
    add("--reference", type=Path, metavar="DIR", help="a folder with guided_diffusion, timed beside ours")
    return parser


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
