"""Figure 6 at toy size: the norm of the predicted noise against the step, in training and while sampling.

Toy study, learnt features, 20 respaced sampling steps: mean norm over points that the forward process gives at the
step, and over the sampler's own points there; means over seeds with Student's t intervals.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from paper_figs import style, toy_results

INPUTS = ("results/toy.json",)

CURVES = {"training": "training", "sampling": "sampling"}


def compute() -> dict[str, Any]:
    """Both curves of the three methods, no averaging, and the magnitude of their mean gap."""
    results = toy_results.load()
    rows = {base: f"learnt/{base}" for base in toy_results.BASES}
    return {
        "face": toy_results.face(results),
        "curves": {base: results["series"][row]["epsilon_norm"] for base, row in rows.items()},
        "gap": {base: toy_results.number(results, row, "gap_20") for base, row in rows.items()},
    }


def draw(data: dict[str, Any]) -> Figure:
    """One panel a method, both curves in it, and the mean gap above it."""
    figure = style.figure(2.3)
    panels = figure.subplots(1, 3, sharey=True)
    for axes, (base, curves) in zip(panels, data["curves"].items(), strict=True):
        for name, look in zip(CURVES, style.SERIES, strict=False):
            curve = curves[name]
            axes.fill_between(curves["step"], curve["low"], curve["high"], color=look["color"], alpha=0.25, linewidth=0)
            axes.plot(curves["step"], curve["mean"], label=CURVES[name], **{**look, "markersize": 2})
        gap = data["gap"][base]
        half = (gap["high"] - gap["low"]) / 2
        axes.set_title(
            f"{toy_results.NAMES[base]}, |mean gap|\n${gap['mean']:.3f} \\pm {half:.3f}$", fontsize=7, loc="left", pad=3
        )
        axes.set_xticks([0, 500, 1000], ["0", "500", "1000"])
        axes.set_xlim(-60, 1090)
    panels[0].set_ylabel(r"mean $|\hat{\epsilon}|$")
    panels[1].set_xlabel("diffusion step $t$")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(toy_results.short(data["face"]) + f", $T' = 20$; {data['face']['level']:.0%} intervals", fontsize=7)
    return figure
