"""Samples by bits and method, as Figures 2 and 4 show them: the toy's points, and crops of our networks' grids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.drawing import panels, style

TOY_SHOWN = ("adm", "sam")
"""Those whose points the toy's file holds."""
STEPS = 20
SIDE, GAP = 8, 2
"""Of a study's grid: samples a side, and pixels between them."""
CROP = 4
"""Samples a side that are shown."""
LEFT, RIGHT, BETWEEN = 0.24, 0.04, 0.06
"""Inches: for the rows' labels, at the right, and between panels."""
LINE = 0.115
"""Height of a line of words, in inches."""
REACH = 2.2
"""Half the side of a toy panel; what lies beyond is counted above it."""


def crop(path: Path, size: int) -> dict[str, Any]:
    """The first CROP x CROP samples of a grid, as `panels.pixels`.

    Args:
        path: of the PNG.
        size: pixels along a sample's side.

    Raises:
        ValueError: the file is no such grid.
    """
    side = SIDE * size + (SIDE - 1) * GAP
    try:
        whole = image.imread(path, format="png")
    except (OSError, ValueError, SyntaxError) as error:  # PIL raises the last for a file that is no PNG
        raise ValueError(f"{path} cannot be read as a PNG ({error}); remove it, and reproduce writes it anew") from None
    if whole.shape[:2] != (side, side):
        raise ValueError(
            f"{path} is {whole.shape[1]} x {whole.shape[0]} pixels; allowed: {side} x {side}, as reproduce"
        )
    size_kept = CROP * size + (CROP - 1) * GAP
    return panels.pixels(np.round(255 * whole[:size_kept, :size_kept]))


def of_study(study: Study, bits: Sequence[int]) -> dict[str, Any]:
    """Panels of each method's EMA by bits, then by label, SAM's of all radii.

    The keys are "steps" and "panels".
    """
    steps = study.shortest(STEPS)
    others = [rho for rho in study.radii if rho != study.main_rho]
    shown = [("adm", None), ("ip", None), ("sam", study.main_rho), *(("sam", rho) for rho in others)]
    samples: dict[str, dict[str, Any]] = {}
    for width in bits:
        samples[str(width)] = {}
        for base, rho in shown:
            path = study.samples(base, steps, width, rho)
            label = sources.label(base, rho)
            samples[str(width)][label] = {"missing": "no grid"} if path is None else crop(path, study.image_size)
    return {"steps": steps, "panels": samples, "note": f"EMA, $T' = {steps}$, the same noise in all"}


def of_toy(results: dict[str, Any], bits: Sequence[int]) -> dict[str, Any]:
    """The toy's points of the first seed, in the same form."""
    clouds = {base.upper(): results["series"][f"learnt/{base}"]["samples"] for base in TOY_SHOWN}
    points = {str(width): {name: {"points": cloud[str(width)]} for name, cloud in clouds.items()} for width in bits}
    return {"steps": STEPS, "panels": points, "note": f"no averaging, $T' = {STEPS}$; +: the data's centres"}


def collected(bits: Sequence[int]) -> dict[str, Any]:
    """All sources."""
    columns = sources.columns(
        lambda results: of_toy(results, bits), lambda study: of_study(study, bits), toy_seeds=1, errors=""
    )
    return {"title": title(columns, bits), "columns": columns}


def title(columns: dict[str, Any], bits: Sequence[int]) -> str:
    """How much pixels change between the two widths, in the mean over a method's samples, least and most."""
    changes = []
    for column in panels.there(columns):
        first, second = (column["panels"][str(width)] for width in bits)
        for label in first:
            if "rows" in first[label] and "rows" in second[label]:
                one, other = (panels.array(grid[label]).astype(float) for grid in (first, second))
                changes.append(float(np.abs(one - other).mean() / 255))
    between = f"Between {bits[0]} and {bits[1]} bits"
    if not changes:
        return f"{between} the toy's points hardly move to the eye" if _still(columns, bits) else f"{between}, samples"
    return f"{between} the samples' pixels change by {min(changes):.1%} to {max(changes):.1%} of the grey scale"


def _still(columns: dict[str, Any], bits: Sequence[int]) -> bool:
    """Whether the toy's points move by less than a hundredth of the panel's side, in the median."""
    first, second = (columns["toy"]["panels"][str(width)] for width in bits)
    moved = [np.array(first[name]["points"]) - np.array(second[name]["points"]) for name in first]
    return all(float(np.median(np.linalg.norm(one, axis=1))) < 0.01 * 2 * REACH for one in moved)


def _cloud(axes: Axes, points: np.ndarray, color: str) -> str:
    """The points and the data's centres; how many are out of sight, in words."""
    angles = 2 * np.pi * np.arange(8) / 8
    axes.plot(*points.T, color=color, marker=".", markersize=1.0, linestyle="none")
    axes.plot(*(np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)])), "+", color=style.BLACK, markersize=3)
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    panels.bare(axes)
    outside = int((np.abs(points) > REACH).any(1).sum())
    return f", {outside} out" if outside else ""


def _panel(axes: Axes, name: str, grid: dict[str, Any], inches: float) -> None:
    words = name
    if "missing" in grid:
        panels.missing(axes, grid["missing"], inches)
    elif "points" in grid:
        words += _cloud(axes, np.array(grid["points"]), style.LOOKS[name.lower()]["color"])
    else:
        panels.picture(axes, grid)
    panels.name(axes, words)


def draw(data: dict[str, Any], labels: dict[str, str]) -> Figure:
    """Blocks by source below each other, rows by number of bits, methods side by side; every panel is a square.

    Args:
        data: of `collected`.
        labels: what stands before each row, by bits.
    """
    columns = panels.there(data["columns"])
    most = max(len(next(iter(column["panels"].values()))) for column in columns)
    side = (style.WIDTH - LEFT - RIGHT - (most - 1) * BETWEEN) / most
    words = panels.wrapped(data["title"], 0.9 * style.WIDTH)
    head = LINE * (1.3 * words.count("\n") + 2.0)
    step = side + BETWEEN + 1.2 * LINE
    block = LINE * 1.8 + len(labels) * step
    height = head + block * len(columns)
    figure = Figure(figsize=(style.WIDTH, height))

    def place(left: float, low: float) -> Axes:
        return figure.add_axes((left / style.WIDTH, low / height, side / style.WIDTH, side / height))

    figure.text(0.01, 1 - 0.04 / height, words, fontsize=8, fontweight="bold", va="top", linespacing=panels.LINE)
    for number, column in enumerate(columns):
        top = height - head - number * block
        at = (LEFT / style.WIDTH, (top - 0.2 * LINE) / height)
        figure.text(*at, f"{column['short']}; {column['note']}", fontsize=panels.SMALL, va="top")
        for row, (bits, label) in enumerate(labels.items()):
            low = top - 1.8 * LINE - (row + 1) * step + BETWEEN
            for place_, (name, one) in enumerate(column["panels"][bits].items()):
                axes = place(LEFT + place_ * (side + BETWEEN), low)
                _panel(axes, name, one, side)
                if place_ == 0:
                    axes.set_ylabel(label, labelpad=2)
    return figure
