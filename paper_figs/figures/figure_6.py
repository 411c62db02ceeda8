"""Figure 6: the norm of the predicted noise by step, in training and while sampling; the paper's is of CIFAR-10.

Mean norm over points that the forward process gives at the step, and over the sampler's own points there; one row of
panels a method, no averaging. The mean over steps of the gap (sampling less training), and of its size, stand in each
panel with their intervals.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from findings.names import PAPER_METHODS
from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.drawing import panels, style

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json")

STEPS = 20
CURVES = ("training", "sampling")
INCHES = 2.0


def _study(study: Study) -> dict[str, Any]:
    steps = study.shortest(STEPS)
    curves = {base: sources.norm_curves(study, base, steps) for base in PAPER_METHODS}
    others = {
        f"{rho:g}": {key: curve.get(key) for key in ("missing", "mean_signed_gap", "mean_absolute_gap")}
        for rho in study.radii
        if rho != study.main_rho
        for curve in [sources.norm_curves(study, "sam", steps, rho)]
    }
    return {"steps": steps, "curves": curves, "others": others}


def _toy(results: dict[str, Any]) -> dict[str, Any]:
    curves = {base: sources.toy_norm_curves(results, base) for base in PAPER_METHODS}
    return {"steps": STEPS, "curves": curves, "others": {}}


def compute() -> dict[str, Any]:
    """Both curves of the three methods of each source, and the gaps; of other radii the gaps."""
    return {"columns": sources.columns(_toy, _study)}


def _signed(found: dict[str, Any]) -> str:
    half = (found["high"] - found["low"]) / 2
    return f"${found['mean']:+.3f} \\pm {half:.3f}$"


def _panel(axes: Axes, column: dict[str, Any], base: str) -> None:
    curves = column["curves"][base]
    name = sources.label(base, column["rho"])
    others = [
        f"$\\rho$ = {rho}: mean {other['missing'] or _signed(other['mean_signed_gap'])}"
        for rho, other in (column["others"] if base == "sam" else {}).items()
    ]
    if "missing" in curves:
        panels.missing(axes, "\n".join([f"{name}: {curves['missing']}", *others]), INCHES)
        return
    for curve, look in zip(CURVES, style.SERIES, strict=False):
        panels.band(axes, curves[curve], {**look, "markersize": 2.0}, curve)
    size = _signed(curves["mean_absolute_gap"]).replace("+", "", 1)
    said = [
        f"{name}, $T' = {column['steps']}$: sampling less training,",
        f"mean {_signed(curves['mean_signed_gap'])}, of its size {size}",
    ]
    panels.name(axes, "\n".join([*said, *others]))
    axes.set_ylabel(r"mean $\|\hat{\epsilon}\|$")


def draw(data: dict[str, Any]) -> Figure:
    """Rows by method, columns by source."""
    figure = panels.wide(6.0)
    columns = list(data["columns"].values())
    found = panels.grid_of_columns(figure, columns, len(PAPER_METHODS), INCHES)
    for column, rows in zip(columns, found, strict=True):
        for axes, base in zip(rows or [], PAPER_METHODS, strict=False):
            _panel(axes, column, base)
        if rows:
            rows[-1].set_xlabel("diffusion step $t$")
    panels.legend(figure, [axes for rows in found for axes in rows or []], 2)
    panels.says(
        figure,
        "Paper, Figure 6 (CIFAR-10)",
        "Its text (Section 4.4): SAM's norms while sampling stay closer to those of training.",
    )
    return figure
