"""Figure 7: Figures 5 and 6 for all nine methods and every radius; the paper's is of CIFAR-10.

Left: the rise of the loss at the largest distance that the weights are moved along random directions. Right: the mean
over steps of the size of the gap between the predicted noise's norms in sampling and in training. With intervals over
seeds, or errors where there is one. The paper prints no numbers; its text (Appendix C): SWA and EMA fail to induce
additional flatness.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from paper_figs.columns import sources
from paper_figs.drawing import nine_methods

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json")


def compute() -> dict[str, Any]:
    """Rises and gaps of all rows of each source."""
    columns = sources.columns(nine_methods.of_toy, nine_methods.of_study, errors=sources.RISE_ERRORS)
    return {"title": nine_methods.title(columns), "columns": columns}


def draw(data: dict[str, Any]) -> Figure:
    """Rows by source."""
    return nine_methods.draw(data)
