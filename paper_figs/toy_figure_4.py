"""Figure 4 at toy size: samples of models whose weights are rounded to 32, 8 and 4 bits, ADM and SAM.

Toy study, learnt features, first seed, 20 respaced sampling steps; all weights rounded, one symmetric grid a tensor.
The rings' eight centres are marked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from paper_figs import style, toy_results

INPUTS = ("results/toy.json",)

BITS = ("32", "8", "4")
SHOWN = ("adm", "sam")
REACH = 2.2
"""Half the side of a panel; what lies beyond is counted in it."""


def compute() -> dict[str, Any]:
    """The points of both methods at each number of bits."""
    results = toy_results.load()
    clouds = {base: results["series"][f"learnt/{base}"]["samples"] for base in SHOWN}
    return {
        "face": toy_results.face(results),
        "points": {base: {bits: cloud[bits] for bits in BITS} for base, cloud in clouds.items()},
    }


def draw(data: dict[str, Any]) -> Figure:
    """A row a method, a column a number of bits."""
    figure = style.figure(2.75)
    grid = figure.subplots(2, 3, sharex=True, sharey=True)
    angles = 2 * np.pi * np.arange(8) / 8
    centres = np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)])
    for row, (base, clouds) in zip(grid, data["points"].items(), strict=True):
        for axes, (bits, cloud) in zip(row, clouds.items(), strict=True):
            points = np.array(cloud)
            color = toy_results.LOOKS[base]["color"]
            axes.plot(*points.T, color=color, marker=".", markersize=1.2, linestyle="none", label=base.upper())
            axes.plot(*centres, color=style.BLACK, marker="+", markersize=3.5, linestyle="none", label="data's centres")
            axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", xticks=[-2, 0, 2], yticks=[-2, 0, 2])
            outside = int((np.abs(points) > REACH).any(1).sum())
            axes.set_title(
                f"{base.upper()}, {bits} bits" + (f", {outside} out" if outside else ""), fontsize=7, loc="left", pad=2
            )
    handles = {
        label: handle for axes in grid[:, 0] for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=3, markerscale=1.5)
    trial = " (trial)" if data["face"]["trial"] else ""
    number = len(points)
    figure.suptitle(f"toy ring of eight Gaussians, 1 seed, $T' = 20$, {number} samples each{trial}", fontsize=7)
    return figure
