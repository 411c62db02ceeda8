"""Predicted against measured: the readout's LPF rise (Theorem T3) and its loss rise under rounding (T5), seed by seed.

Toy study, learnt features; psi is what the readout multiplies. Top: noise of deviation .02 on the readout alone;
prediction sigma^2 E|psi|^2. Bottom: the readout rounded to 8, 4 and 3 bits; prediction (q^2 / 12) E|psi|^2 with q the
grid's step, for rounding errors as if drawn at random. A point is one trained model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, SymmetricalLogLocator

from paper_figs import style, toy_results

INPUTS = ("results/toy.json",)

BITS = (8, 4, 3)
LINEAR = 1e-4
"""Where some rises are negative, the vertical axis is linear between -LINEAR and LINEAR, logarithmic beyond."""


def compute() -> dict[str, Any]:
    """Pairs by method (top, every averaging and every other radius of SAM) and by bits and method (bottom)."""
    results = toy_results.load()
    pairs = results["pairs"]
    others = [point["row"] for point in results["sweep"] if point["row"] != "learnt/sam"]
    noise = {
        base: [pairs[f"learnt/{base}{average}"]["readout_rise"] for average in toy_results.AVERAGES]
        for base in toy_results.BASES
    }
    return {
        "face": toy_results.face(results),
        "noise": {**noise, "other radii": [pairs[row]["readout_rise"] for row in others]},
        "rounding": {
            str(bits): {base: pairs[f"learnt/{base}"][f"quantized_readout_rise_{bits}"] for base in toy_results.BASES}
            for bits in BITS
        },
    }


def _points(axes: Axes, pairs: dict[str, list[float]], look: dict[str, Any], size: float) -> None:
    points = {**look, "linestyle": "none", "markersize": size, "markerfacecolor": "none", "markeredgewidth": 0.6}
    axes.plot(pairs["predicted"], pairs["measured"], **points)


def _identity(axes: Axes) -> None:
    """The line of equality, where the points are; in the axis's own scale it need not be straight."""
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    line = np.geomspace(*axes.get_xlim(), 200)
    axes.plot(line, line, zorder=0, color=style.BLACK, linewidth=0.7)


OTHER = {"color": style.PURPLE, "marker": "x"}


def draw(data: dict[str, Any]) -> Figure:
    """The readout's LPF rise on top, three panels of bits below; the line is equality."""
    figure = style.figure(4.0)
    grid = figure.add_gridspec(2, 3, height_ratios=(1.5, 1))
    top = figure.add_subplot(grid[0, :])
    top.loglog()
    for name, rows in data["noise"].items():
        look = toy_results.LOOKS.get(name, OTHER)
        for pairs in rows:
            _points(top, pairs, look, 3.0)
        label = toy_results.NAMES.get(name, "SAM, other radii")
        top.plot([], [], label=label, **{**look, "linestyle": "none", "markerfacecolor": "none"})
    _identity(top)
    style.name_panel(top, "LPF rise of the readout, noise $0.02$")
    top.set_ylabel("measured")
    top.set_xlabel(r"predicted, $\sigma^2\,\mathbb{E}|\psi|^2$")
    for place, (bits, methods) in enumerate(data["rounding"].items()):
        axes = figure.add_subplot(grid[1, place])
        axes.loglog()
        if any(value <= 0 for pairs in methods.values() for value in pairs["measured"]):  # rounding may lower the loss
            axes.set_yscale("symlog", linthresh=LINEAR)
            axes.axhline(0, zorder=0, **style.ROLES["unperturbed"])
            axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=LINEAR, subs=[1.0]))
        else:
            axes.yaxis.set_major_locator(LogLocator(numticks=4))
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_minor_formatter(NullFormatter())
        for base, pairs in methods.items():
            _points(axes, pairs, toy_results.LOOKS[base], 2.5)
        _identity(axes)
        axes.set_title(f"{bits} bits", fontsize=7, pad=3, loc="left")
        if place == 0:
            axes.set_ylabel("measured")
        if place == 1:
            axes.set_xlabel(r"predicted, $(q^2/12)\,\mathbb{E}|\psi|^2$")
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=4, columnspacing=0.8)
    figure.suptitle(toy_results.short(data["face"]) + "; a point a trained model, line: equality", fontsize=7)
    return figure
