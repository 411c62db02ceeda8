"""Figure 1: the rise of the loss on a plane through the trained weights, ADM and SAM; the paper's is of CIFAR-10.

One scale of colours a source, so that a wider basin is a lighter plane; every value is drawn as a square where it was
measured, and nothing is smoothed. One plane of one model each, of two random directions: in the toy each tensor's part
is as long as that tensor, in our networks each filter's as long as that filter, so that 1 is a move by the weights' own
size. The same directions for both methods. A picture, not evidence. The paper prints no numbers and does not name the
data set; its text (Section 1): SAM significantly enhances flatness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.drawing import panels, style

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json")

SHOWN = ("adm", "sam")
INCHES = 1.4
SHADES = "cividis_r"


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
    """The loss less that in the middle, where the trained weights are."""
    loss = np.array(surface["loss"])
    return loss - loss[len(surface["first"]) // 2, len(surface["second"]) // 2]


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


def _surface(axes: Axes, surface: dict[str, Any], norm: PowerNorm) -> QuadMesh:
    shades = axes.pcolormesh(
        surface["first"],
        surface["second"],
        _rise(surface).T,
        norm=norm,
        cmap=SHADES,
        shading="nearest",
        rasterized=True,
    )
    axes.plot(0, 0, color="white", markeredgecolor=style.BLACK, marker="o", linestyle="none", markersize=3)
    axes.set(aspect="equal")
    return shades


def _row(figure: Figure, row: Sequence[Axes], column: dict[str, Any]) -> None:
    there = [_rise(surface) for surface in column["surfaces"].values() if "missing" not in surface]
    most = max((float(rise.max()) for rise in there), default=1.0)
    norm = PowerNorm(0.5, 0.0, max(most, 1e-12), clip=True)
    shades, points = None, ""
    for axes, (base, surface) in zip(row, column["surfaces"].items(), strict=True):
        label = sources.label(base, column["rho"])
        if "missing" in surface:
            panels.name(axes, label)
            panels.missing(axes, surface["missing"], INCHES)
            axes.set_box_aspect(1)
            continue
        points = f"{len(surface['first'])} × {len(surface['second'])} points"
        panels.name(axes, label)
        shades = _surface(axes, surface, norm)
        reach = max(surface["first"])
        axes.set(xticks=[-reach, 0, reach], yticks=[-reach, 0, reach])
    row[0].set_ylabel(f"{panels.wrapped(column['short'], INCHES)}\n{points}", fontsize=panels.SMALL)
    if shades is not None:
        bar = figure.colorbar(shades, ax=list(row), location="right", label="rise of the loss", aspect=18)
        bar.set_ticks([0.0, *(float(f"{share * most:.1g}") for share in (0.05, 0.25)), float(f"{most:.2g}")])


def draw(data: dict[str, Any]) -> Figure:
    """A row a source, columns by method, one scale of colours a row."""
    columns = panels.there(data["columns"])
    figure = style.figure(0.4 + 1.45 * len(columns))
    panels.headline(figure, data["title"])
    grid = figure.subplots(len(columns), len(SHOWN), squeeze=False)
    for row, column in zip(grid, columns, strict=True):
        _row(figure, list(row), column)
    for axes in grid[-1]:
        axes.set_xlabel("direction 1, relative")
    return figure
