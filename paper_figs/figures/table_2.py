"""Table 2: how far samples of the nine methods are from the data, at 20 and 100 sampling steps.

The paper prints the FID on three data sets. The toy has the sliced 2-Wasserstein distance, small networks of ours a
Fréchet distance in a small classifier's features; these are not the FID, and compare methods only within one source.
What real data reach at the same number of samples stands beside them as the floor.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from findings import names as measures
from findings import toy_study, trained
from paper_figs.columns import columns as table_sources
from paper_figs.columns import studies, tabular
from paper_figs.columns.columns import Columns, describe_paper, describe_toy, of_toy
from paper_figs.columns.sources import OURS
from paper_figs.columns.studies import describe_study, name_of, of_study
from paper_figs.drawing import style, table_panels
from paper_figs.drawing.table_panels import Block, Panel

INPUTS = ("results/toy.json", "findings/paper_numbers.json", "results/*/plan.json", "results/*/rows/*.json")
STEPS = (20, 100)
DISTANCE = "distance"
"""The measure of columns that stand in the figure and its title; those without their bias stand in the table alone."""


def compute() -> dict[str, Any]:
    """Columns by source, with what is to be said of them, and the floors."""
    columns, results, paper = Columns(), toy_study.load(), toy_study.paper()["fid"]
    for dataset in trained.PAPERS:
        group = describe_paper(columns, f"paper/{dataset}", dataset, paper["source"])
        for steps in STEPS:
            cells = table_sources.printed(paper[dataset][str(steps)])
            heading, key = f"FID, T' = {steps}", f"paper/{dataset}/{steps}"
            columns.add(key, group, heading, cells, decimals=paper["decimals"], measure=DISTANCE, steps=steps)
    floors: dict[str, Any] = {f"toy/{steps}": _toy_floor(results) for steps in STEPS}
    describe_toy(columns, results)
    for steps in STEPS:
        cells = of_toy(results, f"sw_{steps}")
        columns.add(f"toy/{steps}", "toy", f"sliced W2, T' = {steps}", cells, measure=DISTANCE, steps=steps)
    columns.note(f"toy: two samples of the data are {tabular.number(floors['toy/20'])} from each other")
    for dataset in (*trained.PAPERS, OURS):
        study = trained.of_dataset(dataset)
        if study is None:
            columns.absent(dataset)
        else:
            floors |= _add_study(columns, study)
    return {**columns.data, "title": title(columns.data), "floors": floors}


def title(data: dict[str, Any]) -> str:
    """In how many columns EMA improves plain training, and SAM with EMA that, the paper's and others apart."""
    counts = []
    for printed in (True, False):
        keys = [key for key in table_sources.by_whom(data, printed=printed) if _sampled(data, key)]
        ema, sam = (
            table_sources.lower(data, [row], [against], keys)
            for row, against in (("adm+ema", "adm"), ("sam+ema", "adm+ema"))
        )
        counts.append((*ema, *sam))
    theirs, ours = counts
    return (
        f"EMA improves samples in {theirs[0]} of the paper's {theirs[1]} columns and {ours[0]} of our {ours[1]}; SAM "
        f"improves EMA's in {theirs[2]} of {theirs[3]} and {ours[2]} of {ours[3]}"
    )


def _toy_floor(results: dict[str, Any]) -> dict[str, float]:
    floor = results["distance_floor"]
    return {"value": floor["mean"], "low": floor["low"], "high": floor["high"]}


def _add_study(columns: Columns, study: trained.Study) -> dict[str, Any]:
    """The study's columns; what real images reach, by column."""
    describe_study(columns, study)
    studies.describe_distance(columns, study)
    group, name = name_of(study), studies.distance_name(study)
    floors = {}
    for steps in studies.sampled(study):
        measure, key = measures.distance(steps), f"{study.dataset}/{steps}"
        columns.add(key, group, f"{name}, T' = {steps}", of_study(study, measure), measure=DISTANCE, steps=steps)
        if studies.extrapolates(study, steps):
            cells = of_study(study, measure, "extrapolated")
            columns.add(f"{key}/extrapolated", group, f"the same without its bias, T' = {steps}", cells)
        count = studies.samples_of(study, steps)
        of_floor = {} if count is None else of_study(study, measures.floor(count))
        floor = next(iter(of_floor.values()), None)
        if floor is not None and floor["value"] is not None:
            floors[key] = floor
            columns.note(f"{group}: {count} real images that are not in the reference reach {tabular.number(floor)}")
    return floors


def table(data: dict[str, Any]) -> tabular.Table:
    """The numbers by method."""
    return tabular.from_data("Table 2: distance of samples from the data; lower is better", data)


def draw(data: dict[str, Any]) -> Figure:
    """The paper's data sets, runs on each below them, then the toy and our networks."""

    def block(source: str, label: str) -> Block:
        sampled = {column["steps"]: None for key, column in data["columns"].items() if _sampled(data, key)}
        measured = [steps for steps in sampled if f"{source}/{steps}" in data["columns"]]
        return Block(source, tuple(_panel(data, source, steps, label) for steps in measured or STEPS))

    names = data["distances"]

    rows = [
        [block(f"paper/{dataset}", "FID") for dataset in trained.PAPERS],
        [block(dataset, names.get(dataset, "")) for dataset in trained.PAPERS],
        [block("toy", "sliced $W_2$"), block(OURS, names.get(OURS, ""))],
    ]
    mark = {"real data": Line2D([], [], **style.ROLES["unperturbed"])}
    return table_panels.drawn(data, rows, height=1.75, marks=mark)


def _sampled(data: dict[str, Any], key: str) -> bool:
    """Whether a column is a distance as it is, not one without its bias."""
    return data["columns"][key].get("measure") == DISTANCE


def _panel(data: dict[str, Any], source: str, steps: int, label: str) -> Panel:
    key = f"{source}/{steps}"
    return Panel((key,), f"{label}, $T' = {steps}$", floor=data["floors"].get(key))
