"""Predicted against measured: the readout's LPF rise (Theorem T3), its rise under rounding and dither (T5), by seed.

Toy study, learnt features; phi is what the readout multiplies. Top: noise of deviation .02 on the readout alone;
prediction sigma^2 E|phi|^2. Below: the readout at 8, 4 and 3 bits; prediction (q^2 / 12) E|phi|^2, q the grid's step.
It is exact in the mean for uniform dither of one step, and for rounding holds in the mean over theta alone: a model's
own rounding error is what it is. Dither's points are means over as many draws as the study takes. A point is one
trained model.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, SymmetricalLogLocator

from findings import toy_study
from findings.names import PAPER_METHODS, SUFFIXES
from paper_figs.drawing import panels, style

INPUTS = ("results/toy.json",)

BITS = (8, 4, 3)
ERRORS = {"rounding": "quantized_readout_rise", "dither": "dithered_readout_rise"}
LINEAR = 1e-4
"""Where some rises are negative, the vertical axis is linear between -LINEAR and LINEAR, logarithmic beyond."""


def title(noise: dict[str, list[dict[str, list[float]]]]) -> str:
    """How far measured rises are from the prediction, in the median over all models."""
    pairs = [pair for rows in noise.values() for pair in rows]
    measured, predicted = (np.concatenate([pair[name] for pair in pairs]) for name in ("measured", "predicted"))
    off = float(np.median(np.abs(measured / predicted - 1)))
    return f"The readout's rise under noise is the theory's prediction, within {off:.1%} in the median"


def compute() -> dict[str, Any]:
    """Pairs by method (top, every averaging and every other radius of SAM); by error, bits and method (below)."""
    results = toy_study.load()
    pairs = results["pairs"]
    others = [point["row"] for point in results["sweep"] if point["row"] != "learnt/sam"]
    noise: dict[str, list[Any]] = {
        base: [pairs[f"learnt/{base}{average}"]["readout_rise"] for average in SUFFIXES] for base in PAPER_METHODS
    }
    noise["other radii"] = [pairs[row]["readout_rise"] for row in others]
    return {
        "title": title(noise),
        "face": toy_study.face(results),
        "noise": noise,
        "errors": {
            error: {
                str(bits): {base: pairs[f"learnt/{base}"][f"{name}_{bits}"] for base in PAPER_METHODS} for bits in BITS
            }
            for error, name in ERRORS.items()
            if f"{name}_{BITS[0]}" in pairs["learnt/adm"]
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


def _noise(top: Axes, data: dict[str, Any]) -> None:
    """T3: every method, every averaging, every radius."""
    top.loglog()
    for name, rows in data["noise"].items():
        look = style.LOOKS.get(name, OTHER)
        for pairs in rows:
            _points(top, pairs, look, 3.0)
        label = style.NAMES.get(name, "SAM, other radii")
        top.plot([], [], label=label, **{**look, "linestyle": "none", "markerfacecolor": "none"})
    _identity(top)
    style.name_panel(top, "LPF rise of the readout, noise $0.02$")
    top.set_ylabel("measured")
    top.set_xlabel(r"predicted, $\sigma^2\,\mathbb{E}|\phi|^2$")


def _column(panels: list[Axes], errors: list[dict[str, dict[str, list[float]]]]) -> None:
    """T5 at one number of bits: the errors below each other, on the same axes."""
    first = panels[0]
    first.loglog()
    measured = [value for methods in errors for pairs in methods.values() for value in pairs["measured"]]
    if min(measured) <= 0:  # rounding may lower the loss
        first.set_yscale("symlog", linthresh=LINEAR)
        first.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=LINEAR, subs=[1.0]))
    else:
        first.yaxis.set_major_locator(LogLocator(numticks=4))
        first.yaxis.set_minor_formatter(NullFormatter())
    first.xaxis.set_major_locator(LogLocator(numticks=4))
    first.xaxis.set_minor_formatter(NullFormatter())
    for axes, methods in zip(panels, errors, strict=True):
        for base, pairs in methods.items():
            _points(axes, pairs, style.LOOKS[base], 2.5)
        if min(measured) <= 0:
            axes.axhline(0, zorder=0, **style.ROLES["unperturbed"])
    for axes in panels:
        _identity(axes)
        axes.tick_params(labelbottom=axes is panels[-1])


def draw(data: dict[str, Any]) -> Figure:
    """The readout's LPF rise on top, three panels of bits a kind of error below; the line is equality."""
    errors = data["errors"]
    figure = style.figure(2.9 + 1.15 * len(errors))
    panels.headline(figure, data["title"] + (" (trial)" if data["face"]["trial"] else ""))
    grid = figure.add_gridspec(1 + len(errors), 3, height_ratios=(1.5, *(1 for _ in errors)))
    top = figure.add_subplot(grid[0, :])
    _noise(top, data)
    for place, bits in enumerate(map(str, BITS)):
        column: list[Axes] = []
        for row in range(1, 1 + len(errors)):
            shared = column[0] if column else None
            column.append(figure.add_subplot(grid[row, place], sharex=shared, sharey=shared))
        _column(column, [by_bits[bits] for by_bits in errors.values()])
        column[0].set_title(f"{bits} bits", fontsize=7, pad=3, loc="left")
        if place == 0:
            for axes, error in zip(column, errors, strict=True):
                axes.set_ylabel(f"{error}, measured")
        if place == 1:
            column[-1].set_xlabel(r"predicted, $(q^2/12)\,\mathbb{E}|\phi|^2$")
    figure.legend(*top.get_legend_handles_labels(), loc="outside lower center", ncols=4, columnspacing=0.8)
    return figure
