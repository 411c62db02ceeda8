"""How figures look: one or two columns wide, legible there, the same in grey and to colour-blind readers.

Colours are those of Okabe and Ito; each comes with a line style and a marker of its own, so that none is told apart by
colour alone.

The nine rows have looks by method, and intervals on axes are drawn the same way everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from findings.names import PAPER_METHODS
from findings.toy_study import Interval

WIDTH = 3.3
"""Width of one column, in inches."""
WIDE = 6.9
"""Width of two columns."""

BLACK, GREY = "#000000", "#7f7f7f"
BLUE, SKY, GREEN = "#0072b2", "#56b4e9", "#009e73"
VERMILION, ORANGE, PURPLE = "#d55e00", "#e69f00", "#cc79a7"

SETTINGS: dict[str, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "patch.linewidth": 0.8,
    "image.cmap": "cividis",
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "pdf.compression": 6,
    "path.simplify": True,
}

ROLES: dict[str, dict[str, Any]] = {
    "exact": {"color": BLACK, "linestyle": "-", "linewidth": 1.6},
    "brute force": {
        "color": BLACK,
        "linestyle": "none",
        "marker": "o",
        "markerfacecolor": "white",
        "markeredgewidth": 0.8,
    },
    "corrected": {"color": BLUE, "linestyle": (0, (4, 1.2))},
    "printed": {"color": VERMILION, "linestyle": (0, (5, 1.2, 1, 1.2))},
    "printed, pointwise": {"color": VERMILION, "linestyle": (0, (1, 1.2)), "linewidth": 1.0},
    "bracket": {"color": SKY, "alpha": 0.35, "linewidth": 0},
    "unperturbed": {"color": GREY, "linestyle": (0, (2, 1.5)), "linewidth": 1.0},
}
"""What a line stands for, and how it then looks in every figure."""

SERIES: tuple[dict[str, Any], ...] = tuple(
    {"color": color, "marker": marker, "linestyle": linestyle}
    for color, marker, linestyle in (
        (BLUE, "o", "-"),
        (VERMILION, "s", (0, (4, 1.2))),
        (GREEN, "^", (0, (5, 1.2, 1, 1.2))),
        (PURPLE, "D", (0, (1, 1.2))),
        (ORANGE, "v", (0, (3, 1, 1, 1, 1, 1))),
        (SKY, "P", (0, (7, 1.5))),
    )
)
"""Looks for members of a family that have no role of their own."""


@contextmanager
def applied() -> Iterator[None]:
    """The settings in force, for drawing and for saving; whatever was set before comes back at the end."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # nothing of a person's own matplotlibrc
        matplotlib.rcParams.update(cast(Any, SETTINGS))  # the stubs want literal keys
        yield


def figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, one column wide unless told, laid out so that nothing overlaps or is cut; sizes in inches."""
    engine = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.0)
    return Figure(figsize=(width, height), layout=engine)


def formula(latex: str) -> str:
    """A formula (of `theory.proof.notation.latex`) as matplotlib sets it, its fractions not shrunk."""
    return "$" + latex.replace(r"\frac", r"\dfrac") + "$"


def name_panel(axes: Axes, title: str) -> None:
    """A title above the panel, flush left."""
    axes.set_title(title, loc="left", pad=3)


LOOKS: dict[str, dict[str, Any]] = dict(zip(PAPER_METHODS, SERIES, strict=False))
NAMES = {base: base.upper() for base in PAPER_METHODS}


def columns(intervals: list[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Means (n,) and how far the intervals reach below and above them (2, n)."""
    mean, low, high = (np.array([interval[key] for interval in intervals]) for key in ("mean", "low", "high"))
    return mean, np.stack([mean - low, high - mean])


def bars(axes: Axes, x: Any, intervals: list[Interval], **look: Any) -> None:
    """Means with their intervals over x, joined where the look has a line style."""
    mean, spread = columns(intervals)
    axes.errorbar(x, mean, spread, elinewidth=0.7, capsize=1.5, capthick=0.7, **look)
