"""Figure 1 at toy size: the loss on a plane through the trained weights, ADM and SAM, on one scale of colours.

Toy study, learnt features, first seed: two random directions, each tensor's part as long as that tensor, so that 1 is
a move by the weights' own size. One plane of one model: a picture, not evidence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from paper_figs import style, toy_results

INPUTS = ("results/toy.json",)

SHOWN = ("adm", "sam")


def compute() -> dict[str, Any]:
    """Both surfaces."""
    results = toy_results.load()
    surfaces = {base: results["series"][f"learnt/{base}"]["loss_surface"] for base in SHOWN}
    return {"face": toy_results.face(results), "surfaces": surfaces}


def draw(data: dict[str, Any]) -> Figure:
    """Two panels of contours with the same levels."""
    figure = style.figure(1.95)
    panels = figure.subplots(1, 2, sharey=True)
    all_values = np.concatenate([np.ravel(surface["loss"]) for surface in data["surfaces"].values()])
    levels = np.geomspace(all_values.min(), all_values.max(), 13)
    for axes, (base, surface) in zip(panels, data["surfaces"].items(), strict=True):
        plane = (surface["coordinate"], surface["coordinate"], np.array(surface["loss"]).T)
        shades = axes.contourf(*plane, levels=levels, norm=LogNorm(levels[0], levels[-1]))
        axes.contour(*plane, levels=levels, colors=style.BLACK, linewidths=0.4)
        axes.plot(
            0, 0, color="white", markeredgecolor=style.BLACK, marker="o", linestyle="none", label="the trained weights"
        )
        style.name_panel(axes, f"{base.upper()}, {np.min(surface['loss']):.2f} to {np.max(surface['loss']):.2f}")
        axes.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1], xlabel="direction 1, relative")
    panels[0].set_ylabel("direction 2, relative")
    bar = figure.colorbar(shades, ax=list(panels), label="loss", shrink=0.8)
    ticks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50) if levels[0] <= tick <= levels[-1]]
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center")
    trial = " (trial)" if data["face"]["trial"] else ""
    figure.suptitle(f"toy ring of eight Gaussians, 1 seed, one random plane{trial}", fontsize=7)
    return figure
