"""How the nine rows' numbers are drawn: looks by method, and intervals on axes the same way everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from findings.names import NINE, PAPER_METHODS, RowName
from findings.toy_study import Interval
from paper_figs.drawing import style

LOOKS: dict[str, dict[str, Any]] = dict(zip(PAPER_METHODS, style.SERIES, strict=False))
NAMES = {base: base.upper() for base in PAPER_METHODS}


def columns(intervals: list[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Means (n,) and how far the intervals reach below and above them (2, n)."""
    mean, low, high = (np.array([interval[key] for interval in intervals]) for key in ("mean", "low", "high"))
    return mean, np.stack([mean - low, high - mean])


def bars(axes: Axes, x: Any, intervals: list[Interval], **look: Any) -> None:
    """Means with their intervals over x, joined where the look has a line style."""
    mean, spread = columns(intervals)
    axes.errorbar(x, mean, spread, elinewidth=0.7, capsize=1.5, capthick=0.7, **look)


def by_method(axes: Axes, of: dict[str, Interval], base: str, **look: Any) -> None:
    """One base's three rows of a table as points with intervals, `NINE` from the top down."""
    rows = [name for name in NINE if RowName.of(name).method == base and name in of]
    mean, spread = columns([of[name] for name in rows])
    places = [NINE.index(name) for name in rows]
    look = {**LOOKS[base], **look, "linestyle": "none"}
    axes.errorbar(mean, places, xerr=spread, elinewidth=0.7, capsize=1.5, capthick=0.7, **look)


def method_axis(axes: Axes, *, named: bool) -> None:
    """The vertical axis of `by_method`: a line a method, parted by base; names on the first panel."""
    axes.set_yticks(range(len(NINE)), [name.upper() for name in NINE] if named else [""] * len(NINE))
    axes.set_ylim(len(NINE) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for place in (2.5, 5.5):
        axes.axhline(place, color=style.GREY, linewidth=0.4)
