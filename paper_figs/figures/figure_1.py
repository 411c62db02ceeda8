"""Figure 1: the rise of the loss on a plane through the trained weights, ADM and SAM; the paper's is of CIFAR-10.

Contours of the rise over the loss in the middle, where the trained weights are: one scale for all panels, so that a
wider basin is seen as wider ones whatever the losses are. Between the points that were measured the contours are
straight, so a surface with fewer than nine points a side is not drawn. One plane of one model each, of two random
directions: in the toy each tensor's part is as long as that tensor, in our networks each filter's as long as that
filter, so that 1 is a move by the weights' own size; shown is what all sources have measured. The same directions for
all methods, and raw weights. The title compares the mean rises over the square that is shown; less than 5% apart, the
loss is said to rise as much. A picture, not evidence: whether SAM's minima are flatter is judged over many seeds and
draws of noise in the table of claims. The paper prints no numbers and does not name the data set; its text (Section 1):
SAM significantly enhances flatness.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from findings import surfaces, trained
from findings.estimates import significant
from findings.ladder_claims import SAME
from findings.trained import Study
from paper_figs.columns import sources
from paper_figs.columns.sources import OURS, PAPERS, Column, Data
from paper_figs.drawing import panels, style

INPUTS = ("results/toy.json", "results/*/plan.json", "results/*/rows/*.json", "results/surface/compare.json")

SHOWN = ("adm", "sam")
FEWEST = 9
"""Points a side."""
DIGITS = 6
"""Of losses."""
INCHES = 1.0
SHADES = "cividis_r"
AT = "at\N{NO-BREAK SPACE}ρ\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
"""Before a radius."""
PLAIN = "plain (ADM)"
LEVELS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of the contours: rises over the loss in the middle."""


def _entry(method: str, rho: float | None, first: list[float], second: list[float], loss: list[list[float]]) -> Data:
    rounded = [[significant(value, DIGITS) for value in line] for line in loss]
    return {"method": method, "rho": rho, "first": first, "second": second, "loss": rounded}


def _study(study: Study) -> Data:
    entries: list[Data] = []
    for base in SHOWN:
        row, rho = study.row(base), study.main_rho if "sam" in base else None
        why = "no row yet" if row is None else row.why_missing("surface")
        if row is None or why is not None:
            entries.append({"method": base, "rho": rho, "missing": why})
            continue
        losses = [[point["value"] for point in line] for line in row.measure("surface", "losses")]
        entries.append(_entry(base, rho, row.measure("surface", "first"), row.measure("surface", "second"), losses))
    return {"surfaces": entries, "where": _where(study.title, study.image_size, f"seed {min(study.seeds)}")}


def _toy(results: Data) -> Data:
    rho = results["configuration"]["methods"]["sam"]["rho"]
    by_method = {base: results["series"][f"learnt/{base}"]["loss_surface"] for base in SHOWN}
    entries = [
        _entry(base, rho if "sam" in base else None, one["coordinate"], one["coordinate"], one["loss"])
        for base, one in by_method.items()
    ]
    return {"surfaces": entries, "where": "in the toy (1 seed)"}


def _where(title: str, image_size: int, seeds: str) -> str:
    """Of networks, in the title; what belongs together stays in one line."""
    return f"on {title} {image_size} × {image_size} ({seeds})".replace(" × ", "\N{NO-BREAK SPACE}×\N{NO-BREAK SPACE}")


def _networks(measured: surfaces.Networks) -> Column:
    """The column of networks that were measured for this figure."""
    entries = [
        {"method": one.method, "rho": one.rho, "missing": one.missing}
        if one.missing
        else _entry(one.method, one.rho, one.first, one.second, one.losses)
        for one in measured.surfaces
    ]
    title = trained.TITLES.get(measured.dataset, measured.dataset)
    size = f"{title} {measured.image_size} × {measured.image_size}"
    seeds = f"seed{'' if len(measured.seeds) == 1 else 's'} {', '.join(map(str, measured.seeds))}"
    face = f"{size}, {measured.steps:,} steps, {seeds}, the loss over {measured.images} held-out images"
    where = _where(title, measured.image_size, seeds)
    return {"face": face, "short": f"{size}, {seeds}", "source": surfaces.FILE, "surfaces": entries, "where": where}


def _ours() -> Column:
    """Our networks: a study with points enough, else those that were measured for this figure."""
    study = trained.of_dataset(OURS)
    column = sources.of_study(study, OURS, _study, "")
    path = trained.ROOT / surfaces.FILE
    coarse = [len(one["first"]) for one in column.get("surfaces", ()) if len(one.get("first", ())) in range(1, FEWEST)]
    if study is not None and not coarse:
        return column
    if path.is_file():
        return _networks(surfaces.read(path))
    if coarse:
        column = sources.empty(OURS, what=f"{column['short']}: {min(coarse)} points a side are too few to be drawn")
        column["empty"]["commands"][0] += " --surface-points 17"
    return column


def _there(column: Column) -> list[Data]:
    return [one for one in column["surfaces"] if "missing" not in one]


def _rise(surface: Data) -> np.ndarray:
    """The loss less that in the middle, where the trained weights are, over the latter."""
    loss = np.array(surface["loss"])
    middle = loss[len(surface["first"]) // 2, len(surface["second"]) // 2]
    return (loss - middle) / middle


def _reach(columns: Iterable[Column]) -> float:
    """Half a side of the square that all sources have measured."""
    return min((max(one["first"]) for column in columns for one in _there(column)), default=1.0)


def _mean_rise(surface: Data, reach: float) -> float:
    """Over the square."""
    inside = [np.abs(surface[axis]) <= reach * (1 + 1e-9) for axis in ("first", "second")]
    return float(_rise(surface)[np.ix_(*inside)].mean())


def _against(surface: Data, plain: Data, reach: float) -> str:
    """How much less the loss rises than around plain training's weights: "12% less at ρ = 0.01"."""
    ratio = _mean_rise(surface, reach) / _mean_rise(plain, reach)
    words = f"{abs(1 - ratio):.0%} {'less' if ratio < 1 else 'more'}"
    return f"{'as much' if ratio > 0 and abs(math.log(ratio)) < SAME else words} {AT}{surface['rho']:g}"


def title(columns: dict[str, Column]) -> str:
    """By how much less the loss rises around SAM's weights, radius by radius, in the mean over the square."""
    shown = panels.there(columns)
    reach, phrases = _reach(shown), []
    for column in shown:
        plain = [one for one in _there(column) if one["method"] == "adm"]
        of = [_against(one, plain[0], reach) for one in _there(column) if plain and one["method"] == "sam"]
        if of:
            phrases.append(f"{' and '.join(of)} {column['where']}")
    if not phrases:
        return "No surfaces of plain training and SAM can be compared yet"
    return f"Compared with plain training, the loss around SAM's weights rises on a random plane {'; '.join(phrases)}"


def compute() -> Data:
    """All surfaces of each source."""
    columns = sources.columns(_toy, _study, toy_seeds=1, errors="", datasets=())
    columns |= {OURS: _ours(), PAPERS: sources.of_study(trained.of_dataset(PAPERS), PAPERS, _study, "")}
    return {"title": title(columns), "columns": columns}


def _surface(axes: Axes, surface: Data, norm: BoundaryNorm) -> ContourSet:
    place, rise = (surface["first"], surface["second"]), _rise(surface).T
    axes.contourf(*place, rise, LEVELS, norm=norm, cmap=SHADES, extend="both")
    lines = axes.contour(*place, rise, LEVELS[1:], colors="white", linewidths=0.4)
    axes.plot(0, 0, color="white", markeredgecolor=style.BLACK, marker="o", linestyle="none", markersize=3)
    return lines


def _row(row: Sequence[Axes], column: Column, norm: BoundaryNorm, reach: float) -> None:
    points = ""
    for axes, surface in zip(row, column["surfaces"], strict=False):
        panels.name(axes, PLAIN if surface["method"] == "adm" else sources.label(surface["method"], surface["rho"]))
        axes.set_box_aspect(1)
        if "missing" in surface:
            panels.missing(axes, surface["missing"], INCHES)
            continue
        points = f"{len(surface['first'])} × {len(surface['second'])} points"
        _surface(axes, surface, norm)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axes.set(xticks=[-reach, 0, reach], yticks=[-reach, 0, reach])
        if axes is not row[0]:
            axes.tick_params(labelleft=False)
    row[0].set_ylabel(f"{panels.wrapped(column['short'], INCHES)}\n{points}", fontsize=panels.SMALL)


def draw(data: Data) -> Figure:
    """A row a source, a panel a network, one scale of contours and of moves; the scale stands where a row ends."""
    columns = panels.there(data["columns"])
    counts = [len(column["surfaces"]) for column in columns]
    width = max(counts) + (min(counts) == max(counts))
    figure = style.figure(0.6 + 1.1 * len(columns))
    panels.headline(figure, data["title"])
    grid = figure.subplots(len(columns), width, squeeze=False)
    norm = BoundaryNorm(LEVELS, 256, extend="both")
    reach = _reach(columns)
    free = grid[counts.index(min(counts))][-1]
    for row, column in zip(grid, columns, strict=True):
        _row(list(row), column, norm, reach)
        for axes in row[len(column["surfaces"]) :]:
            if axes is not free:
                axes.remove()
    bar = figure.colorbar(ScalarMappable(norm, SHADES), cax=free)
    free.set_box_aspect(8)
    free.set_anchor("W")
    bar.set_label("rise over the loss", fontsize=panels.SMALL)
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    figure.supxlabel("move along either direction, over the weights' own size", fontsize=panels.SMALL)
    return figure
