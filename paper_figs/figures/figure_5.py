"""Figure 5: the loss under perturbation of the weights, against the distance moved; the paper's is of CIFAR-10.

Along random directions over all weights, one row of panels an averaging: toy, our networks, CIFAR-10. Toy: means over
seeds with Student's t intervals. Networks: as `sources.loss_curve` says; where there are several radii the others than
the first one's are thin.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from findings.names import NINE, PAPER_METHODS
from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.drawing import methods, panels

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json")

AVERAGING = {"": "no averaging", "+ema": "EMA", "+swa": "SWA"}
INCHES = 2.0


def _study(study: Study) -> dict[str, Any]:
    curves = {method: sources.loss_curve(study, method) for method in NINE}
    others = {
        f"{rho:g}": {f"sam{average}": sources.loss_curve(study, f"sam{average}", rho) for average in AVERAGING}
        for rho in study.radii
        if rho != study.main_rho
    }
    return {"curves": curves, "others": others}


def _toy(results: dict[str, Any]) -> dict[str, Any]:
    curves = {method: sources.toy_loss_curve(results, method) for method in NINE}
    return {"curves": curves, "others": {}}


def compute() -> dict[str, Any]:
    """The curves of every method of each source."""
    return {"columns": sources.columns(_toy, _study, errors="bands: 1 standard error of the rise")}


def _panel(axes: Axes, column: dict[str, Any], average: str) -> None:
    reasons = {}
    for base in PAPER_METHODS:
        curve = column["curves"][base + average]
        label = sources.label(base, column["rho"])
        if "missing" in curve:
            reasons[base.upper()] = curve["missing"]
        else:
            panels.band(axes, curve, panels.look_of(base), label)
    for place, (rho, rows) in enumerate(column["others"].items()):
        curve = rows[f"sam{average}"]
        look = {"color": methods.LOOKS["sam"]["color"], "linewidth": 0.7, "linestyle": (0, (1 + place, 1))}
        if "missing" not in curve:
            panels.band(axes, curve, look, sources.label("sam", float(rho)), shade=0.1)
    panels.note_missing(axes, reasons, INCHES)


def draw(data: dict[str, Any]) -> Figure:
    """Rows by averaging, columns by source."""
    figure = panels.wide(5.4)
    columns = list(data["columns"].values())
    found = panels.grid_of_columns(figure, columns, len(AVERAGING), INCHES)
    for column, rows in zip(columns, found, strict=True):
        for axes, (average, name) in zip(rows or [], AVERAGING.items(), strict=False):
            panels.name(axes, name)
            _panel(axes, column, average)
            axes.set_ylabel("loss")
        if rows:
            panels.same_heights(rows)
            rows[-1].set_xlabel("distance moved, random direction")
    panels.legend(figure, [axes for rows in found for axes in rows or []], 5)
    panels.says(
        figure,
        "Paper, Figure 5 (CIFAR-10)",
        "Its text (Section 4.3): IP, EMA and SWA show no significant differences, SAM is flatter than the others.",
    )
    return figure
