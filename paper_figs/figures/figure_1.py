"""Figure 1: the loss on a plane through the trained weights, ADM and SAM; the paper's is of CIFAR-10.

One plane of one model each, of two random directions: in the toy each tensor's part is as long as that tensor, in our
networks each filter's as long as that filter, so that 1 is a move by the weights' own size. The same directions for
both methods. A picture, not evidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.drawing import panels, style

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json")

SHOWN = ("adm", "sam")
LEVELS = 13
LEAST_RATIO = 1.001
"""Of the largest loss to the smallest, so that there are levels to draw."""
INCHES = 2.0


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
    found = {base: results["series"][f"learnt/{base}"]["loss_surface"] for base in SHOWN}
    surfaces = {
        base: {"first": one["coordinate"], "second": one["coordinate"], "loss": one["loss"]}
        for base, one in found.items()
    }
    return {"surfaces": surfaces}


def compute() -> dict[str, Any]:
    """Both surfaces of each source."""
    return {"columns": sources.columns(_toy, _study, toy_seeds=1, errors="")}


def _surface(axes: Axes, surface: dict[str, Any], levels: np.ndarray) -> Any:
    plane = (surface["first"], surface["second"], np.array(surface["loss"]).T)
    shades = axes.contourf(*plane, levels=levels, norm=LogNorm(levels[0], levels[-1]))
    axes.contour(*plane, levels=levels, colors=style.BLACK, linewidths=0.4)
    axes.plot(
        0, 0, color="white", markeredgecolor=style.BLACK, marker="o", linestyle="none", label="the trained weights"
    )
    reach = max(surface["first"])
    ticks = [-reach, 0, reach]
    axes.set(aspect="equal", xticks=ticks, yticks=ticks, ylabel="direction 2, relative")
    return shades


def _column(figure: Figure, rows: list[Axes], column: dict[str, Any]) -> None:
    there = [surface["loss"] for surface in column["surfaces"].values() if "missing" not in surface]
    values = np.concatenate([np.ravel(loss) for loss in there]) if there else np.ones(1)
    levels = np.geomspace(values.min(), max(values.max(), LEAST_RATIO * values.min()), LEVELS)
    shades, last = None, rows[-1]
    for axes, (base, surface) in zip(rows, column["surfaces"].items(), strict=True):
        name = sources.label(base, column["rho"])
        if "missing" in surface:
            panels.name(axes, name)
            panels.missing(axes, surface["missing"], INCHES)
            axes.set_box_aspect(1)
            continue
        points = f"{len(surface['first'])} × {len(surface['second'])} points"
        panels.name(axes, f"{name}: {np.min(surface['loss']):.3g} to {np.max(surface['loss']):.3g}, {points}")
        shades = _surface(axes, surface, levels)
        last = axes
    if shades is not None:
        last.set_xlabel("direction 1, relative")
        bar = figure.colorbar(shades, ax=rows, location="bottom", label="loss", shrink=0.8, aspect=30)
        bar.set_ticks(_ticks(levels[0], levels[-1]))
        bar.ax.xaxis.set_major_formatter("{x:.3g}")
        bar.ax.xaxis.set_minor_formatter(NullFormatter())


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between the two, or the two themselves where they are close."""
    round_ones = LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(low, high)
    inside = [float(tick) for tick in round_ones if low <= tick <= high]
    return inside if len(inside) > 1 else [float(low), float(high)]


def draw(data: dict[str, Any]) -> Figure:
    """Rows by method, columns by source, one scale of colours a column."""
    figure = panels.wide(5.9)
    columns = list(data["columns"].values())
    found = panels.grid_of_columns(figure, columns, len(SHOWN), INCHES)
    for column, rows in zip(columns, found, strict=True):
        if rows:
            _column(figure, rows, column)
    panels.legend(figure, [axes for rows in found for axes in rows or []], 1)
    panels.says(
        figure,
        "Paper, Figure 1 (the data set is not named)",
        "Its text (Section 1): SAM significantly enhances flatness. Here: one random plane of one model each.",
    )
    return figure
