"""All nine methods in one panel (Figures 7 and 8): loss under perturbation, gap of the predicted noise's norm."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from findings.names import NINE, PAPER_METHODS, RowName
from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.drawing import methods, panels, style

STEPS = 20
ROWS = 3
INCHES = 2.0
EMPTY_HEIGHT = 2.0
"""Of the figure where no source has anything, in inches."""
GAPS: dict[str, dict[str, Any]] = {
    "mean_signed_gap": {"markerfacecolor": "white"},
    "mean_absolute_gap": {},
}
SHIFTS = {"mean_signed_gap": -0.17, "mean_absolute_gap": 0.17}


def of_study(study: Study) -> dict[str, Any]:
    """Curves and gaps of the nine methods; of SAM the first radius."""
    steps = study.shortest(STEPS)
    return {
        "steps": steps,
        "losses": {method: sources.loss_curve(study, method) for method in NINE},
        "norms": {method: sources.norm_curves(study, method, steps) for method in NINE},
    }


def of_toy(results: dict[str, Any]) -> dict[str, Any]:
    """The same of the toy."""
    return {
        "steps": STEPS,
        "losses": {method: sources.toy_loss_curve(results, method) for method in NINE},
        "norms": {method: sources.toy_norm_curves(results, method) for method in NINE},
    }


def _curves(axes: Axes, column: dict[str, Any], of: dict[str, Any]) -> None:
    reasons = {}
    for method in NINE:
        name = RowName.of(method)
        label = sources.label(method, column["rho"])
        if "missing" in of[method]:
            reasons[method.upper()] = of[method]["missing"]
        else:
            panels.band(axes, of[method], panels.look_of(name.method, name.suffix), label, shade=0.1)
    panels.note_missing(axes, reasons, INCHES)


def _gaps(axes: Axes, column: dict[str, Any]) -> None:
    """Both means of the gap with their intervals, a line a method."""
    norms = column["norms"]
    for name, look in GAPS.items():
        there = {method: found[name] for method, found in norms.items() if "missing" not in found}
        for base in PAPER_METHODS:
            if any(RowName.of(method).method == base for method in there):
                methods.by_method(axes, there, base, SHIFTS[name], **look)
    axes.axvline(0, **style.ROLES["unperturbed"])
    methods.method_axis(axes, named=True)


def _column(rows: list[Axes], column: dict[str, Any]) -> None:
    losses, gap, means = rows
    panels.name(losses, "loss under perturbation")
    _curves(losses, column, column["losses"])
    losses.set(xlabel="distance moved, random direction", ylabel="loss")
    prime = f"$T' = {column['steps']}$"
    panels.name(gap, rf"norm of the predicted noise, {prime}:" + "\nsampling less training")
    norms = {method: found.get("gap", found) for method, found in column["norms"].items()}
    _curves(gap, column, norms)
    gap.axhline(0, **style.ROLES["unperturbed"])
    gap.set(xlabel="diffusion step $t$", ylabel=r"gap of $\|\hat{\epsilon}\|$")
    panels.name(means, "that gap's mean over steps (open)\nand its size's mean (filled)")
    _gaps(means, column)
    means.set_xlabel(r"gap of $\|\hat{\epsilon}\|$")


def draw(columns: list[dict[str, Any]]) -> Figure:
    """Three panels below each other for each source, one legend."""
    figure = panels.wide(EMPTY_HEIGHT if all("empty" in column for column in columns) else 7.2)
    found = panels.grid_of_columns(figure, columns, ROWS, INCHES)
    for column, rows in zip(columns, found, strict=True):
        if rows:
            _column(rows, column)
    panels.legend(figure, [axes for rows in found for axes in (rows or [])[:2]], 3)
    return figure
