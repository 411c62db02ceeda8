"""Samples by bits and method, as Figures 2 and 4 show them: the toy's points, and crops of our networks' grids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.drawing import methods, panels, style

TOY_SHOWN = ("adm", "sam")
"""Those whose points the toy's file holds."""
STEPS = 20
SIDE, GAP = 8, 2
"""Of a study's grid: samples a side, and pixels between them."""
EMPTY = 3
"""Panels that an empty block is as wide as."""
CROP = 4
"""Samples a side that are shown."""
LEFT, RIGHT, BETWEEN, BLOCKS = 0.24, 0.04, 0.06, 0.16
"""Inches: for the rows' labels, at the right, between panels, and between blocks of panels."""
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
    kept = CROP * size + (CROP - 1) * GAP
    return panels.pixels(np.round(255 * whole[:kept, :kept]))


def of_study(study: Study, bits: Sequence[int], *, all_radii: bool) -> dict[str, Any]:
    """Panels of each method's EMA by bits, then by label; of SAM the first radius, or all.

    The keys are "steps" and "panels".
    """
    steps = study.shortest(STEPS)
    others = [rho for rho in study.radii if rho != study.main_rho] if all_radii else []
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


def collected(bits: Sequence[int], *, all_radii: bool) -> dict[str, Any]:
    """All sources."""
    return {
        "columns": sources.columns(
            lambda results: of_toy(results, bits),
            lambda study: of_study(study, bits, all_radii=all_radii),
            toy_seeds=1,
            errors="",
        )
    }


def _cloud(axes: Axes, points: np.ndarray, color: str) -> str:
    """The points and the data's centres; how many are out of sight, in words."""
    angles = 2 * np.pi * np.arange(8) / 8
    axes.plot(*points.T, color=color, marker=".", markersize=1.0, linestyle="none")
    axes.plot(*(np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)])), "+", color=style.BLACK, markersize=3)
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal")
    panels.bare(axes)
    outside = int((np.abs(points) > REACH).any(1).sum())
    return f", {outside} out" if outside else ""


def _panel(axes: Axes, name: str, found: dict[str, Any], inches: float) -> None:
    words = name
    if "missing" in found:
        panels.missing(axes, found["missing"], inches)
    elif "points" in found:
        words += _cloud(axes, np.array(found["points"]), methods.LOOKS[name.lower()]["color"])
    else:
        panels.picture(axes, found)
    panels.name(axes, words)


@dataclass(frozen=True)
class Block:
    """Where a source's panels stand, in inches from the left.

    Attributes:
        column: the source's data.
        left: of its first panel.
        panels: how many stand beside each other.
        side: of a panel.
    """

    column: dict[str, Any]
    left: float
    panels: int
    side: float

    @property
    def width(self) -> float:
        """Of all its panels."""
        return self.panels * self.side + (self.panels - 1) * BETWEEN

    def face(self) -> str:
        """What stands above them."""
        if "empty" in self.column:
            return ""
        return panels.wrapped(
            f"{self.column['face']}\n[{self.column['source']}]\n{self.column['note']}", 0.98 * self.width
        )


def blocks(columns: Sequence[dict[str, Any]]) -> list[Block]:
    """All sources beside each other over the whole width, all panels of one size."""
    counts = [len(next(iter(column["panels"].values()))) if "panels" in column else EMPTY for column in columns]
    gaps = LEFT + RIGHT + (len(counts) - 1) * BLOCKS + sum(count - 1 for count in counts) * BETWEEN
    side = (style.WIDE - gaps) / sum(counts)
    blocks: list[Block] = []
    left = LEFT
    for column, count in zip(columns, counts, strict=True):
        blocks.append(Block(column, left, count, side))
        left += blocks[-1].width + BLOCKS
    return blocks


def draw(data: dict[str, Any], labels: dict[str, str], item: str, words: str) -> Figure:
    """Rows by number of bits, blocks of columns by source; all places are computed, for every panel is a square.

    Args:
        data: of `collected`.
        labels: what stands before each row, by bits.
        item: of the paper.
        words: what the paper says of it.
    """
    drawn = blocks(list(data["columns"].values()))
    above = panels.said(item, words)
    lines = [above.count("\n") + 1.8, max(block.face().count("\n") for block in drawn) + 1.3]
    step = drawn[0].side + BETWEEN + 1.2 * LINE
    height = LINE * sum(lines) + len(labels) * step
    figure = Figure(figsize=(style.WIDE, height))
    top = height - LINE * sum(lines)

    def place(left: float, low: float, width: float, tall: float) -> Axes:
        return figure.add_axes((left / style.WIDE, low / height, width / style.WIDE, tall / height))

    figure.text(0.01, 1 - 0.4 * LINE / height, above, fontsize=panels.SMALL, va="top", linespacing=panels.LINE)
    for block in drawn:
        if "empty" in block.column:
            axes = place(block.left, BETWEEN, block.width, top - BETWEEN)
            panels.empty(axes, block.column["empty"], 0.9 * block.width)
            continue
        where = (block.left / style.WIDE, (top + 0.2 * LINE) / height)
        figure.text(*where, block.face(), fontsize=panels.SMALL, va="bottom", linespacing=panels.LINE)
        for row, (bits, label) in enumerate(labels.items()):
            low = top - (row + 1) * step + BETWEEN
            for number, (name, one) in enumerate(block.column["panels"][bits].items()):
                axes = place(block.left + number * (block.side + BETWEEN), low, block.side, block.side)
                _panel(axes, name, one, block.side)
                if block is drawn[0] and number == 0:
                    axes.set_ylabel(label, labelpad=2)
    return figure
