"""Figure 2: samples of models whose weights were rounded to 8 and 4 bits; the paper's are of CIFAR-10, at 8.

Toy: points of ADM and SAM. Networks: the first 4 x 4 samples of each method's EMA, every pixel as it is, of all radii
of SAM; all from the same noise. All weights rounded, one symmetric grid a tensor. The paper's text (Section 1): with
SAM, quality suffers less from 8 bits.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from paper_figs.drawing import sample_panels

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json", "results/*/samples/*.png")

LABELS = {"8": "8 bits", "4": "4 bits"}


def compute() -> dict[str, Any]:
    """The samples of each source by bits and method."""
    return sample_panels.collected([int(bits) for bits in LABELS])


def draw(data: dict[str, Any]) -> Figure:
    """Blocks by source, rows by bits."""
    return sample_panels.draw(data, LABELS)
