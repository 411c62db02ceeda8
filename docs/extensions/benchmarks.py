"""What benchmarks measured, as a table: the rows of a room of results/benchmarks.json, as they stand there.

    ```{benchmarks} instruments
    ```

The caption says with which versions, on what device and at which commit the room was measured. A file or a room that
is not there is an error that says which command writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

FILE = Path(__file__).parent.parent.parent / "results" / "benchmarks.json"
HEADINGS = {"measured": "measured", "result": "result", "against": "held against"}
WIDTHS = (35, 30, 35)
"""Of the columns, in percent."""
COMMIT = 12
"""Digits of a commit that are shown."""


class MissingResultError(LookupError):
    """Results that are not there."""


def room_of(path: Path, room: str) -> Mapping[str, Any]:
    """A room of the results.

    Raises:
        MissingResultError: the file or the room is not there, or the file is something else.
    """
    written = f"`python -m benchmarks {room} --out results/{path.name}` writes it"
    if not path.is_file():
        raise MissingResultError(f"{path.name} is not there; {written}")
    try:
        rooms = json.loads(path.read_bytes())["rooms"]
    except (ValueError, LookupError, TypeError) as error:
        raise MissingResultError(f"{path.name} holds no results of benchmarks ({error!r}); {written}") from error
    if room not in rooms:
        raise MissingResultError(f"room is {room!r}; {path.name} holds: {', '.join(rooms) or 'none'}; {written}")
    measured: Mapping[str, Any] = rooms[room]
    return measured


def caption(measured: Mapping[str, Any]) -> str:
    """Where a room was measured, in a line."""
    where = measured["provenance"]
    versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items() if version is not None)
    digits, plus, changes = (where["commit"] or "none").partition("+")
    commit = digits[:COMMIT] + plus + changes
    place = f"{where['device']} of {where['cores']} cores"
    return f"Measured on {place}; {versions}; commit {commit}; in {measured['wall_seconds']:g} s"


def table(title: str, rows: Sequence[Mapping[str, str]]) -> nodes.table:
    """A docutils table of a room's rows, their text as it is."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in WIDTHS), cols=len(WIDTHS))
    group += nodes.thead("", _row(list(HEADINGS.values())))
    group += nodes.tbody("", *(_row([row[key] for key in HEADINGS]) for row in rows))
    return nodes.table("", nodes.title("", title), group, classes=["benchmarks"])


def _row(texts: Sequence[str]) -> nodes.row:
    # Quotes in a command are to be copied
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", text, support_smartquotes=False)) for text in texts))


class Benchmarks(SphinxDirective):
    """The table of a room."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table; an error where there are no such results."""
        path = Path(self.config.benchmarks_file)
        self.env.note_dependency(path)
        try:
            measured = room_of(path, self.arguments[0])
        except MissingResultError as error:
            raise self.error(str(error)) from error
        made = table(caption(measured), measured["rows"])
        self.set_source_info(made)
        return [made]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_config_value("benchmarks_file", str(FILE), "env", types=(str,))
    app.add_directive("benchmarks", Benchmarks)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
