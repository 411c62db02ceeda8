"""How far the density may move before the loss rises: no further for a flatter model of the theory.

Top: linear features, p = N(0, I), one function at three scales a of W and b (the flat radius goes as 1 / a). Left: the
least KL(p || p_hat) found at a measured rise of the loss against Theorem T4's curve, and the median over random
perturbations. Right: that least KL at one rise, kappa, against the flat radius. Bottom, trained models on the toy's
ring: the rise of the loss when the data's ring is widened, against the KL between the two densities; as a control, ADM
stopped where its training loss is SAM's final one.
Means over seeds with Student's t intervals, but for the top left, one seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from findings import toy_study
from findings.names import PAPER_METHODS
from paper_figs.drawing import panels, style
from theory.model.perturbations import gap_radius

INPUTS = ("results/toy.json",)

SCALES = ("0.5", "1", "2")
CONTROL = "adm at equal loss"
ROWS: dict[str, str] = {**{base: f"learnt/{base}" for base in PAPER_METHODS}, CONTROL: "equal/adm"}


def title(scales: dict[str, Any]) -> str:
    """Whether the tolerated shift changes with the flat radius."""
    gaps = [radii_of["gap_radius"]["mean"] for radii_of in scales.values()]
    radii = [radii_of["flat_radius"]["mean"] for radii_of in scales.values()]
    within = max(max(gaps) / min(gaps) - 1, 1e-3)  # what is less is not told apart by the figure
    return (
        f"A model {max(radii) / min(radii):.0f} times as flat tolerates the same shift of its data, within {within:.1%}"
    )


def compute() -> dict[str, Any]:
    """T4's curve, the points at each scale, and the trained models' rises by shift."""
    results = toy_study.load()
    shifts = results["series"]["shifts"]
    # the file has the rise of the right panel only by T4's value at it
    at = toy_study.number(results, "gap/a=1", "gap_radius_t4")["mean"]
    kappa = min(
        (point["kappa"] for point in results["series"]["gap/a=1"]["curve"]), key=lambda k: abs(gap_radius(k) - at)
    )
    line = [float(kappa) for kappa in np.geomspace(0.005, 0.7, 61)]
    scales = {
        scale: {
            "curve": results["series"][f"gap/a={scale}"]["curve"],
            "gap_radius": toy_study.number(results, f"gap/a={scale}", "gap_radius"),
            "flat_radius": toy_study.number(results, f"gap/a={scale}", "flat_radius"),
        }
        for scale in SCALES
    }
    return {
        "title": title(scales),
        "face": toy_study.face(results),
        "line": {"kappa": line, "gap": [gap_radius(kappa) for kappa in line]},
        "scales": scales,
        "kappa": kappa,
        "kl": shifts["kl"][1:],
        "rise": {
            base: [toy_study.number(results, row, f"shift_rise_{place}") for place in range(1, len(shifts["kl"]))]
            for base, row in ROWS.items()
        },
    }


def _plain_ticks(axes: Axes) -> None:
    """A logarithmic horizontal axis of less than two decades: 0.5, 1, 2 rather than powers."""
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _theory(left: Axes, right: Axes, data: dict[str, Any]) -> None:
    """The two panels of the theory's model; markers of falling size, for the three scales' points coincide."""
    left.loglog(data["line"]["kappa"], data["line"]["gap"], label="T4", **style.ROLES["exact"])
    right.set_xscale("log")
    for (scale, radii_of), look, size in zip(data["scales"].items(), style.SERIES[3:], (7.0, 5.0, 2.5), strict=True):
        points = {**look, "linestyle": "none", "markersize": size, "markerfacecolor": "none"}
        rise = [point["measured_rise"] for point in radii_of["curve"]]
        left.plot(rise, [point["least_divergence"] for point in radii_of["curve"]], label=f"$a = {scale}$", **points)
        mean, spread = style.columns([radii_of["flat_radius"]])
        gap = [radii_of["gap_radius"]["mean"]]
        right.errorbar(mean, gap, xerr=spread, elinewidth=0.7, capsize=1.5, **{**points, "markersize": 4.0})
    random = [point["median_random_divergence"] for point in radii_of["curve"]]
    left.plot(rise, random, label="random, median", color=style.GREY, marker="_", linestyle="none", markersize=6)
    left.set_xlabel("measured loss rise")
    left.set_ylabel("KL (nats)")
    right.set_xlabel(f"flat radius, rise {data['kappa']:g}")
    right.set_ylim(0, 2 * gap[0])
    right.margins(x=0.15)
    _plain_ticks(right)


def draw(data: dict[str, Any]) -> Figure:
    """The theory's model on top, the trained models below."""
    figure = style.figure(4.1)
    panels.headline(figure, data["title"])
    grid = figure.add_gridspec(2, 2)
    left, right = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    bottom = figure.add_subplot(grid[1, :])
    _theory(left, right, data)
    bottom.loglog()
    for base, size in zip(PAPER_METHODS, (5.5, 2.5, 3.5), strict=True):
        look = {**style.LOOKS[base], "markersize": size}
        if base == "adm":
            look["markerfacecolor"] = "white"
        style.bars(bottom, data["kl"], data["rise"][base], label=style.NAMES[base], **look)
    control = {"color": "black", "linestyle": ":", "marker": "x", "markersize": 3.0}
    style.bars(bottom, data["kl"], data["rise"][CONTROL], label="ADM at SAM's loss", **control)
    _plain_ticks(bottom)
    bottom.set_xlabel(r"KL$(p\,\|\,\hat{p})$ from the data to a wider ring (nats)")
    bottom.set_ylabel("rise of the loss")
    seeds = data["face"]["seeds"]
    style.name_panel(left, "linear, $N(0, I)$, 1 seed")
    style.name_panel(right, f"linear, $N(0, I)$, {seeds} seeds")
    style.name_panel(bottom, toy_study.short(data["face"]) + ", trained models")
    handles = [axes.get_legend_handles_labels() for axes in (left, bottom)]
    figure.legend(
        *(first + second for first, second in zip(*handles, strict=True)),
        loc="outside lower center",
        ncols=4,
        columnspacing=0.8,
    )
    return figure
