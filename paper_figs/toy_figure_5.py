"""Figure 5 at toy size: the loss under perturbation of the weights, against the distance moved.

Toy study, learnt features: the loss along random directions over all weights, one panel an averaging; means over seeds
with Student's t intervals.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from paper_figs import style, toy_results

INPUTS = ("results/toy.json",)

PANELS = {"": "no averaging", "+ema": "EMA", "+swa": "SWA"}


def compute() -> dict[str, Any]:
    """The curve of every method."""
    results = toy_results.load()
    rows = {method: results["series"][f"learnt/{method}"]["perturbation_curve"] for method in toy_results.METHODS}
    return {"face": toy_results.face(results), "curves": rows}


def draw(data: dict[str, Any]) -> Figure:
    """Three panels, three methods each; ADM's markers are large and open, for IP's lie upon them."""
    figure = style.figure(2.2)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (average, title) in zip(panels, PANELS.items(), strict=True):
        for base in toy_results.BASES:
            curve = data["curves"][base + average]
            loss, look = curve["loss"], toy_results.LOOKS[base]
            axes.fill_between(curve["distance"], loss["low"], loss["high"], color=look["color"], alpha=0.2, linewidth=0)
            size = {"markersize": 5.5, "markerfacecolor": "white"} if base == "adm" else {"markersize": 2.5}
            axes.plot(curve["distance"], loss["mean"], label=toy_results.NAMES[base], **look, **size)
        style.name_panel(axes, title)
        axes.set_xticks([0, 1, 2, 3])
    panels[0].set_ylabel("loss")
    panels[1].set_xlabel("distance moved along a random direction")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.suptitle(toy_results.sentence(data["face"]), fontsize=7)
    return figure
