"""Table 1, the paper's summary: ADM against SAM in quality, quantisation, exposure bias and flatness.

The paper prints, for CIFAR-10 and 20 sampling steps, the FID at 32 and 8 bits, one number for how far the norm of the
predicted noise is from that in training, and the LPF. How it reduces the norm's gap to one number it does not say; the
toy's and ours are the mean over sampling steps of the gap's size, and the mean with its sign.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from findings import toy_study, trained
from paper_figs.columns import columns as table_sources
from paper_figs.columns import studies, tabular
from paper_figs.columns.columns import Columns, describe_paper, describe_toy, of_toy
from paper_figs.columns.sources import OURS
from paper_figs.columns.studies import describe_study, name_of, of_study
from paper_figs.drawing import table_panels
from paper_figs.drawing.table_panels import Block, Panel

INPUTS = ("results/toy.json", "findings/paper_numbers.json", "results/*/plan.json", "results/*/rows/*.json")
DATASET = "cifar10"
STEPS = table_sources.STEPS
METHODS = ("adm", "sam")
BITS = studies.BITS
GAPS = {"mean_absolute_gap": "norm gap, mean size", "mean_signed_gap": "norm gap, mean"}
TOY_GAPS = {"mean_absolute_gap": f"absolute_gap_{STEPS}", "mean_signed_gap": f"signed_gap_{STEPS}"}


def compute() -> dict[str, Any]:
    """Columns by source, with what is to be said of them; by study, at which T' it is drawn."""
    columns, results, paper = Columns(), toy_study.load(), toy_study.paper()
    group = describe_paper(columns, "paper", DATASET, paper["epsilon_norm_gap"]["source"])
    studies.add_paper(columns, "paper", group, paper, DATASET, STEPS)
    for key, name, heading in (("epsilon_norm_gap", "gap", "norm gap"), ("lpf", "lpf", "LPF")):
        cells = table_sources.printed(paper[key][DATASET])
        columns.add(f"paper/{name}", group, heading, cells, decimals=paper[key]["decimals"], signed=name == "gap")
    describe_toy(columns, results)
    studies.add_toy(columns, results, (BITS,))
    for key, heading in GAPS.items():
        columns.add(f"toy/{key}", "toy", heading, of_toy(results, TOY_GAPS[key]), signed=key == "mean_signed_gap")
    sigma = results["configuration"]["sigma"]
    columns.add("toy/lpf", "toy", f"LPF, σ = {sigma:g}", of_toy(results, "lpf"))
    columns.add("toy/rise", "toy", "LPF rise", of_toy(results, "lpf_rise"))
    shown = {}
    for dataset in (DATASET, OURS):
        study = trained.of_dataset(dataset)
        if study is None:
            columns.absent(dataset)
        else:
            shown[dataset] = study.shortest(STEPS)
            _add_study(columns, study, shown[dataset])
    columns.note("Norm gap: norm of the predicted noise in sampling less that in training; over what, the paper omits")
    columns.keep(METHODS)
    for key, steps in ({"paper": STEPS, "toy": STEPS} | shown).items():
        columns.face_also(key, f"T' = {steps}")
    return {**columns.data, "title": title(columns.data), "steps": shown}


def title(data: dict[str, Any]) -> str:
    """In how many of the numbers SAM's is the lower, the paper's and others apart."""
    of_paper, ours = (
        table_sources.lower(data, ["sam"], ["adm"], table_sources.by_whom(data, printed=printed))
        for printed in (True, False)
    )
    return (
        f"SAM's numbers are lower than plain training's in {of_paper[0]} of the paper's {of_paper[1]} columns, and in "
        f"{ours[0]} of {ours[1]} here"
    )


def _add_study(columns: Columns, study: trained.Study, steps: int) -> None:
    describe_study(columns, study)
    studies.describe_distance(columns, study)
    group, key = name_of(study), study.dataset
    studies.add_study(columns, study, steps, (BITS,))
    for name, heading in GAPS.items():
        cells = of_study(study, f"exposure-{steps}", name)
        columns.add(f"{key}/{name}", group, f"{heading}, T' = {steps}", cells, signed=name == "mean_signed_gap")
    heading = f"LPF{studies.noise_words(study, 'absolute')}"
    columns.add(f"{key}/lpf", group, heading, of_study(study, "lpf-absolute", "value"))
    columns.add(f"{key}/rise", group, "LPF rise", of_study(study, "lpf-absolute", "rise"))


def table(data: dict[str, Any]) -> tabular.Table:
    """The numbers by method."""
    return tabular.from_data("Table 1: ADM against SAM in quality, quantisation, exposure bias and flatness", data)


def draw(data: dict[str, Any]) -> Figure:
    """A source a row: the distance, its change at 8 bits, the norm's gap, and the LPF with its rise."""

    def block(source: str, distance: str, at: str) -> Block:
        places = (
            (f"{at}/full", f"{distance}, 32 bits", False),
            (f"{at}/change-{BITS}", f"change, {BITS} bits", True),
            (f"{source}/mean_absolute_gap", "norm gap, mean size", True),
            (f"{source}/lpf", "LPF", False),
            (f"{source}/rise", "LPF rise", True),
        )
        return Block(source, tuple(Panel((key,), label, zero=zero) for key, label, zero in places))

    def trained_block(dataset: str) -> Block:
        return block(dataset, data["distances"].get(dataset, ""), f"{dataset}/{data['steps'].get(dataset)}")

    paper = (
        Panel((f"paper/{STEPS}/full",), "FID, 32 bits"),
        Panel((f"paper/{STEPS}/change-{BITS}",), f"change, {BITS} bits", zero=True),
        Panel(("paper/gap",), "norm gap", zero=True),
        Panel(("paper/lpf",), "LPF"),
    )
    rows = [
        [Block("paper", paper)],
        [trained_block(DATASET)],
        [block("toy", "sliced $W_2$", "toy")],
        [trained_block(OURS)],
    ]
    return table_panels.drawn(data, rows, height=1.35, methods=METHODS)
