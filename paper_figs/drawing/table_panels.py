"""How a table is drawn: a panel a quantity, methods from the top down, a source's panels side by side under its face.

The paper's numbers are open markers without bars, for it gives no spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from findings.names import NINE, RowName
from paper_figs.columns.columns import parted, powered
from paper_figs.drawing import panels, style

Cells = Mapping[str, Mapping[str, Any]]
NAMES_INCHES = 0.62
"""What the methods' names take of a row's width."""
LEFT_INCHES = 0.05
"""From a block's edge to its face."""
STEP = 0.26
"""Between marks that share a method's line, in lines."""
OTHER_RADII = ("v", "<", ">", "X")
"""Markers of SAM's other radii, which are drawn lighter."""


ENDS = ("low", "high")


class Panel(NamedTuple):
    """One quantity.

    Attributes:
        keys: of the columns that are drawn in it, at most two: filled, then open.
        label: of the horizontal axis; the power of ten that is taken out is added.
        zero: whether zero is marked, and shown.
        floor: what a line is drawn at, with its interval where it has one.
    """

    keys: tuple[str, ...]
    label: str
    zero: bool = False
    floor: Mapping[str, float] | None = None


class Block(NamedTuple):
    """The panels of one source.

    Attributes:
        source: a key of the data's "faces", or of "absent", and then it is not drawn.
        panels: from the left.
    """

    source: str
    panels: tuple[Panel, ...]


def drawn(
    data: Mapping[str, Any],
    rows: Sequence[Sequence[Block]],
    height: float,
    methods: Sequence[str] = NINE,
    marks: Mapping[str, Any] | None = None,
) -> Figure:
    """The figure of a table.

    Args:
        data: of `table_sources.Columns`; sources that are absent are left out.
        rows: blocks side by side, from the top down.
        height: of a row, in inches.
        methods: the lines of every panel.
        marks: further entries of the legend.
    """
    shown = [[block for block in blocks if block.source not in data["absent"]] for blocks in rows]
    shown = [blocks for blocks in shown if blocks]
    figure = panels.wide(0.5 + height * len(shown))
    panels.headline(figure, data["title"])
    below = np.atleast_1d(np.asarray(figure.subfigures(len(shown), 1)))
    for row, blocks in zip(below, shown, strict=True):
        row.patch.set_visible(False)
        _row(row, data, blocks, methods)
    _legend(figure, data, methods, dict(marks or {}))
    return figure


def _row(row: SubFigure, data: Mapping[str, Any], blocks: Sequence[Block], methods: Sequence[str]) -> None:
    widths = _inches(blocks)
    places = np.atleast_1d(np.asarray(row.subfigures(1, len(blocks), width_ratios=widths)))
    named = False
    for place, block, width, title in zip(places, blocks, widths, _faces(data, blocks, widths), strict=True):
        # Its corners are the layout's, whose last digits are not the same each time
        place.patch.set_visible(False)
        place.suptitle(title, fontsize=panels.SMALL, x=LEFT_INCHES / width, ha="left")
        for axes, panel in zip(np.ravel(place.subplots(1, len(block.panels))), block.panels, strict=True):
            _panel(axes, data["columns"], panel, methods, named=not named)
            named = True


def _inches(blocks: Sequence[Block]) -> list[float]:
    """The blocks' widths: panels equally wide, the first beside the methods' names."""
    numbers = [len(block.panels) for block in blocks]
    one = (style.WIDE - NAMES_INCHES) / sum(numbers)
    return [one * number + NAMES_INCHES * (place == 0) for place, number in enumerate(numbers)]


def _faces(data: Mapping[str, Any], blocks: Sequence[Block], widths: Sequence[float]) -> list[str]:
    """What each block is of, all with the same number of lines."""
    lines = [
        panels.wrapped(data["faces"][block.source]["short"], width) for block, width in zip(blocks, widths, strict=True)
    ]
    most = max(text.count("\n") for text in lines)
    return [text + "\n" * (most - text.count("\n")) for text in lines]


def _panel(axes: Axes, columns: Mapping[str, Any], panel: Panel, methods: Sequence[str], *, named: bool) -> None:
    there = [columns[key] for key in panel.keys if key in columns]
    if not any(column["cells"] for column in there):
        panels.missing(axes, f"{panel.label}: not measured", 0.8)
        return
    power = min(powered(column) for column in there)
    if panel.zero:
        axes.axvline(0, zorder=0, **style.ROLES["unperturbed"])
    if panel.floor is not None:
        _floor(axes, panel.floor, 10.0**-power)
    for place, column in enumerate(there):
        shift = (place - (len(there) - 1) / 2) * 1.6 * STEP
        face = {"markerfacecolor": "white"} if place or column["printed"] else {}
        points(axes, column["cells"], methods, 10.0**-power, shift, **face)
    method_axis(axes, methods, named=named)
    axes.set_xlabel(panel.label + (f", $10^{{{power}}}$" if power else ""), fontsize=panels.SMALL)
    axes.xaxis.set_major_locator(MaxNLocator(3))


def _floor(axes: Axes, floor: Mapping[str, float], unit: float) -> None:
    if "low" in floor:
        axes.axvspan(floor["low"] * unit, floor["high"] * unit, color=style.GREY, alpha=0.3, linewidth=0)
    axes.axvline(floor["value"] * unit, **style.ROLES["unperturbed"])


def points(
    axes: Axes, cells: Cells, methods: Sequence[str], unit: float = 1.0, shift: float = 0.0, **look: Any
) -> None:
    """Numbers with their intervals, each at its method's line; SAM's other radii beside it and lighter.

    Args:
        axes: the panel.
        cells: by row.
        methods: the lines.
        unit: that numbers are multiplied by.
        shift: of all marks, in lines, downwards.
        look: over the base's own.
    """
    others = other_radii(cells)
    families: dict[tuple[str, float | None], list[str]] = {}
    for row, cell in cells.items():
        method, radius = parted(row)
        if cell["value"] is not None and method in methods:
            families.setdefault((RowName.of(method).method, radius), []).append(row)
    for (base, radius), rows in families.items():
        own, away = {**style.LOOKS[base], "linestyle": "none", **look}, shift
        if base == "sam":  # all radii around the line, the main one first
            away += STEP * ((0 if radius is None else others.index(radius) + 1) - len(others) / 2)
        if radius is not None:
            own |= {"marker": OTHER_RADII[others.index(radius) % len(OTHER_RADII)], "alpha": 0.5}
        places = [methods.index(parted(row)[0]) + away for row in rows]
        value = unit * np.array([cells[row]["value"] for row in rows])
        low, high = (unit * np.array([cells[row].get(key, cells[row]["value"]) for row in rows]) for key in ENDS)
        spread = np.stack([value - low, high - value]) if (high > low).any() else None
        axes.errorbar(value, places, xerr=spread, elinewidth=0.7, capsize=1.5, capthick=0.7, **own)


def other_radii(rows: Mapping[str, Any] | Sequence[str]) -> list[float]:
    """SAM's radii that rows name, largest first."""
    return sorted({radius for _, radius in map(parted, rows) if radius is not None}, reverse=True)


def method_axis(axes: Axes, methods: Sequence[str], *, named: bool) -> None:
    """A line a method, parted by base; names on the first panel."""
    axes.set_yticks(range(len(methods)), [method.upper() for method in methods] if named else [""] * len(methods))
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    bases = [RowName.of(method).method for method in methods]
    for place in range(1, len(bases)):
        if bases[place] != bases[place - 1]:
            axes.axhline(place - 0.5, color=style.GREY, linewidth=0.4)


def handles(methods: Sequence[str], rows: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """Of a legend: the bases, then SAM's other radii that rows name."""
    bases = dict.fromkeys(RowName.of(method).method for method in methods)
    lines = {base.upper(): Line2D([], [], **{**style.LOOKS[base], "linestyle": "none"}) for base in bases}
    for place, radius in enumerate(other_radii(rows)):
        look = {**style.LOOKS["sam"], "linestyle": "none", "alpha": 0.5}
        lines[f"SAM, ρ = {radius:g}"] = Line2D([], [], **{**look, "marker": OTHER_RADII[place % len(OTHER_RADII)]})
    return lines


def _legend(figure: Figure | SubFigure, data: Mapping[str, Any], methods: Sequence[str], marks: dict[str, Any]) -> None:
    entries = handles(methods, data["rows"])
    entries["open: the paper, no spread"] = Line2D(
        [], [], color=style.BLACK, marker="o", markerfacecolor="white", linestyle="none"
    )
    entries |= marks
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=min(6, len(entries)), columnspacing=1.2)
