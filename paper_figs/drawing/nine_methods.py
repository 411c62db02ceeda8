"""Nine methods and every radius in one figure (Figures 7 and 8): the rise of the loss, and exposure bias."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from findings.names import NINE, RowName
from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.columns.columns import labelled
from paper_figs.columns.studies import rows_of
from paper_figs.drawing import panels, style, table_panels

STEPS = 20
INCHES = 1.3
QUANTITIES = {"rise": "rise of the loss, farthest", "gap": r"mean size of the gap of $\|\hat{\epsilon}\|$"}
"""What the two panels of a source show: the loss's rise at the largest distance along random directions, and the mean
over steps of how far the predicted noise's norm is from that in training."""


def _cells(curve: dict[str, Any], norms: dict[str, Any]) -> dict[str, Any]:
    """Both numbers of a row, or why they are missing."""
    rise = (
        {"missing": curve["missing"]}
        if "missing" in curve
        else {key: curve[key][-1] for key in ("mean", "low", "high")}
    )
    gap = {"missing": norms["missing"]} if "missing" in norms else norms["mean_absolute_gap"]
    return {"rise": rise, "gap": {key: gap[key] for key in gap if key in ("missing", "mean", "low", "high")}}


def of_study(study: Study) -> dict[str, Any]:
    """Every row of every radius; those of the nine that are not there with the reason."""
    steps = study.shortest(STEPS)
    rows = {method: (method, None) for method in NINE} | rows_of(study)
    return {
        "steps": steps,
        "rows": {
            label: _cells(sources.loss_curve(study, method, rho), sources.norm_curves(study, method, steps, rho))
            for label, (method, rho) in rows.items()
        },
    }


def of_toy(results: dict[str, Any]) -> dict[str, Any]:
    """The same of the toy."""
    return {
        "steps": STEPS,
        "rows": {
            labelled(method, None): _cells(
                sources.toy_loss_curve(results, method), sources.toy_norm_curves(results, method)
            )
            for method in NINE
        },
    }


def title(columns: dict[str, Any]) -> str:
    """Whether the rows with SAM, at the main radius, rise less than all others, in the sources that there are."""
    flatter = []
    for column in panels.there(columns):
        rises = {row: cells["rise"]["mean"] for row, cells in column["rows"].items() if "mean" in cells["rise"]}
        sam = [rise for row, rise in rises.items() if RowName.of(row).method == "sam" and RowName.of(row).rho is None]
        rest = [rise for row, rise in rises.items() if RowName.of(row).method != "sam"]
        flatter.append(bool(sam and rest) and max(sam) < min(rest))
    if not flatter:
        return panels.NOTHING_YET
    if all(flatter):
        return "Of nine methods those with SAM are flatter, with any average"
    return "Which of nine methods are flattest differs by source"


def draw(data: dict[str, Any]) -> Figure:
    """A row of two panels a source; methods from the top down, SAM's other radii beside it and lighter."""
    columns = panels.there(data["columns"])
    if not columns:
        return panels.nothing()
    figure = style.figure(0.6 + 1.65 * len(columns))
    panels.headline(figure, data["title"])
    grid = figure.subplots(len(columns), len(QUANTITIES), squeeze=False)
    radii: dict[str, Any] = {}
    for row, column in zip(grid, columns, strict=True):
        for place, (axes, (key, label)) in enumerate(zip(row, QUANTITIES.items(), strict=True)):
            by_row = {name: cells[key] for name, cells in column["rows"].items()}
            cells = {
                name: {"value": one["mean"], "low": one["low"], "high": one["high"]}
                for name, one in by_row.items()
                if "mean" in one
            }
            if cells:
                table_panels.points(axes, cells, NINE)
            table_panels.method_axis(axes, NINE, named=place == 0)
            axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
            axes.set_xlabel(label, fontsize=panels.SMALL)
            panels.note_missing(
                axes, {n.upper(): one["missing"] for n, one in by_row.items() if "missing" in one}, INCHES
            )
        panels.name(row[0], column["short"])
        radii |= dict.fromkeys(column["rows"])
    handles = table_panels.handles(NINE, list(radii))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, columnspacing=1.0, handletextpad=0.1)
    return figure
