"""Figure 7: Figures 5 and 6 for all nine methods; the paper's is of CIFAR-10.

Above: the loss along random directions. Middle: the norm of the predicted noise while sampling less that in training,
step by step. Below: the mean of that gap over steps and the mean of its size, with intervals. The toy's file has no
interval of the gap at one step, so its curves in the middle have none.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from paper_figs.columns import sources
from paper_figs.drawing import nine_methods, panels

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json")


def compute() -> dict[str, Any]:
    """Curves and gaps of the nine methods of each source."""
    return {"columns": sources.columns(nine_methods.of_toy, nine_methods.of_study, errors=sources.RISE_ERRORS)}


def draw(data: dict[str, Any]) -> Figure:
    """Columns by source."""
    figure = nine_methods.draw(list(data["columns"].values()))
    panels.says(
        figure,
        "Paper, Figure 7 (CIFAR-10)",
        "Its text (Appendix C): SWA and EMA fail to induce additional flatness.",
    )
    return figure
