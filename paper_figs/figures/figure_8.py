"""Figure 8: Figures 5 and 6 for LSUN Tower, all nine methods; beside it our second data set, where there is one.

Panels as in Figure 7. The toy has one data set: its panels stand there. Our second is the first study that Figures 5 to
7 do not show. The paper prints no numbers; its text (Appendix C): as on CIFAR-10, SAM has the lower exposure bias and
the flatter minima.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from findings import trained
from paper_figs.columns import sources
from paper_figs.drawing import nine_methods

INPUTS = ("results/*/plan.json", "results/*/rows/*.json")

DATASET = "lsun-tower"
SECOND = "fashion-mnist"
"""The configuration that is named where there is no second study: ours for one GPU."""


def _second() -> trained.Study | None:
    shown = [trained.of_dataset(name) for name in (sources.OURS, sources.PAPERS, DATASET)]
    folders = {study.folder for study in shown if study is not None}
    return next((study for study in trained.studies() if study.folder not in folders), None)


def compute() -> dict[str, Any]:
    """Curves and gaps of the nine methods of both."""
    columns = {
        DATASET: sources.of_study(trained.of_dataset(DATASET), DATASET, nine_methods.of_study, sources.RISE_ERRORS)
    }
    study = _second()
    if study is None:
        columns["second"] = sources.empty(SECOND, preset=SECOND, what="our second data set: no run yet")
    else:
        columns["second"] = sources.of_study(study, study.dataset, nine_methods.of_study, sources.RISE_ERRORS)
    return {"title": nine_methods.title(columns), "columns": columns}


def draw(data: dict[str, Any]) -> Figure:
    """Rows by data set."""
    return nine_methods.draw(data)
