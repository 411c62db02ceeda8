"""Figure 4: samples at full precision and at 8 bits, 20 sampling steps.

Toy: points of ADM and SAM. Networks: the first 4 x 4 samples of each method's EMA, every pixel as it is, of all radii
of SAM; all from the same noise. The paper's text (Section 4.2): the pictures support the distances of Table 2.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from paper_figs.drawing import sample_panels

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json", "results/*/samples/*.png")

LABELS = {"32": "32 bits", "8": "8 bits"}


def compute() -> dict[str, Any]:
    """The samples of each source by bits and method."""
    return sample_panels.collected([int(bits) for bits in LABELS])


def draw(data: dict[str, Any]) -> Figure:
    """Blocks by source, rows by bits."""
    return sample_panels.draw(data, LABELS)
