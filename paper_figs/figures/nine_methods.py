"""The nine methods of the paper's Table 2 over the ladder's rungs: distance of samples, by method and average.

A panel a study; of SAM the radius that its raw samples choose, with Student's intervals over seeds of the mean
logarithm of the ratio to plain training's raw weights, paired by seed. Of the paper, three data sets at T' = 20,
without intervals, for it prints none. Input perturbation, or SWA, that a study did not train or measure is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from findings.ladder import LadderError, Measure, RowKey, Study
from findings.ladder_claims import LEVEL, Selection, Weights
from findings.ladder_page import STUDIES, TOY_RUNGS, Column, columns_of
from findings.names import AVERAGES, PAPER_METHODS
from findings.provenance import ROOT
from findings.sentences import study_words, tally
from findings.toy_study import paper
from paper_figs.drawing import panels, style

INPUTS = (
    "findings/paper_numbers.json",
    "results/ladder/ring.json",
    "results/ladder/images.json",
    "results/ladder/*/*.json",
)

PRINTED = {
    "cifar10": "the paper: CIFAR-10",
    "lsun-tower": "the paper: LSUN Tower",
    "ffhq": "the paper: FFHQ",
}
COLUMNS = 4
DIGITS = 5
"""Of the data beside the picture."""
DISTANCE = "distance-20"
SPACE = "features"
"""Of two distances, the one that is drawn."""


def _row(study: Study, method: str, weights: Weights, measure: Measure) -> dict[str, float] | None:
    """The interval of a row's log ratio to plain training's raw weights; None where the study lacks the row."""
    try:
        dose = 0.0 if method != "sam" else study.dose_of(Selection("sam", "raw", "chosen"))
        if not isinstance(dose, float):
            return None
        return study.log_ratio(RowKey(method, dose, weights), RowKey("adm", 0.0, "raw"), measure).ends(DIGITS)
    except (LadderError, KeyError):
        return None


def _rows(study: Study) -> dict[str, dict[str, float]]:
    measure = next(one for one in study.measures(DISTANCE) if one.space in (SPACE, ""))
    by_row = {}
    for method in PAPER_METHODS:
        for average in AVERAGES:
            row = _row(study, method, average, measure)
            if row is not None:
                by_row[f"{method} {average}"] = row
    return by_row


def _printed(fid: Mapping[str, float]) -> dict[str, dict[str, float]]:
    by_row = {}
    for method in PAPER_METHODS:
        for average in AVERAGES:
            name = method if average == "raw" else f"{method}+{average}"
            if name in fid:
                ratio = math.log(fid[name] / fid["adm"])
                by_row[f"{method} {average}"] = dict.fromkeys(("mean", "low", "high"), ratio)
    return by_row


def title(columns: Sequence[Column], printed: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """In how many studies, and of the paper's data sets, plain training's EMA samples better than SAM's raw weights."""
    enough = tally(columns, "L2e")
    theirs = sum(rows["adm ema"]["mean"] < rows["sam raw"]["mean"] for rows in printed.values())
    ours = f" {enough.words()}" if enough.studies else ": not measured yet"
    return (
        f"EMA alone samples better than SAM without averaging{ours}, and on {theirs} of the paper's {len(printed)} "
        "data sets"
    )


def compute() -> dict[str, Any]:
    """Every study's rows, and which studies are not there."""
    columns = columns_of(ROOT / "results" / "ladder")
    studies: dict[str, Any] = {
        study_words(one.study, one.regime): _rows(one.source) for one in columns if one.source is not None
    }
    there = {one.study for one in columns}
    studies |= {study_words(name): {} for name in (*TOY_RUNGS, *STUDIES) if name not in there}
    fid = paper()["fid"]
    printed = {face: _printed(fid[data]["20"]) for data, face in PRINTED.items()}
    return {
        "title": title(columns, printed),
        "missing": [f"Not measured yet: {name}" for name, rows in studies.items() if not rows],
        "studies": studies | printed,
        "level": LEVEL,
    }


NAMES = {"adm": "plain", "ip": "IP", "sam": "SAM"}
FACES: dict[str, dict[str, Any]] = {
    "raw": {},
    "ema": {"markerfacecolor": "white"},
    "swa": {"markerfacecolor": style.GREY},
}


def _panel(axes: Axes, rows: Mapping[str, Mapping[str, float]]) -> None:
    axes.axhline(1.0, color=style.GREY, linewidth=0.6)
    for place, method in enumerate(PAPER_METHODS):
        for shift, average in zip((-0.25, 0.0, 0.25), AVERAGES, strict=True):
            row = rows.get(f"{method} {average}")
            if row is None:
                continue
            mean, low, high = (math.exp(row[key]) for key in ("mean", "low", "high"))
            look = {**style.LOOKS[method], "linestyle": "none", "markersize": 3.5, **FACES[average]}
            spread = [[mean - low], [high - mean]] if high > low else None
            axes.errorbar([place + shift], [mean], spread, elinewidth=0.7, capsize=1.2, **look)
    panels.ratios(axes)
    axes.set_xticks(range(len(PAPER_METHODS)), [NAMES[method] for method in PAPER_METHODS])
    axes.set_xlim(-0.6, len(PAPER_METHODS) - 0.4)


def draw(data: dict[str, Any]) -> Figure:
    """A panel a study, four in a row."""
    from matplotlib.lines import Line2D

    shown = {name: rows for name, rows in data["studies"].items() if rows}
    lines = -(-len(shown) // COLUMNS)
    figure = panels.wide(1.5 * lines + 0.6)
    panels.headline(figure, data["title"])
    for place, (name, rows) in enumerate(shown.items()):
        axes = figure.add_subplot(lines, COLUMNS, place + 1)
        panels.name(axes, panels.wrapped(name.replace(": ", "\n", 1), 1.6))
        _panel(axes, rows)
        if place % COLUMNS == 0:
            axes.set_ylabel("distance, ratio\nto plain raw")
    marks = {
        name: Line2D(
            [],
            [],
            color=style.BLACK,
            marker="o",
            linestyle="none",
            **{"markerfacecolor": style.BLACK, **FACES[average]},
        )
        for average, name in (("raw", "no averaging"), ("ema", "EMA"), ("swa", "SWA"))
    }
    figure.legend(marks.values(), marks, loc="outside lower center", ncols=3)
    return figure
