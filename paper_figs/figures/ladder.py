"""The ladder: what a flatter minimum does to samples, from the plane to trained networks and the paper's tables.

A panel a study. To the right, SAM has lowered the rise under weight noise more; upwards, its samples are farther from
the data than plain training's with the same weights. A point is a radius, a filled one of raw weights, an open one of
EMA's; random weight perturbation likewise. Of the paper, which prints no rise, the value of the low-pass filter stands
in its place. Marked are the doses that claims are judged at: the radius chosen by raw samples, and the one at which the
rise has fallen by the paper's share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from findings.estimates import significant
from findings.ladder import NOTHING, RISE, LadderError, RowKey, Study
from findings.ladder_claims import LEVEL, SAM, SAM_MATCHED_RISE, Weights
from findings.ladder_page import Column, columns_of
from findings.provenance import ROOT
from findings.sentences import sentences, study_words
from findings.toy_study import paper
from findings.trained import TITLES
from paper_figs.drawing import panels, style

INPUTS = (
    "findings/paper_numbers.json",
    "results/ladder/ring.json",
    "results/ladder/images.json",
    "results/ladder/*/*.json",
)

STUDIES = (
    ("ring", "fresh, batch 16"),
    ("ring", "24 points"),
    ("images", "all images, batch 32"),
    ("images", "40 images"),
    ("mini", ""),
    ("mini-300", ""),
    ("tiny", ""),
    ("gpu", ""),
)
"""Those shown, by study and regime: of the toy's one with all data and a small batch, and the smallest training set."""
PRINTED = "the paper's tables: FID; fall of LPF's value"
METHODS = {"sam": "SAM", "rwp": "random weight noise"}
DISTANCE = "distance-20"
SPACE = "features"
"""Of the two distances of trained networks, the one that is drawn; the other stands in the data."""
IN_A_ROW = 4
DIGITS = 5
"""Of the data beside the picture."""
RING: dict[str, Any] = {"marker": "o", "markersize": 7.5, "markerfacecolor": "none", "markeredgecolor": style.BLACK}
"""Around the points of the radius that is chosen."""
ROWS: tuple[Weights, ...] = ("raw", "ema")


def title(columns: Sequence[Column]) -> str:
    """What the findings' sentences on raw and on averaged weights are headed by."""
    heads = [one.title for one in sentences(columns)][1:3]
    return ". ".join(heads) if heads else "Nothing is measured yet but what the paper prints"


def compute() -> dict[str, Any]:
    """Every study's points, and of those that are not there what would make them."""
    columns = columns_of(ROOT / "results" / "ladder")
    judged = {(one.study, one.regime): one.source for one in columns if one.source is not None}
    studies = {study_words(*key): _points(judged[key]) if key in judged else [] for key in STUDIES}
    studies[PRINTED] = _printed()
    return {
        "title": title(columns),
        "missing": [f"Not measured yet: {name}" for name, points in studies.items() if not points],
        "studies": studies,
        "memorised": [study_words(one.study, one.regime) for one in columns if "memorised" in one.about["regimes"]],
        "matched": {study_words(*key): _matched(judged[key]) for key in STUDIES if key in judged},
        "level": LEVEL,
        "intervals": "Student's over seeds, of the mean logarithm of the ratio to plain training, paired by seed",
    }


def _points(study: Study) -> list[dict[str, Any]]:
    """One entry for each method, dose and kind of weights: log ratios to plain training of the same weights.

    SAM's say whether their radius is the one that claims choose by raw samples, for raw weights and averages alike.
    """
    chosen = {SAM.method: study.dose_of(SAM)} if study.doses(SAM.method) else {}
    entries = []
    for method in METHODS:
        for dose in study.doses(method):
            for weights in ROWS:
                row = RowKey(method, dose, weights)
                entry: dict[str, Any] = {**row._asdict(), "rise": _rise(study, row)}
                if method in chosen:
                    entry["chosen"] = dose == chosen[method]
                for measure in study.measures(DISTANCE):
                    drawn = measure.space in (SPACE, "")
                    distance = study.log_ratio(row, row.plain, measure)
                    entry[DISTANCE if drawn else measure.words] = distance.ends(DIGITS)
                entries.append(entry)
    return entries


def _rise(study: Study, row: RowKey) -> dict[str, float]:
    """The log ratio of the rise; where none is left in some seed, that of the mean rises, without an interval."""
    try:
        return study.log_ratio(row, row.plain, RISE).ends(DIGITS)
    except LadderError:
        ratio = study.numbers(*row, RISE).mean() / study.numbers(*row.plain, RISE).mean()
        return {"mean": significant(math.log(max(ratio, NOTHING)), DIGITS)}


def _matched(study: Study) -> float | None:
    """The log ratio of the raw weights' rise at the radius that is matched to the paper's; None where none is."""
    if not study.doses(SAM_MATCHED_RISE.method) or study.dose_of(SAM_MATCHED_RISE) is None:
        return None
    plain = study.numbers(*RowKey("adm", 0.0, SAM_MATCHED_RISE.weights), RISE)
    ratio = np.log(study.selected(SAM_MATCHED_RISE, RISE) / plain)
    return significant(float(ratio.mean()), DIGITS)


def _printed() -> list[dict[str, Any]]:
    """One entry for each data set whose flatness is printed, and kind of weights: log ratios without errors."""
    tables, entries = paper(), []
    for data in ("cifar10", "lsun-tower"):
        for weights in ROWS:
            average = "" if weights == "raw" else f"+{weights}"
            ratios = {
                "rise": tables["lpf"][data][f"sam{average}"] / tables["lpf"][data][f"adm{average}"],
                "distance-20": tables["fid"][data]["20"][f"sam{average}"] / tables["fid"][data]["20"][f"adm{average}"],
            }
            logs = {name: dict.fromkeys(("mean", "low", "high"), float(np.log(of))) for name, of in ratios.items()}
            entries.append({"method": "sam", "dose": data, "weights": weights, **logs})
    return entries


LOOKS: dict[str, dict[str, Any]] = {"sam": {"marker": "o", "color": style.SERIES[2]["color"]},
                                    "rwp": {"marker": "s", "color": style.SERIES[1]["color"]}}  # fmt: skip


def _panel(axes: Axes, points: list[dict[str, Any]], matched: float | None) -> None:
    axes.axhline(1.0, color=style.GREY, linewidth=0.6)
    if matched is not None:
        axes.axvline(1 - math.exp(matched), color=style.BLACK, linewidth=0.8, linestyle=(0, (1, 2)))
    for method, name in METHODS.items():
        for weights in ROWS:
            of = [p for p in points if (p["method"], p["weights"]) == (method, weights)]
            if not of:
                continue
            x = 1 - np.exp([p["rise"]["mean"] for p in of])
            y, low, high = (np.exp([p["distance-20"][key] for p in of]) for key in ("mean", "low", "high"))
            order = np.argsort(x)
            look = LOOKS[method] | {"linestyle": "-" if weights == "raw" else (0, (3, 1.5)), "linewidth": 0.8}
            names = [p for p in of if isinstance(p["dose"], str)]  # data sets, not doses of one
            if names:
                look["linestyle"] = "none"
            look |= {"markerfacecolor": look["color"] if weights == "raw" else "white", "markersize": 3.5}
            spread = np.stack([y - low, high - y])[:, order]
            label = f"{name}, {'raw' if weights == 'raw' else 'EMA'}"
            axes.errorbar(x[order], y[order], spread, label=label, elinewidth=0.6, capsize=1.2, **look)
            for p in names:
                at = 1 - math.exp(p["rise"]["mean"]), math.exp(p["distance-20"]["mean"])
                axes.annotate(
                    TITLES[p["dose"]], at, (5, 0), textcoords="offset points", va="center", fontsize=panels.SMALL
                )
            best = [place for place, p in enumerate(of) if p.get("chosen")]
            axes.plot(x[best], y[best], linestyle="none", markeredgewidth=0.8, zorder=4, **RING)
    panels.ratios(axes)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlim(min(0.0, axes.get_xlim()[0]), 1.04)  # room for a marker at no rise


def draw(data: dict[str, Any]) -> Figure:
    """A panel a study, at most IN_A_ROW in one, rows filled alike."""
    shown = {name: points for name, points in data["studies"].items() if points}
    rows = max(1, -(-len(shown) // IN_A_ROW))
    columns = max(1, -(-len(shown) // rows))
    figure = panels.wide(2.2 * rows + 0.7)
    drawn = []
    for place, (name, points) in enumerate(shown.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        words = f"{name}, memorised" if name in data["memorised"] else name
        panels.name(axes, panels.wrapped(words.replace(": ", "\n", 1), 1.7))
        _panel(axes, points, data["matched"].get(name))
        if place % columns == 0:
            axes.set_ylabel("distance of samples,\nratio to plain training")
        drawn.append(axes)
    for axes in drawn[-columns:]:
        axes.set_xlabel("fall of the rise under noise")
    panels.headline(figure, data["title"])
    panels.legend(figure, drawn[::-1], 2)  # the last look counts, and the paper's points are not joined
    return figure
