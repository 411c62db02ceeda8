"""Figure 1: the rise of the loss on a plane through the trained weights, ADM and SAM; the paper's is of CIFAR-10.

Contours of the rise over the loss in the middle, where the trained weights are: one scale for all panels, so that a
wider basin is seen as wider ones whatever the losses are. Dots are the points that were measured, and between them the
contours are straight; our networks' have few, for each costs a pass over the held-out images, and their weights are not
among the results. One plane of one model each, of two random directions: in the toy each tensor's part is as long as
that tensor, in our networks each filter's as long as that filter, so that 1 is a move by the weights' own size; shown
is what all sources have measured. The same directions for both methods. A picture, not evidence. The paper prints no
numbers and does not name the data set; its text (Section 1): SAM significantly enhances flatness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.drawing import panels, style

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json")

SHOWN = ("adm", "sam")
INCHES = 1.4
SHADES = "cividis_r"
LEVELS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of the contours: rises over the loss in the middle."""


def _study(study: Study) -> dict[str, Any]:
    surfaces: dict[str, Any] = {}
    for base in SHOWN:
        row = study.row(base)
        why = "no row yet" if row is None else row.why_missing("surface")
        if row is None or why is not None:
            surfaces[base] = {"missing": why}
            continue
        losses = [[point["value"] for point in line] for line in row.measure("surface", "losses")]
        surfaces[base] = {
            "first": row.measure("surface", "first"),
            "second": row.measure("surface", "second"),
            "loss": losses,
        }
    return {"surfaces": surfaces}


def _toy(results: dict[str, Any]) -> dict[str, Any]:
    by_method = {base: results["series"][f"learnt/{base}"]["loss_surface"] for base in SHOWN}
    surfaces = {
        base: {"first": one["coordinate"], "second": one["coordinate"], "loss": one["loss"]}
        for base, one in by_method.items()
    }
    return {"surfaces": surfaces}


def _rise(surface: dict[str, Any]) -> np.ndarray:
    """The loss less that in the middle, where the trained weights are, over the latter."""
    loss = np.array(surface["loss"])
    middle = loss[len(surface["first"]) // 2, len(surface["second"]) // 2]
    return (loss - middle) / middle


def title(columns: dict[str, Any]) -> str:
    """On whose plane the loss rises less, in the mean over its points."""
    lower = set()
    for column in panels.there(columns):
        means = {base: _rise(one).mean() for base, one in column["surfaces"].items() if "missing" not in one}
        lower.add(min(means, key=lambda base: float(means[base])) if len(means) == len(SHOWN) else "")
    if lower == {"sam"}:
        return "On a random plane the loss rises less around SAM's weights"
    return "Around whose weights the loss rises less on a random plane differs by source"


def compute() -> dict[str, Any]:
    """Both surfaces of each source."""
    columns = sources.columns(_toy, _study, toy_seeds=1, errors="")
    return {"title": title(columns), "columns": columns}


def _surface(axes: Axes, surface: dict[str, Any], norm: BoundaryNorm) -> ContourSet:
    place, rise = (surface["first"], surface["second"]), _rise(surface).T
    axes.contourf(*place, rise, LEVELS, norm=norm, cmap=SHADES, extend="both")
    lines = axes.contour(*place, rise, LEVELS[1:], colors="white", linewidths=0.4)
    axes.plot(*np.meshgrid(*place), color=style.BLACK, marker=".", markersize=0.7, linestyle="none")
    axes.plot(0, 0, color="white", markeredgecolor=style.BLACK, marker="o", linestyle="none", markersize=3)
    return lines


def _row(row: Sequence[Axes], column: dict[str, Any], norm: BoundaryNorm, reach: float) -> None:
    points = ""
    for axes, (base, surface) in zip(row, column["surfaces"].items(), strict=True):
        panels.name(axes, sources.label(base, column["rho"]))
        if "missing" in surface:
            panels.missing(axes, surface["missing"], INCHES)
            axes.set_box_aspect(1)
            continue
        points = f"{len(surface['first'])} × {len(surface['second'])} points up to {max(surface['first']):g}"
        _surface(axes, surface, norm)
        axes.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
        axes.set(xticks=[-reach, 0, reach], yticks=[-reach, 0, reach])
    row[0].set_ylabel(f"{panels.wrapped(column['short'], INCHES)}\n{points}", fontsize=panels.SMALL)


def draw(data: dict[str, Any]) -> Figure:
    """A row a source, columns by method, one scale of contours and of moves."""
    columns = panels.there(data["columns"])
    figure = style.figure(0.5 + 1.25 * len(columns))
    panels.headline(figure, data["title"])
    grid = figure.subplots(len(columns), len(SHOWN), squeeze=False)
    norm = BoundaryNorm(LEVELS, 256, extend="both")
    measured = [one for column in columns for one in column["surfaces"].values() if "missing" not in one]
    reach = min((max(one["first"]) for one in measured), default=1.0)
    for row, column in zip(grid, columns, strict=True):
        _row(list(row), column, norm, reach)
    if measured:
        scale = ScalarMappable(norm, SHADES)
        bar = figure.colorbar(scale, ax=grid, location="right", label="rise over the loss", aspect=30)
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for axes in grid[-1]:
        axes.set_xlabel("direction 1, relative")
    return figure
