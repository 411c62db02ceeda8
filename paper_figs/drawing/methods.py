"""How the nine rows' numbers are drawn: looks by method, and intervals on axes the same way everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from findings.names import PAPER_METHODS
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
