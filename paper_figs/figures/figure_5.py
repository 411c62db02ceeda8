"""Figure 5: the rise of the loss against the distance that the weights are moved; the paper's is of CIFAR-10.

Along random directions over all weights, without averaging (solid) and with EMA (dashed); SWA lies on EMA and stands in
the data. Toy: means over seeds with Student's t intervals of the loss. Networks: with the error of the rise; of several
radii the others than the first are thin. The paper prints no numbers; its text (Section 4.3): IP, EMA
and SWA show no significant differences, SAM is flatter than the others.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from findings.names import NINE, PAPER_METHODS, SUFFIXES
from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.drawing import panels, style

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json")

DRAWN = {"": "-", "+ema": (0, (3, 1.2))}
"""The averages that are drawn, each with its line."""
PANELS_INCHES = 2.3
"""Width of all panels together."""


def _study(study: Study) -> dict[str, Any]:
    curves = {method: sources.loss_curve(study, method) for method in NINE}
    others = {
        f"{rho:g}": {f"sam{average}": sources.loss_curve(study, f"sam{average}", rho) for average in SUFFIXES}
        for rho in study.radii
        if rho != study.main_rho
    }
    return {"curves": curves, "others": others}


def _toy(results: dict[str, Any]) -> dict[str, Any]:
    curves = {method: sources.toy_loss_curve(results, method) for method in NINE}
    return {"curves": curves, "others": {}}


def title(columns: dict[str, Any]) -> str:
    """Around whose weights the loss rises least, at the largest distance, in the sources that there are."""
    flattest = set()
    for column in panels.there(columns):
        curves = {str(base): column["curves"][base] for base in PAPER_METHODS}
        ends = sorted((one["mean"][-1], base) for base, one in curves.items() if "missing" not in one)
        flattest.add(ends[0][1] if ends else "")
    if flattest == {"sam"}:
        return "The loss rises least around SAM's weights"
    return "Around whose weights the loss rises least differs by source"


def compute() -> dict[str, Any]:
    """The curves of every method of each source."""
    columns = sources.columns(_toy, _study, errors="bars: 1 standard error of the rise")
    return {"title": title(columns), "columns": columns}


def _panel(axes: Axes, column: dict[str, Any], inches: float) -> None:
    reasons = {}
    for base in PAPER_METHODS:
        for average, line in DRAWN.items():
            curve = column["curves"][base + average]
            label = sources.label(base, column["rho"]) if not average else "dashed: EMA"
            if "missing" in curve:
                reasons[(base + average).upper()] = curve["missing"]
                continue
            look = {**panels.look_of(base), "linestyle": line}
            if average:
                axes.plot(curve["x"], curve["mean"], color=look["color"], linestyle=line, linewidth=0.8)
            else:
                panels.band(axes, curve, look, label)
    for place, (rho, rows) in enumerate(column["others"].items()):
        curve = rows["sam"]
        look = {"color": style.LOOKS["sam"]["color"], "linewidth": 0.7, "linestyle": (0, (1 + place, 1))}
        if "missing" not in curve:
            panels.band(axes, curve, look, sources.label("sam", float(rho)), shade=0.1)
    panels.note_missing(axes, reasons, inches)


def draw(data: dict[str, Any]) -> Figure:
    """A panel a source."""
    columns = panels.there(data["columns"])
    figure = style.figure(2.3)
    panels.headline(figure, data["title"])
    row = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(row, columns, strict=True):
        inches = PANELS_INCHES / len(columns)
        panels.name(axes, panels.wrapped(column["short"].replace(", ", ",\n"), inches))
        _panel(axes, column, inches)
        axes.set_xlabel("distance moved")
        axes.set_ylim(bottom=0)
    row[0].set_ylabel("rise of the loss")
    panels.legend(figure, row, 3, title="solid: no averaging, dashed: EMA", title_fontsize=panels.SMALL)
    return figure
