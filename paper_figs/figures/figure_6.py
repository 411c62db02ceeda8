"""Figure 6: exposure bias, the norm of the predicted noise while sampling less that in training, by diffusion step.

Of points that the forward process gives at a step, and of the sampler's own points there; without averaging; the norms
themselves stand in the data, and so do the gap's means over steps. Networks: bands are errors; the toy's file has no
interval of the gap at one step. The paper's figure is of CIFAR-10 and prints no numbers; its text (Section 4.4): SAM's
norms while sampling stay closer to those of training.
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
PANELS_INCHES = 2.3
"""Width of all panels together."""
MEAN = "mean_absolute_gap"


def _study(study: Study) -> dict[str, Any]:
    steps = study.shortest(STEPS)
    curves = {base: sources.norm_curves(study, base, steps) for base in PAPER_METHODS}
    others = {f"{rho:g}": sources.norm_curves(study, "sam", steps, rho) for rho in study.radii if rho != study.main_rho}
    return {"steps": steps, "curves": curves, "others": others}


def _toy(results: dict[str, Any]) -> dict[str, Any]:
    curves = {base: sources.toy_norm_curves(results, base) for base in PAPER_METHODS}
    return {"steps": STEPS, "curves": curves, "others": {}}


def title(columns: dict[str, Any]) -> str:
    """Whether SAM's mean gap is smaller than plain training's, by the intervals of both."""
    verdicts = set()
    for column in panels.there(columns):
        adm, sam = (column["curves"][base].get(MEAN) for base in ("adm", "sam"))
        if adm is not None and sam is not None:
            less, more = sam["high"] < adm["low"], sam["low"] > adm["high"]
            verdicts.add("less than" if less else "more than" if more else "as much, within errors, as")
    if len(verdicts) == 1:
        return f"While sampling, SAM's predicted noise strays {verdicts.pop()} plain training's"
    return "Whether SAM's predicted noise strays less while sampling differs by source"


def compute() -> dict[str, Any]:
    """Both curves and the gap of the three methods of each source; of other radii too."""
    columns = sources.columns(_toy, _study)
    return {"title": title(columns), "columns": columns}


def _panel(axes: Axes, column: dict[str, Any], inches: float) -> None:
    reasons = {}
    for base, curves in column["curves"].items():
        if "missing" in curves:
            reasons[base.upper()] = curves["missing"]
        else:
            look = {**panels.look_of(base), "markersize": 2.0}
            panels.band(axes, curves["gap"], look, sources.label(base, column["rho"]), shade=0.12)
    for place, (rho, curves) in enumerate(column["others"].items()):
        look = {"color": style.LOOKS["sam"]["color"], "linewidth": 0.7, "linestyle": (0, (1 + place, 1))}
        if "missing" not in curves:
            panels.band(axes, curves["gap"], look, sources.label("sam", float(rho)), shade=0.06)
    axes.axhline(0, **style.ROLES["unperturbed"])
    panels.note_missing(axes, reasons, inches)


def draw(data: dict[str, Any]) -> Figure:
    """A panel a source."""
    columns = panels.there(data["columns"])
    figure = style.figure(2.3)
    panels.headline(figure, data["title"])
    row = figure.subplots(1, len(columns), squeeze=False)[0]
    for axes, column in zip(row, columns, strict=True):
        inches = PANELS_INCHES / len(columns)
        heading = column["short"].replace(", ", ",\n") + f", T' = {column['steps']}"
        panels.name(axes, panels.wrapped(heading, inches))
        _panel(axes, column, inches)
        axes.set_xlabel("diffusion step $t$")
    row[0].set_ylabel(r"gap of $\|\hat{\epsilon}\|$")
    panels.legend(figure, row, 2)
    return figure
