"""Table 5, LSUN Tower: low-pass-filter flatness of the nine methods, and what of it the noise adds to the loss.

The paper prints the raw LPF alone. The toy and our trained networks have it beside its rise over the loss without
noise, for noise of one deviation on all weights and for noise in proportion to the weights' size (see `lpf_tables`).
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from paper_figs.columns import tabular
from paper_figs.drawing import lpf_tables

INPUTS = ("results/toy.json", "findings/paper_numbers.json", "results/*/plan.json", "results/*/rows/*.json")
DATASET = "lsun-tower"


def compute() -> dict[str, Any]:
    """Columns by source, with what is to be said of them."""
    return lpf_tables.numbers(DATASET)


def table(data: dict[str, Any]) -> tabular.Table:
    """The numbers by method."""
    return tabular.from_data("Table 5: low-pass-filter flatness (LPF) on LSUN Tower; lower is flatter", data)


def draw(data: dict[str, Any]) -> Figure:
    """The paper and runs on its data set, the toy, and our networks."""
    return lpf_tables.drawn(data, DATASET)
