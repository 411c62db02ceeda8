"""The three commands: options, networks and data, measures, tables and files."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flatness import __version__
from flatness.cli.errors import (
    DONE,
    FAILED,
    INTERRUPTED,
    REFUSED,
    TRACEBACK,
    CommandError,
    out_of_memory,
    reading,
    text_of,
)
from flatness.cli.options import (
    QUICK,
    DataOptions,
    MeasureOptions,
    PathOptions,
    PlaceOptions,
    SourceOptions,
    add_options,
    taken,
)
from flatness.cli.output import console, tell

if TYPE_CHECKING:
    from rich.table import Table

    from flatness.cli.data import Data
    from flatness.cli.subject import Subject

SOURCE = (
    "a folder as diffusers' save_pretrained writes it (a network, or a pipeline from DDPM to Flux), a .safetensors "
    "beside its config.json, the id of a model in the local cache of the hub, or module:function, a function that "
    "returns (model, loss) or (model, loss, process): see `pydoc flatness.cli.sources`"
)
QUICK_HELP = (
    "an answer in about a minute on two cores for 57 million weights at 32 x 32: noise per filter and 4 bits on a few "
    "images; options given beside it count"
)


def parser(quick: bool = False) -> argparse.ArgumentParser:
    """The command line; with quick, its defaults are --quick's."""
    about = "How flat the minimum is that a diffusion model is in."
    whole = argparse.ArgumentParser(prog="flatness", description=about)
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    help_of = {
        "measure": "measure one network: a table, and with --out a JSON file and plots",
        "compare": "measure several on the same data, noise and weight noise; differences with intervals",
        "path": "the loss along the line between two checkpoints of one network, and the barrier on it",
    }
    for name, text in help_of.items():
        description = f"{text[0].upper()}{text[1:]}. Exit status: 0 done, 1 a measure failed, 2 not possible as asked."
        # Abbreviations would hide --quick from `is_quick`
        command = commands.add_parser(name, help=text, description=description, allow_abbrev=False)
        count: dict[str, Any] = {"measure": 1, "compare": "+", "path": 2}
        command.add_argument("sources", nargs=count[name], metavar="SOURCE", help=SOURCE)
        if name == "path":
            add_options(command, DataOptions, DataOptions(), "data")
            add_options(command, PathOptions, PathOptions(), "the line")
            add_options(command, PlaceOptions, PlaceOptions(), "place", without=("gradient_batch",))
        else:
            add_measuring(command, quick)
        add_options(command, SourceOptions, SourceOptions(), "networks without a scheduler")
    return whole


def add_measuring(command: argparse.ArgumentParser, quick: bool) -> None:
    """The options of what is measured, on which data, and where."""
    command.add_argument("--quick", action="store_true", help=QUICK_HELP)
    add_options(command, DataOptions, DataOptions(), "data")
    add_options(command, MeasureOptions, QUICK if quick else MeasureOptions(), "measures")
    add_options(command, PlaceOptions, PlaceOptions(), "place")


def empty_option(words: Sequence[str]) -> str | None:
    """The first option with an empty value, which as a path would be this folder; a caption may be empty."""
    for before, word in zip(["SOURCE", *words], words, strict=False):
        if word == "" and before != "--caption":
            return before
        if word.startswith("--") and word.endswith("=") and word != "--caption=" and "=" not in word[:-1]:
            return word[:-1]
    return None


def is_quick(arguments: Sequence[str]) -> bool:
    """Whether --quick is given, which other options' defaults depend on."""
    return "--quick" in arguments


def run(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line; the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if empty := empty_option(words):
        tell(f"error: {empty} is ''; allowed: a value that is not empty")
        return REFUSED
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
        tell(f"{getattr(error, 'trace', '')}error: {text_of(error)}")
        return REFUSED
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        from flatness.cli.errors import one_line, place

        if out_of_memory(error):
            tell(f"error: out of memory: {text_of(error)[:300]}; fewer images, or a smaller network, take less")
        else:
            tell(f"error: {one_line(error)}{place(error)}; with {TRACEBACK}=1 it shows where it arose")
        return FAILED


def _carried_out(given: argparse.Namespace) -> int:
    path = taken(PathOptions, given) if given.command == "path" else None
    options = path.measuring() if path else taken(MeasureOptions, given, quick=given.quick)
    place, data_options = taken(PlaceOptions, given), taken(DataOptions, given)
    source_options = taken(SourceOptions, given)
    from flatness.cli.sources import loaded  # here, as all that --help does not wait for

    subjects = []
    for source in given.sources:
        with reading(f"{source}"):
            subjects.append(loaded(source, source_options))
    all_options_apply(source_options, subjects)
    if path is not None:
        from flatness.cli.path import check_ends

        check_ends(subjects)
        return reported_path(labelled(subjects), chosen_data(subjects, data_options), path, place)
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
    embedded = [{*encoding.encoder.family.captioned} for encoding in encodings if encoding.encoder.family.captioned]
    if options.caption is not None and not embedded:
        raise CommandError("--caption is for networks that take captions; none of the sources does")
    if options.latents is not None and not encodings:
        raise CommandError("--latents is for pipelines with an autoencoder; arrays are taken as they are")
    with reading(f"--data {options.data}"):
        data = found_data(options, shape, classes, latents)
        if options.caption is not None and all(names <= data.embeddings(1, 0).keys() for names in embedded):
            raise CommandError(f"--caption is for data without embeddings; {data.name} holds those of all its captions")
    return data


def all_options_apply(options: SourceOptions, subjects: Sequence[Subject]) -> None:
    """Raise for an option that applies to no source.

    Raises:
        CommandError: there is one.
    """
    for name, value in dataclasses.asdict(options).items():
        if value is not None and not any(name in subject.applied for subject in subjects):
            refusal = f"--{name.replace('_', '-')} is for networks without a scheduler"
            raise CommandError(f"{refusal}; each source here says itself how it was trained")


def labelled(subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects with labels of their own: those that share one are numbered."""
    labels = [subject.label for subject in subjects]
    own = []
    for index, subject in enumerate(subjects):
        label = subject.label if labels.count(subject.label) == 1 else f"{subject.label} ({index + 1})"
        own.append(dataclasses.replace(subject, label=label))
    return own


def reported(
    subjects: Sequence[Subject],
    data: Data,
    options: MeasureOptions,
    place: PlaceOptions,
    completed: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document,
) -> int:
    """Measure the subjects, print tables, write files; the exit status.

    Args:
        subjects, data, options, place: as the command line names them.
        completed: makes of the document what is written.

    Raises:
        CommandError: it cannot be done as asked.
    """
    from flatness.cli.document import document, json_bytes
    from flatness.cli.plots import figure
    from flatness.cli.recording import ShownProgress
    from flatness.cli.report import compared_table, differences, measured_table, notes
    from flatness.cli.runner import gathered, measured, tried

    errors, _ = console(error=True)

    def say(line: str) -> None:
        errors.print(line, markup=False, highlight=False, soft_wrap=True)

    with reading(f"the data {data.name}"):
        common = gathered(subjects, data, options, place, ShownProgress(errors))
    for remark in common.remarks:
        say(f"note: {remark}")
    for subject in common.subjects[1:]:  # which would else be told once the first has been measured
        tried(subject, common)
    networks, lost = [], False
    for subject in common.subjects:
        try:
            networks.append(measured(subject, common, ShownProgress(errors)))
        except CommandError as error:
            if not networks:
                raise
            say(f"error: {error}")
            lost = True
    several = len(networks) > 1
    differing = differences(networks, len(common.x_0)) if several else []
    table = compared_table(networks, differing) if several else measured_table(networks[0])
    entries = [one.entry() for one in differing] if several else None
    complete = published(
        "compare" if several else "measure", json_bytes(completed(document(networks, common, data, entries))),
        lambda: figure(networks), table, notes(networks, common, differing), place,
    )  # fmt: skip
    return DONE if complete and not lost and not any(one.failed for one in networks) else FAILED


def reported_path(subjects: Sequence[Subject], data: Data, options: PathOptions, place: PlaceOptions) -> int:
    """Measure along the line between two checkpoints, print a table, write files; the exit status.

    Raises:
        CommandError: it cannot be done as asked.
    """
    from flatness.cli.document import json_bytes
    from flatness.cli.path import differing_buffers, path_document, path_figure, path_notes, path_of, path_table
    from flatness.cli.recording import ShownProgress
    from flatness.cli.runner import gathered

    errors, _ = console(error=True)
    with reading(f"the data {data.name}"):
        common = gathered(subjects, data, options.measuring(), place, ShownProgress(errors))
    buffers = differing_buffers(subjects)
    if buffers:
        words = f"buffers stay those of {subjects[0].label}: {', '.join(buffers[:3])}"
        common.remarks.append(words + (", ..." if len(buffers) > 3 else ""))
    for remark in common.remarks:
        errors.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
    line = path_of(common.subjects, common, options, ShownProgress(errors))
    content = json_bytes(path_document(line, common, data, options))
    lines = path_notes(line, common, options)
    complete = published("path", content, lambda: path_figure(line), path_table(line), lines, place)
    return DONE if complete else FAILED


def published(
    name: str,
    content: bytes,
    drawn: Callable[[], bytes | None],
    table: Table,
    lines: Sequence[str],
    place: PlaceOptions,
) -> bool:
    """Write a JSON file and a figure, print a table and the lines below it; whether nothing was lost.

    Files come first: whatever becomes of the terminal, what took long is in them.

    Args:
        name: of the files.
        content: of the JSON file.
        drawn: makes the figure, where matplotlib is installed; None where there is nothing to draw.
        table, lines: for the terminal.
        place: whose `out` is the folder, or None.

    Raises:
        CommandError: a file cannot be written; raised after the table.
    """
    from flatness.cli.document import write_elsewhere, write_result
    from flatness.cli.plots import available
    from flatness.cli.report import show

    folder = None if place.out is None else Path(place.out)
    (screen, output), (errors, _) = console(), console(error=True)

    def say(line: str) -> None:
        errors.print(line, markup=False, highlight=False, soft_wrap=True)

    problem: CommandError | None = None
    if folder is not None:
        try:
            write_result(folder / f"{name}.json", content)
            image = drawn() if available() else None
            if image is not None:
                write_result(folder / f"{name}.png", image)
        except CommandError as error:
            problem = error  # told below the table
    show(screen, table, lines)
    if folder is not None and problem is None:
        if not available():
            say("note: no plots without matplotlib: pip install 'flatness[plot]'")
        say(f"results: {place.out}")
    complete = output.failure is None or output.gone
    if not complete:
        where = f"it is in {place.out}"
        if folder is None or problem is not None:
            where = f"it is {write_elsewhere(f'{name}.json', content)}"
        say(f"error: the table could not be printed ({output.failure}); {where}")
    if problem is not None:
        raise problem
    return complete
