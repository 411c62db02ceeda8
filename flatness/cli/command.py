"""The two commands: options, networks and data, measures, tables and files."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flatness import __version__
from flatness.cli.errors import DONE, FAILED, INTERRUPTED, REFUSED, TRACEBACK, CommandError, reading
from flatness.cli.options import (
    QUICK,
    DataOptions,
    MeasureOptions,
    PlaceOptions,
    SourceOptions,
    add_options,
    taken,
)
from flatness.cli.output import console, tell

if TYPE_CHECKING:
    from flatness.cli.data import Data
    from flatness.cli.subject import Subject

SOURCE = (
    "a folder as diffusers' save_pretrained writes it (a UNet2DModel, or a DDPM or DDIM pipeline), or module:function, "
    "a function that returns (model, loss) or (model, loss, process): see `pydoc flatness.cli.sources`"
)
QUICK_HELP = (
    "an answer in about a minute on two cores for 57 million weights at 32 x 32: noise per filter and 4 bits on a few "
    "images; options given beside it count"
)


def parser(quick: bool = False) -> argparse.ArgumentParser:
    """The command line; with quick, its defaults are --quick's."""
    about = "How flat the minimum is that a diffusion model is in."
    found = argparse.ArgumentParser(prog="flatness", description=about)
    found.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    help_of = {
        "measure": "measure one network: a table, and with --out a JSON file and plots",
        "compare": "measure several on the same data, noise and weight noise; differences with intervals",
    }
    for name, text in help_of.items():
        description = f"{text[0].upper()}{text[1:]}. Exit status: 0 done, 1 a measure failed, 2 not possible as asked."
        # Abbreviations would hide --quick from `is_quick`
        command = commands.add_parser(name, help=text, description=description, allow_abbrev=False)
        command.add_argument("sources", nargs="+" if name == "compare" else 1, metavar="SOURCE", help=SOURCE)
        add_measuring(command, quick)
        add_options(command, SourceOptions, SourceOptions(), "networks without a scheduler")
    return found


def add_measuring(command: argparse.ArgumentParser, quick: bool) -> None:
    """The options of what is measured, on which data, and where."""
    command.add_argument("--quick", action="store_true", help=QUICK_HELP)
    add_options(command, DataOptions, DataOptions(), "data")
    add_options(command, MeasureOptions, QUICK if quick else MeasureOptions(), "measures")
    add_options(command, PlaceOptions, PlaceOptions(), "place")


def is_quick(arguments: Sequence[str]) -> bool:
    """Whether --quick is given, which other options' defaults depend on."""
    return "--quick" in arguments


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    given = parser(is_quick(words)).parse_args(words)
    return guarded(lambda: _carried_out(given))


def guarded(work: Callable[[], int]) -> int:
    """The exit status of some work; what a person can act on is a line on standard error."""
    try:
        return work()
    except KeyboardInterrupt:
        tell("error: interrupted")
        return INTERRUPTED
    except (CommandError, OSError) as error:
        if os.environ.get(TRACEBACK):
            raise
        tell(f"{getattr(error, 'trace', '')}error: {error}")
        return REFUSED


def _carried_out(given: argparse.Namespace) -> int:
    options = taken(MeasureOptions, given, quick=given.quick)
    place, data_options = taken(PlaceOptions, given), taken(DataOptions, given)
    source_options = taken(SourceOptions, given)
    from flatness.cli.sources import loaded  # here, as all that --help does not wait for

    subjects = []
    for source in given.sources:
        with reading(f"{source}"):
            subjects.append(loaded(source, source_options))
    all_options_apply(source_options, subjects)
    return reported(labelled(subjects), chosen_data(subjects, data_options), options, place)


def chosen_data(subjects: Sequence[Subject], options: DataOptions) -> Data:
    """The samples that all subjects are measured on.

    Raises:
        CommandError: there are none, they cannot be read, or they do not fit the networks.
    """
    from flatness.cli.data import found_data

    shape = next((subject.shape for subject in subjects if subject.shape is not None), None)
    classes = next((subject.classes for subject in subjects if subject.classes is not None), None)
    encodings = [subject.encoding for subject in subjects if subject.encoding is not None]
    latents = encodings[0].latents if encodings else None
    size = options.resize
    if encodings and size is not None and shape is not None and (size, size) != shape[1:]:
        for encoding in encodings:
            if not encoding.multiple or size < 1 or size % encoding.multiple:
                allowed = f"multiples of {encoding.multiple}" if encoding.multiple else f"{shape[1]}"
                raise CommandError(f"resize is {size}; allowed for {encoding.encoder.folder}: {allowed}")
        shape = (shape[0], size, size)
    if options.caption is not None and not any(encoding.encoder.family.captioned for encoding in encodings):
        raise CommandError("--caption is for networks that take captions; none of the sources does")
    if options.latents is not None and not encodings:
        raise CommandError("--latents is for pipelines with an autoencoder; arrays are taken as they are")
    with reading(f"--data {options.data}"):
        return found_data(options, shape, classes, latents)


def all_options_apply(options: SourceOptions, subjects: Sequence[Subject]) -> None:
    """Raise for an option that applies to no source.

    Raises:
        CommandError: there is one.
    """
    for name, value in dataclasses.asdict(options).items():
        if value is not None and not any(name in subject.applied for subject in subjects):
            told = f"--{name.replace('_', '-')} is for networks without a scheduler"
            raise CommandError(f"{told}; each source here says itself how it was trained")


def labelled(subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects with labels of their own: those that share one are numbered."""
    labels = [subject.label for subject in subjects]
    found = []
    for index, subject in enumerate(subjects):
        label = subject.label if labels.count(subject.label) == 1 else f"{subject.label} ({index + 1})"
        found.append(dataclasses.replace(subject, label=label))
    return found


def reported(subjects: Sequence[Subject], data: Data, options: MeasureOptions, place: PlaceOptions) -> int:
    """Measure the subjects, print tables, write files; the exit status.

    Raises:
        CommandError: it cannot be done as asked.
    """
    from flatness.cli.comparing import differences
    from flatness.cli.document import document, json_bytes, results_folder, write_elsewhere, write_result
    from flatness.cli.plots import available, figure
    from flatness.cli.progress import ShownProgress
    from flatness.cli.report import compared_table, measured_table, notes, show
    from flatness.cli.runner import gathered, measured, tried

    folder = None if place.out is None else results_folder(place.out)  # before minutes are spent
    (screen, output), (errors, _) = console(), console(error=True)

    def say(line: str) -> None:
        errors.print(line, markup=False, highlight=False, soft_wrap=True)

    with reading(f"the data {data.name}"):
        common = gathered(subjects, data, options, place, ShownProgress(errors))
    for remark in common.remarks:
        say(f"note: {remark}")
    for subject in common.subjects[1:]:  # which would else be told once the first has been measured
        tried(subject, common)
    found, lost = [], False
    for subject in common.subjects:
        try:
            found.append(measured(subject, common, ShownProgress(errors)))
        except CommandError as error:
            if not found:
                raise
            say(f"error: {error}")
            lost = True
    several = len(found) > 1
    told = differences(found, len(common.x_0)) if several else []
    table = compared_table(found, told) if several else measured_table(found[0])
    lines = notes(found, common, told)
    # Files first: whatever becomes of the terminal, what took long is in them
    name = "compare" if several else "measure"
    content = json_bytes(document(found, common, data, [one.entry() for one in told] if several else None))
    problem: CommandError | None = None
    if folder is not None:
        try:
            write_result(folder / f"{name}.json", content)
            drawn = figure(found) if available() else None
            if drawn is not None:
                write_result(folder / f"{name}.png", drawn)
        except CommandError as error:
            problem = error  # told below the table
    show(screen, table, lines)
    if folder is not None and problem is None:
        if not available():
            say("note: no plots without matplotlib: pip install 'flatness[plot]'")
        say(f"results: {place.out}")
    if output.failure is not None and not output.gone:
        lost = True
        where = f"it is in {place.out}"
        if folder is None or problem is not None:
            where = f"it is {write_elsewhere(f'{name}.json', content)}"
        say(f"error: the table could not be printed ({output.failure}); {where}")
    if problem is not None:
        raise problem
    return FAILED if lost or any(one.failed for one in found) else DONE
