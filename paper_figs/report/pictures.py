"""Figures and tables for the page, in the paper's order: the picture as a data URI, a table's numbers from its CSV."""

from __future__ import annotations

import ast
import base64
import csv
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from findings import toy_study
from findings.checksums import read_json
from paper_figs.catalogue import Entry, declared_inputs
from paper_figs.report import prose, sourced
from paper_figs.report.document import Report
from paper_figs.report.sourced import Number, Source

PIXELS_AN_INCH = 200
"""Of the pictures, as `style.SETTINGS` has them; the page shows them 1.6 times as large as print does."""
CSS_PIXELS_AN_INCH = 154
KINDS = ("figure", "table")
PARTED = ": "
"""Between a column's source and its heading, see `tabular`."""


@dataclass(frozen=True)
class Column:
    """A column of a table: the source that it is from ("" where it says none) and its heading."""

    group: Markup
    heading: Markup


@dataclass(frozen=True)
class Rows:
    """A table's numbers: columns, rows of numbers and texts, and the sentences under it."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Number | Markup, ...], ...]
    notes: tuple[Markup, ...]


@dataclass(frozen=True)
class Picture:
    """One figure or table, ready for a template."""

    name: Markup
    anchor: Markup
    title: Markup
    short: Markup
    description: tuple[Markup, ...]
    alt: Markup
    state: str
    failure: Markup | None
    command: Markup
    inputs: tuple[Markup, ...]
    data: Markup
    vector: Markup
    headline: Markup
    missing: tuple[Markup, ...]
    faces: tuple[Markup, ...]
    above: str
    nothing: bool
    image: Markup | None
    width: Markup
    height: Markup
    table: Rows | None


def order(name: str) -> tuple[int, int, str]:
    """The place of a name: figures by number, then tables, then those at toy size, then the others."""
    parts = re.fullmatch(r"(toy_)?(figure|table)_(\d+)(.*)", name)
    if parts is None:
        return 2 * len(KINDS), 0, name
    return KINDS.index(parts[2]) + len(KINDS) * (parts[1] is not None), int(parts[3]), name


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG in pixels.

    Raises:
        ValueError: it is no PNG.
    """
    if png[:8] != b"\x89PNG\r\n\x1a\n" or len(png) < 24:
        raise ValueError("the picture is no PNG; allowed: what `build.save` writes")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def _value(row: Mapping[str, str], names: Sequence[str], source: Source) -> Number | Markup:
    """A cell, with the ends of its interval where the next two columns hold them."""
    text = row[names[0]]
    try:
        value = float(text)
    except ValueError:
        return prose.quoted(text)
    ends = [row[name] for name in names[1:] if row[name]]
    minus = text.replace("-", sourced.MINUS)
    interval = f" [{', '.join(end.replace('-', sourced.MINUS) for end in ends)}]" if ends else ""
    return Number(f"{minus}{interval}", value, source)


def _grouped(header: Sequence[str]) -> list[list[str]]:
    """The header's columns, each with the columns of its interval's ends where they follow it."""
    groups: list[list[str]] = []
    for name in header:
        if groups and name in (f"{groups[-1][0]} low", f"{groups[-1][0]} high"):
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def rows(path: Path, data: Mapping[str, Any], source: Source) -> Rows:
    """A table's CSV; "groups" and "notes" of the data beside it become the sentences under it.

    Raises:
        ValueError: it is empty or ragged.
    """
    with path.open(encoding="utf-8", newline="") as stream:
        header, *lines = list(csv.reader(stream)) or [[]]
    if not header or any(len(line) != len(header) for line in lines):
        raise ValueError(f"{path} is empty or has lines of different lengths; allowed: as many cells as the header")
    columns = _grouped(header)
    parted = [names[0].partition(PARTED) if PARTED in names[0] else ("", "", names[0]) for names in columns]
    groups = {str(name): str(words) for name, words in dict(data.get("groups") or {}).items()}
    seeds = [groups.get(group, source.seeds) for group, _, _ in parted]

    def cell(line: Sequence[str], place: int) -> Number | Markup:
        row, names = dict(zip(header, line, strict=True)), columns[place]
        origin = replace(source, key=f"row {line[0]}, column {names[0]}", seeds=seeds[place])
        return _value(row, names, origin)

    cells = [tuple(cell(line, place) for place in range(len(columns))) for line in lines]
    notes = [f"{name}: {words}" for name, words in groups.items()]
    notes += [note for note in data.get("notes") or [] if isinstance(note, str)]
    if any(len(names) > 1 for names in columns):
        notes.append("in brackets: the ends of the interval")
    return Rows(
        tuple(Column(prose.quoted(group), prose.quoted(heading)) for group, _, heading in parted),
        tuple(cells),
        tuple(prose.quoted(note) for note in notes),
    )


def _source(entry: Entry, out: Path, inputs: Sequence[str]) -> Source:
    """Of a table's numbers: the file is the CSV; seeds and commits stand in the files that it was drawn from."""
    try:
        made_of = str(read_json(out / f"{entry.name}.stamp")["fingerprint"])[:12]
    except (OSError, ValueError, KeyError, TypeError):
        made_of = "not recorded"
    origin = ", ".join(inputs) or "theory"
    return Source(
        f"{out.name}/{entry.name}.csv",
        "whole file",
        f"as the notes under the table say; read from {origin}",
        f"fingerprint of sources and inputs {made_of}",
        f"python -m paper_figs {entry.name}",
    )


def _columns(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a figure's data say of each source."""
    columns = data.get("columns")
    return [one for one in columns.values() if isinstance(one, Mapping)] if isinstance(columns, Mapping) else []


def missing(data: Mapping[str, Any]) -> list[str]:
    """A line for each source of which there is nothing yet: what, and what makes it."""
    empty = [column["empty"] for column in _columns(data) if "empty" in column]
    empty += list(dict(data.get("absent") or {}).values())
    return [str(line) for line in data.get("missing") or []] + [
        f"{one['what']}: " + ", then ".join(f"`{' '.join(command.split())}`" for command in one["commands"])
        for one in empty
    ]


def faces(data: Mapping[str, Any]) -> list[str]:
    """A line for each source that is shown: what it is of, and where that lies."""
    sources = [*_columns(data), *dict(data.get("faces") or {}).values()]
    toy = [f"{toy_study.sentence(data['face'])} [results/toy.json]"] if isinstance(data.get("face"), Mapping) else []
    return [f"{one['face']} [{one['source']}]" for one in sources if "face" in one] + toy


def picture(entry: Entry, out: Path, state: str, failure: str | None) -> Picture:
    """One figure or table.

    Raises:
        ValueError: a file of it is broken.
    """
    docstring = ast.get_docstring(ast.parse(entry.source.read_bytes(), str(entry.source))) or entry.name
    _, _, body = docstring.partition("\n")
    inputs = declared_inputs(entry.source)
    image, width, height, table = None, 0, 0, None
    data: dict[str, Any] = {}
    if failure is None and state != "missing":
        png = (out / f"{entry.name}.png").read_bytes()
        width, height = (round(side * CSS_PIXELS_AN_INCH / PIXELS_AN_INCH) for side in size(png))
        image = Markup("data:image/png;base64,") + Markup(base64.b64encode(png).decode())
        data = json.loads((out / f"{entry.name}.json").read_bytes())
        if (out / f"{entry.name}.csv").is_file():
            table = rows(out / f"{entry.name}.csv", data, _source(entry, out, inputs))
    return Picture(
        name=prose.prose(entry.name),
        anchor=sourced.anchor(f"picture-{entry.name}"),
        title=prose.quoted(entry.title),
        short=prose.prose(entry.title.partition(":")[0].rstrip(".")),
        description=tuple(prose.paragraphs(body)),
        alt=Markup.escape(" ".join(entry.title.replace("`", "").split())),
        state=state,
        failure=None if failure is None else prose.quoted(failure),
        command=prose.prose(f"python -m paper_figs {entry.name}"),
        inputs=tuple(prose.prose(pattern) for pattern in inputs),
        data=prose.prose(f"{entry.name}.json"),
        vector=prose.prose(f"{entry.name}.pdf"),
        headline=prose.quoted(str(data.get("title", ""))),
        missing=tuple(prose.quoted(line) for line in missing(data)),
        faces=tuple(prose.quoted(line) for line in faces(data)),
        above="",
        nothing=bool(_columns(data)) and all("empty" in column for column in _columns(data)),
        image=image,
        width=Markup(str(width)),
        height=Markup(str(height)),
        table=table,
    )


def pictures(
    report: Report, out: Path, failed: Mapping[str, str], above: Mapping[str, str] | None = None
) -> list[Picture]:
    """All that the catalogue knows, in the paper's order.

    Args:
        report: whose figures.
        out: their folder.
        failed: figures that failed to be drawn, each with its reason.
        above: those whose picture the page shows elsewhere, and the anchor of the place.
    """
    states = report.states(out)
    names = sorted(report.figures, key=order)
    made = [picture(report.figures[name], out, states[name], failed.get(name)) for name in names]
    return [replace(one, above=(above or {}).get(str(one.name), "") if one.image is not None else "") for one in made]
