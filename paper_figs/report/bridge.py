"""What trained networks say to the predictions: every bridge.json that there is, whatever else it holds.

A file has "predictions", a list of objects with "identifier", "statement", "source", "predicted", "measured",
"interval", "verdict", "rule" and "from"; any of them but the first may be missing, and others are shown as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from findings.documents import read_document
from paper_figs import fingerprint
from paper_figs.report import document, predictions, prose, sourced
from paper_figs.report.sourced import Number, Source

COMMAND = "python -m experiments bridge"
KNOWN = ("identifier", "statement", "source", "predicted", "measured", "interval", "verdict", "rule", "from")
NOTHING = "–"

Pieces = tuple[Number | Markup, ...]


@dataclass(frozen=True)
class Row:
    """One prediction as a network bears it out; numbers and texts as the file has them."""

    identifier: Markup
    statement: Pieces
    source: Pieces
    predicted: Pieces
    measured: Pieces
    interval: Pieces
    verdict: str
    rule: Pieces
    origin: Pieces
    others: tuple[tuple[Markup, Pieces], ...]


@dataclass(frozen=True)
class Bridge:
    """One file: its name on the page, its rows, and what else it says."""

    name: Markup
    anchor: Markup
    rows: tuple[Row, ...]
    others: tuple[tuple[Markup, Pieces], ...]


def files(root: Path) -> dict[str, Path]:
    """Every bridge.json by the name that the page gives it: the checkout's and those of a folder outside."""
    return fingerprint.matches(document.BRIDGES, root)


def pieces(value: Any, source: Source) -> Pieces:
    """A value of a file as numbers with this source and texts between them."""
    return tuple(_pieces(value, source))


def _pieces(value: Any, source: Source) -> Iterator[Number | Markup]:
    if value is None:
        yield Markup(NOTHING)
    elif isinstance(value, bool):
        yield Markup("yes" if value else "no")
    elif isinstance(value, int | float):
        yield sourced.plain(value, source)
    elif isinstance(value, list):
        for place, one in enumerate(value):
            if place:
                yield Markup("<br>" if isinstance(one, dict) else ", ")
            yield from _pieces(one, source.at(f"{source.key}[{place}]"))
    elif isinstance(value, dict):
        for place, (name, one) in enumerate(value.items()):
            yield Markup("; ") if place else Markup("")
            yield prose.quoted(f"{name}: ")
            yield from _pieces(one, source.at(f"{source.key}.{name}"))
    else:
        yield prose.quoted(str(value))


def _origin(found: dict[str, Any], name: str) -> Source:
    """The source of a file's numbers, from what it says of itself at its top."""

    def said(key: str, otherwise: str) -> str:
        value = found.get(key)
        return otherwise if value in (None, "", [], {}) else str(value)

    return Source(
        name, "whole file", said("seeds", "as the rows say"), said("commit", "not recorded"), said("command", COMMAND)
    )


def _row(found: dict[str, Any], source: Source, key: str) -> Row:
    def of(name: str) -> Pieces:
        return pieces(found.get(name), source.at(f"{key}.{name}"))

    others = tuple((prose.quoted(name), of(name)) for name in found if name not in KNOWN)
    return Row(
        prose.quoted(str(found["identifier"])),
        of("statement"),
        of("source"),
        of("predicted"),
        of("measured"),
        of("interval"),
        str(found.get("verdict") or "not said"),
        of("rule"),
        of("from"),
        others,
    )


def bridge(path: Path, name: str) -> Bridge:
    """One file.

    Raises:
        ValueError: it cannot be read, or its predictions are no list of objects with an identifier.
    """
    found = read_document(path, version=None)

    def build() -> Bridge:
        source = _origin(found, name)
        rows = tuple(_row(row, source, f"predictions[{place}]") for place, row in enumerate(found["predictions"]))
        others = tuple(
            (prose.quoted(key), pieces(value, source.at(key))) for key, value in found.items() if key != "predictions"
        )
        return Bridge(prose.prose(name), sourced.anchor(f"bridge-{name}"), rows, others)

    made: Bridge = predictions.checked(build, path, COMMAND)
    return made


def bridges(root: Path) -> list[Bridge]:
    """All that there are.

    Raises:
        ValueError: one cannot be read.
    """
    return [bridge(path, name) for name, path in files(root).items()]
