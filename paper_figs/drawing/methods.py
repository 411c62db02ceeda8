"""The toy study's result file and how its numbers are drawn: loaded, named and put on axes the same way everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from findings.checksums import ResultError, read_json
from paper_figs.catalogue import ROOT
from paper_figs.drawing import style

RESULTS = ROOT / "results" / "toy.json"
COMMAND = "python -m toy"
PAPER_NUMBERS = ROOT / "paper_figs" / "paper_numbers.json"

BASES = ("adm", "ip", "sam")
"""Plain training, input perturbation, sharpness-aware minimisation."""
AVERAGES = ("", "+ema", "+swa")
METHODS = tuple(base + average for base in BASES for average in AVERAGES)
LOOKS: dict[str, dict[str, Any]] = dict(zip(BASES, style.SERIES, strict=False))
NAMES = {base: base.upper() for base in BASES}
FEWEST_SEEDS = 20
"""Below, the study is a trial and every figure says so."""

Interval = dict[str, Any]


def load(path: Path = RESULTS) -> dict[str, Any]:
    """The result file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is cut short, or lacks a part that the figures read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; `{COMMAND}` makes it")
    try:
        results = read_json(path)
    except ResultError as error:
        raise ValueError(f"{path} is no JSON ({error}); `{COMMAND}` makes it anew") from None
    missing = [key for key in ("configuration", "measures", "pairs", "series", "sweep", "quick") if key not in results]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; `{COMMAND}` makes it anew")
    return results


def paper() -> dict[str, Any]:
    """The numbers printed in the paper, each table with its name."""
    return read_json(PAPER_NUMBERS)


def number(results: dict[str, Any], row: str, measure: str) -> Interval:
    """A measure's mean over seeds, its interval, the number of seeds and the level.

    Raises:
        ValueError: the file has no such row or measure.
    """
    try:
        found = results["measures"][row][measure]
    except KeyError as error:
        raise ValueError(f"the results have no {row}: {measure} (no {error}); `{COMMAND}` makes them anew") from None
    return {key: found[key] for key in ("mean", "low", "high", "seeds", "level")}


def face(results: dict[str, Any]) -> dict[str, Any]:
    """What every figure says of its data: the data set, the number of seeds, the level, and whether it is a trial."""
    seeds = results["configuration"]["seeds"]
    level = results["measures"]["learnt/adm"]["loss"]["level"]
    return {
        "data": results["configuration"]["data"],
        "seeds": seeds,
        "level": level,
        "trial": bool(results["quick"]) or seeds < FEWEST_SEEDS,
    }


def sentence(face: dict[str, Any]) -> str:
    """The face in words, for a title."""
    words = f"toy, ring of eight Gaussians in the plane, {face['seeds']} seeds; {face['level']:.0%} intervals"
    return words + (" (trial)" if face["trial"] else "")


def short(face: dict[str, Any]) -> str:
    """The face in the width of half a column."""
    return f"toy ring, {face['seeds']} seeds" + (" (trial)" if face["trial"] else "")


def columns(intervals: list[Interval]) -> tuple[np.ndarray, np.ndarray]:
    """Means (n,) and how far the intervals reach below and above them (2, n)."""
    mean, low, high = (np.array([interval[key] for interval in intervals]) for key in ("mean", "low", "high"))
    return mean, np.stack([mean - low, high - mean])


def bars(axes: Axes, x: Any, intervals: list[Interval], **look: Any) -> None:
    """Means with their intervals over x, joined where the look has a line style."""
    mean, spread = columns(intervals)
    axes.errorbar(x, mean, spread, elinewidth=0.7, capsize=1.5, capthick=0.7, **look)


def by_method(axes: Axes, of: dict[str, Interval], base: str, shift: float = 0.0, **look: Any) -> None:
    """One base's three rows of a table as points with intervals, `METHODS` from the top down."""
    rows = [name for name in METHODS if name.partition("+")[0] == base and name in of]
    mean, spread = columns([of[name] for name in rows])
    places = [METHODS.index(name) + shift for name in rows]
    look = {**LOOKS[base], **look, "linestyle": "none"}
    axes.errorbar(mean, places, xerr=spread, elinewidth=0.7, capsize=1.5, capthick=0.7, **look)


def method_axis(axes: Axes, *, named: bool) -> None:
    """The vertical axis of `by_method`: a line a method, parted by base; names on the first panel."""
    axes.set_yticks(range(len(METHODS)), [name.upper() for name in METHODS] if named else [""] * len(METHODS))
    axes.set_ylim(len(METHODS) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    for place in (2.5, 5.5):
        axes.axhline(place, color=style.GREY, linewidth=0.4)
