"""SAM's radius: flatness, loss and feature energy against rho, with plain training (ADM) as reference.

Toy study, learnt features. Rise of the loss under noise of deviation .02 on all weights, under noise of 5% of each
tensor's root mean square, the loss itself, and E|phi|^2, phi what the readout multiplies. Means over seeds with
Student's t intervals.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from findings import toy_study
from paper_figs.drawing import panels, style

INPUTS = ("results/toy.json",)

PANELS = {
    "lpf_rise": r"LPF rise, noise $0.02$",
    "relative_rise": r"LPF rise, noise $5\%$ of size",
    "loss": "loss",
    "feature_energy": r"feature energy $\mathbb{E}|\phi|^2$",
}
LOGARITHMIC = ("lpf_rise", "relative_rise", "feature_energy")


def title(rho: list[float], sam: dict[str, Any], adm: dict[str, Any]) -> str:
    """From which radius on the loss is above plain training's, and whether the rise falls all along."""
    rises = [one["mean"] for one in sam["lpf_rise"]]
    falls = all(after < before for before, after in itertools.pairwise(rises))
    above = [radius for radius, one in zip(rho, sam["loss"], strict=True) if one["low"] > adm["loss"]["high"]]
    flatter = "The larger SAM's radius, the flatter" if falls else "SAM's radius flattens, not all along"
    return f"{flatter}; from {above[0]:g} on the loss is higher" if above else flatter


def compute() -> dict[str, Any]:
    """For each panel: the numbers against rho, and that of plain training."""
    results = toy_study.load()
    sweep = sorted(results["sweep"], key=lambda point: point["rho"])
    rho = [point["rho"] for point in sweep]
    sam = {name: [toy_study.number(results, point["row"], name) for point in sweep] for name in PANELS}
    adm = {name: toy_study.number(results, "learnt/adm", name) for name in PANELS}
    return {
        "title": title(rho, sam, adm),
        "face": toy_study.face(results),
        "rho": rho,
        "sam": sam,
        "adm": adm,
    }


def _decades(intervals: list[dict[str, Any]]) -> tuple[float, float]:
    """The whole decades around the intervals, so that at least two ticks carry a number."""
    ends = np.log10([interval[end] for interval in intervals for end in ("low", "mean", "high") if interval[end] > 0])
    return float(10 ** np.floor(ends.min())), float(10 ** np.ceil(ends.max()))


def draw(data: dict[str, Any]) -> Figure:
    """Four panels over rho; plain training as a line in its interval."""
    figure = style.figure(3.4)
    panels.headline(figure, data["title"] + (" (trial)" if data["face"]["trial"] else ""))
    grid = figure.subplots(2, 2, sharex=True)
    for axes, (name, title) in zip(grid.flat, PANELS.items(), strict=True):
        adm = data["adm"][name]
        axes.axhspan(adm["low"], adm["high"], color=style.GREY, alpha=0.3, linewidth=0)
        axes.axhline(adm["mean"], label="ADM (band: its interval)", **style.ROLES["unperturbed"])
        style.bars(axes, data["rho"], data["sam"][name], label="SAM", **style.LOOKS["sam"])
        axes.set_xscale("log")
        if name in LOGARITHMIC:
            axes.set_yscale("log")
            axes.set_ylim(*_decades([*data["sam"][name], adm]))
            axes.yaxis.set_minor_formatter(NullFormatter())
        style.name_panel(axes, title)
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_minor_locator(NullLocator())
    for axes in grid[1]:
        axes.set_xlabel(r"radius $\rho$")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure
