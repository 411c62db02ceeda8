"""Table 4: what rounding the weights to 8 bits does to samples; 4 bits, and the rise of the loss, beside it.

The paper prints the FID on CIFAR-10 at 32 and 8 bits for four methods, with the change. Changes here are the
differences of the printed FIDs; where a printed one differs, a note says so. The toy and our networks have all nine
methods at 8 and 4 bits, one symmetric grid a tensor, and their samples start from the same noise at every width.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from findings import toy_study, trained
from paper_figs.columns import studies, tabular
from paper_figs.columns.columns import Columns, describe_paper, describe_toy
from paper_figs.columns.sources import OURS
from paper_figs.columns.studies import describe_study
from paper_figs.drawing import table_panels
from paper_figs.drawing.table_panels import Block, Panel

INPUTS = ("results/toy.json", "findings/paper_numbers.json", "results/*/plan.json", "results/*/rows/*.json")
DATASET = "cifar10"
STEPS = (20, 100)
BITS = (8, 4)


def compute() -> dict[str, Any]:
    """Columns by source, with what is to be said of them; by study, at which T' it is drawn."""
    columns, results, paper = Columns(), toy_study.load(), toy_study.paper()
    source = f"{paper['fid_at_8_bits']['source']}, 32 bits as in {paper['fid']['source']}"
    group = describe_paper(columns, "paper", DATASET, source)
    for steps in STEPS:
        studies.add_paper(columns, "paper", group, paper, DATASET, steps)
    describe_toy(columns, results)
    studies.add_toy(columns, results)
    studies.add_toy_rises(columns, results)
    shown = {}
    for dataset in (DATASET, OURS):
        study = trained.of_dataset(dataset)
        if study is None:
            columns.absent(dataset)
            continue
        describe_study(columns, study)
        studies.describe_distance(columns, study)
        for steps, bits in studies.sampled(study).items():
            if bits:
                studies.add_study(columns, study, steps, bits)
        studies.add_study_rises(columns, study)
        shown[dataset] = study.shortest(STEPS[0])
    for key, steps in ({"toy": studies.TOY_STEPS} | shown).items():
        columns.face_also(key, f"samples: T' = {steps}")
    return {**columns.data, "title": title(columns.data), "steps": shown}


def title(data: dict[str, Any]) -> str:
    """In how many rows with intervals the samples' distance grows at 8 bits, and at 4, beyond its interval."""
    sentences = []
    for bits in BITS:
        cells = [
            cell
            for column in data["columns"].values()
            if (column.get("measure"), column.get("bits")) == (studies.CHANGE, bits)
            for cell in column["cells"].values()
            if "low" in cell
        ]
        sentences.append(f"at {bits} bits in {sum(cell['low'] > 0 for cell in cells)} of {len(cells)} rows")
    return f"Rounding harms samples, beyond the interval, {', '.join(sentences)}"


def table(data: dict[str, Any]) -> tabular.Table:
    """The numbers by method."""
    return tabular.from_data("Table 4: samples, and the loss, when all weights are rounded", data)


def draw(data: dict[str, Any]) -> Figure:
    """Changes and rises: the paper and runs on its data set, the toy, and our networks."""

    def ours(dataset: str, *, rises: bool) -> Block:
        steps, name = data["steps"].get(dataset), data["distances"].get(dataset, "")
        changes = [
            Panel((f"{dataset}/{steps}/change-{bits}",), f"change of {name}, {bits} bits", zero=True) for bits in BITS
        ]
        losses = [Panel((f"{dataset}/rise-{bits}",), f"loss rise, {bits} bits", zero=True) for bits in BITS]
        return Block(dataset, (*changes, *(losses if rises else [])))

    paper = [
        Panel((f"paper/{steps}/change-8",), f"change of FID, 8 bits, $T' = {steps}$", zero=True) for steps in STEPS
    ]
    toy = [Panel((f"toy/change-{bits}",), f"change of sliced $W_2$, {bits} bits", zero=True) for bits in BITS]
    toy += [Panel((f"toy/rise-{bits}",), f"loss rise, {bits} bits", zero=True) for bits in BITS]
    rows = [
        [Block("paper", tuple(paper)), ours(DATASET, rises=False)],
        [Block("toy", tuple(toy))],
        [ours(OURS, rises=True)],
    ]
    return table_panels.drawn(data, rows, height=1.75)
