"""The columns of Tables 3 and 5: low-pass-filter flatness (LPF) of the paper, the toy and trained networks, as one.

The LPF is the loss under Gaussian noise on all weights (Bisla et al., 2022); its rise is what the noise adds to the
loss. The rise alone is flatness: the raw number holds the loss itself too (Theorem T3). Noise of the same deviation on
every weight favours networks with larger weights, noise in proportion to each layer's or filter's size does not
(Theorem T7), so both stand side by side.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from findings import toy_study, trained
from findings.names import NINE, SCALES, SUFFIXES
from paper_figs.columns.columns import Columns, describe_paper, describe_toy, lower, of_toy, printed
from paper_figs.columns.sources import OURS
from paper_figs.columns.studies import describe_study, name_of, noise_words, of_study
from paper_figs.drawing import table_panels
from paper_figs.drawing.table_panels import Block, Panel

LOSS = "loss"
"""The measure of columns that are not the low-pass filter's: without noise."""


def numbers(dataset: str) -> dict[str, Any]:
    """The data of the table of a data set of the paper's: its numbers, the toy's, ours, and runs on it."""
    columns, results, paper = Columns(), toy_study.load(), toy_study.paper()["lpf"]
    group = describe_paper(columns, "paper", dataset, paper["sources"][dataset], "; the noise is not stated")
    columns.add("paper", group, "LPF", printed(paper[dataset]), decimals=paper["decimals"])
    describe_toy(columns, results)
    sigma, relative = results["configuration"]["sigma"], results["configuration"]["relative_sigma"]
    for measure, heading in (
        (LOSS, "loss"),
        ("lpf", f"LPF, σ = {sigma:g}"),
        ("lpf_rise", "LPF rise"),
        ("relative_rise", f"LPF rise, noise {relative:.0%} of each matrix"),
    ):
        columns.add(f"toy/{measure}", "toy", heading, of_toy(results, measure), measure=measure)
    for name in dict.fromkeys((dataset, OURS)):
        study = trained.of_dataset(name)
        if study is None:
            columns.absent(name)
        else:
            _add_study(columns, study)
    columns.data["title"] = title(columns.data)
    return columns.data


def title(data: dict[str, Any]) -> str:
    """In how many columns of the low-pass filter SAM's rows are all below the others."""
    sam = [f"sam{suffix}" for suffix in SUFFIXES]
    others = [row for row in NINE if row not in sam]
    keys = [key for key, column in data["columns"].items() if column.get("measure") != LOSS]
    wins, total = lower(data, sam, others, keys)
    return f"SAM's weights are the flattest, with any average, in {wins} of {total} columns, errors aside"


def _add_study(columns: Columns, study: trained.Study) -> None:
    describe_study(columns, study)
    group, key = name_of(study), study.dataset
    columns.add(f"{key}/loss", group, "loss", of_study(study, "lpf-absolute", "loss"), measure=LOSS)
    heading = f"LPF{noise_words(study, 'absolute')}"
    columns.add(f"{key}/lpf", group, heading, of_study(study, "lpf-absolute", "value"))
    for scale in SCALES:
        heading = f"LPF rise{'' if scale == 'absolute' else noise_words(study, scale)}"
        columns.add(f"{key}/rise-{scale}", group, heading, of_study(study, f"lpf-{scale}", "rise"))


def drawn(data: dict[str, Any], dataset: str) -> Figure:
    """Paper and runs on its data set in the first row; the toy; ours. By method, raw LPF first, then its rises."""

    def ours(name: str) -> Block:
        places = (("lpf", "LPF"), ("rise-absolute", "LPF rise"), ("rise-layer", "LPF rise, noise scaled"))
        return Block(name, tuple(Panel((f"{name}/{key}",), label, zero=key != "lpf") for key, label in places))

    toys = (("lpf", "LPF"), ("lpf_rise", "LPF rise"), ("relative_rise", "LPF rise, noise scaled"))
    rows = [
        [Block("paper", (Panel(("paper",), "LPF"),)), ours(dataset)],
        [Block("toy", tuple(Panel((f"toy/{key}",), label, zero=key != "lpf") for key, label in toys))],
    ]
    if dataset != OURS:
        rows.append([ours(OURS)])
    return table_panels.drawn(data, rows, height=1.75)
