"""Panels that several figures share: columns by source, curves with bands, pictures, and what is missing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from paper_figs.columns.sources import Column, Data
from paper_figs.drawing import style

SMALL = 7.0
"""Points, of what is said beside the panels."""
CHARACTERS = 21.0
"""That fit into an inch at that size, on the average."""

REASON = 50
"""Characters of a reason for what is missing, where it stands above a panel."""
LINE = 1.05
"""Spacing of lines."""

AVERAGED: dict[str, dict[str, Any]] = {
    "": {"linestyle": "-"},
    "+ema": {"linestyle": (0, (4, 1.2))},
    "+swa": {"linestyle": (0, (1, 1.2))},
}
"""How an averaging looks where all nine methods share a panel: the base gives colour and marker."""


def wide(height: float, **layout: Any) -> Figure:
    """An empty figure two columns wide, its panels a little apart; other settings of the layout as keywords."""
    figure = style.figure(height, style.WIDE)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.04, h_pad=0.04, wspace=0.03, **layout)  # type: ignore[call-arg]
    return figure


def headline(figure: Figure, sentence: str) -> None:
    """What the figure says, as a sentence above all panels."""
    words = wrapped(sentence, 0.9 * figure.get_figwidth())
    figure.suptitle(words, fontsize=8, fontweight="bold", x=0.01, ha="left", linespacing=LINE)


def there(columns: Mapping[str, Column]) -> list[Column]:
    """The sources of which there is something; a line beside the figure says what is missing of the others."""
    return [column for column in columns.values() if "empty" not in column]


CLOSE = (1, 1.2, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)
FAR = (1, 2, 3, 5)
"""Ticks of ratios within a decade: those of a panel that spans less than three-fold, and of others."""


def ratios(axes: Axes) -> None:
    """A logarithmic y axis of ratios, with plain numbers that leave each other room; after all is drawn."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    even = MaxNLocator(5, steps=[1, 2, 5, 10])  # of so short a range, in which few round numbers lie
    axes.yaxis.set_major_locator(even if high / low < 1.5 else LogLocator(subs=CLOSE if high / low < 3 else FAR))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


NOTHING_YET = "No run yet: the line below says what makes one"
"""Of a figure of which no source has anything."""


def nothing() -> Figure:
    """A figure that shows nothing yet."""
    figure = style.figure(0.35)
    headline(figure, NOTHING_YET)
    return figure


def wrapped(words: str, inches: float) -> str:
    """Words in lines of that width; lines that are there are kept."""
    return "\n".join(
        line
        for part in words.split("\n")
        for line in textwrap.wrap(part, int(inches * CHARACTERS), break_on_hyphens=False) or [""]
    )


def bare(axes: Axes) -> None:
    """A frame without ticks."""
    axes.set_xticks([])
    axes.set_yticks([])


def missing(axes: Axes, words: str, inches: float) -> None:
    """A panel of what was not measured, or failed, with the reason."""
    bare(axes)
    axes.spines[:].set(color=style.GREY)
    axes.text(0.5, 0.5, wrapped(words, inches), transform=axes.transAxes, ha="center", va="center", fontsize=SMALL)


def note_missing(axes: Axes, reasons: dict[str, str], inches: float) -> None:
    """Curves that a panel lacks, above it: one line a reason, cut where it is long; the data holds it whole."""
    for why in dict.fromkeys(reasons.values()):
        curves = ", ".join(curve for curve in reasons if reasons[curve] == why)
        name(axes, wrapped(f"{curves}: {textwrap.shorten(why, REASON, placeholder=' ...')}", inches))


def band(axes: Axes, curve: Data, look: dict[str, Any], label: str, *, shade: float = 0.2) -> None:
    """Means over x, with their interval as a band."""
    if np.ndim(curve["low"]) and list(curve["low"]) != list(curve["high"]):
        axes.fill_between(curve["x"], curve["low"], curve["high"], color=look["color"], alpha=shade, linewidth=0)
    axes.plot(curve["x"], curve["mean"], label=label, **look)


def look_of(base: str, average: str | None = None) -> dict[str, Any]:
    """A method's look: of its base alone, or of base and averaging where all share a panel.

    ADM's markers are large and open, for IP's often lie upon them.
    """
    size = {"markersize": 4.5, "markerfacecolor": "white"} if base == "adm" else {"markersize": 2.5}
    look = {**style.LOOKS[base], **size}
    return look if average is None else {**look, **AVERAGED[average]}


def name(axes: Axes, words: str) -> None:
    """Words above the panel, flush left, below those that stand there."""
    above = axes.get_title(loc="left")
    text = f"{above}\n{words}" if above else words
    axes.set_title(text, fontsize=SMALL, loc="left", pad=3, linespacing=LINE)


def legend(figure: Figure, panels: Iterable[Axes], columns: int, **keywords: Any) -> None:
    """One legend below all panels, each label once."""
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, **keywords)


def pixels(image: np.ndarray) -> Data:
    """An image (height, width) or (height, width, 3) of bytes as data for JSON: its shape, and rows as hex."""
    array = np.ascontiguousarray(image, dtype=np.uint8)
    return {"shape": list(array.shape), "rows": [row.tobytes().hex() for row in array]}


def array(image: Data) -> np.ndarray:
    """The bytes of such an image."""
    flat = np.frombuffer(bytes.fromhex("".join(image["rows"])), dtype=np.uint8)
    return flat.reshape(image["shape"])


def picture(axes: Axes, image: Data) -> None:
    """Such an image, each pixel a square: nothing is smoothed."""
    axes.imshow(array(image), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    bare(axes)
