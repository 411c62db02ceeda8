"""B7: SAM's radius as a dose, in the order that the toy's sweep predicts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

from experiments.bridge.b1_b2_last_layer import energy
from experiments.bridge.b3_b4_layers_and_scale import PAIRED, rise_ratio, whole_ratio
from experiments.bridge.rows import INFINITE, By, Claim, Comparison, Entry, Rows
from findings import estimates, names
from findings.estimates import Cell, ratio
from findings.toy_study import Toy


def _stored(measure: str, *path: str) -> Callable[[Entry], Cell | None]:
    def number(entry: Entry) -> Cell | None:
        result = entry.measure(measure)
        if result is None:
            return None
        value: Any = result
        for key in path:
            value = value[key]
        if not isinstance(value, Mapping):
            value = result | {"value": value}
        return estimates.estimate(value, result.get("settings"))

    return number


def _of(number: Callable[[Entry], Cell | None]) -> Callable[[Entry, Entry], Cell | None]:
    def both(a: Entry, b: Entry) -> Cell | None:
        ours, theirs = number(a), number(b)
        return None if ours is None or theirs is None else ratio(ours, theirs)

    return both


DOSES: dict[str, tuple[str, Callable[[Entry, Entry], Cell | None]]] = {
    "lpf_rise": ("absolute rise", rise_ratio("absolute")),
    "relative_rise": ("layer-relative rise", rise_ratio("layer")),
    "feature_energy": ("last layer's feature energy", _of(energy)),
    "loss": ("held-out loss", _of(_stored("loss", "mse"))),
    "quantized_rise_8": ("loss's rise at 8 bits", _of(_stored(names.quantization(8), "rise"))),
    "quantized_rise_4": ("loss's rise at 4 bits", _of(_stored(names.quantization(4), "rise"))),
    "quantized_rise_3": ("loss's rise at 3 bits", _of(_stored(names.quantization(3), "rise"))),
    "gap_20": ("norm's gap, T'=20", _of(_stored(names.exposure(20), names.GAP))),
    "gap_100": ("norm's gap, T'=100", _of(_stored(names.exposure(100), names.GAP))),
    "sw_20": ("distance of samples, T'=20", _of(_stored(names.distance(20), "value"))),
    "sw_100": ("distance of samples, T'=100", _of(_stored(names.distance(100), "value"))),
}
"""Measures of the toy's sweep of SAM's radius, and what stands for them in a folder; distances are other distances."""


def claims(rows: Rows, toy: Toy) -> list[Claim]:
    """One claim a measure: the raw weights' order by radius is the toy's, wherever the toy's intervals tell one."""
    raw = [entry for entry in rows.entries if entry.average == "raw" and entry.method in ("adm", "sam")]
    by_rho = {entry.rho: entry.label for entry in sorted(raw, key=lambda entry: entry.rho)}
    claims = []
    for measure, (words, number) in DOSES.items():
        for sign, region, says in ((-1, (-INFINITE, 1.0), "falls"), (1, (1.0, INFINITE), "grows")):
            pairs = [
                (by_rho[b], by_rho[a]) for a, b in itertools.pairwise(by_rho) if _direction(toy, measure, a, b) == sign
            ]
            if pairs:
                claims.append(
                    Claim(f"B7-{measure}-{says}", f"The {words} {says} with SAM's radius where the toy's does",
                          By("theory", "toy P2g, sweep"), region, rows.against(pairs, number),
                          f"ratio of each radius to the one before (adm's is 0); {PAIRED} or added as if independent",
                          f"layers/*.json and rows/*.json; toy.json: measures.learnt/*.{measure}")
                )  # fmt: skip
    return claims


def of_snapshots(rows: Rows, snapshots: Mapping[str, Mapping[str, Any]]) -> list[Claim]:
    """SAM's snapshots against adm's after as many steps, of each radius and training seed.

    Args:
        rows: of the folder.
        snapshots: documents of the first stage, by run.
    """
    raw = [entry for entry in rows.entries if entry.average == "raw"]
    values: dict[tuple[str, str], list[Cell | None]] = {}
    for entry in (one for one in raw if one.method == "sam" and one.run in snapshots):
        others = [one.run for one in raw if one.method == "adm" and one.seed == entry.seed and one.run in snapshots]
        for run in others[:1]:
            ours, theirs = snapshots[entry.run]["measures"], snapshots[run]["measures"]
            for step in [step for step in ours if "whole" in ours[step] and "whole" in theirs.get(step, {})]:
                ratio_of = whole_ratio(ours[step]["whole"]["absolute"], theirs[step]["whole"]["absolute"])
                values.setdefault((entry.label, step), []).append(ratio_of)
    comparisons = tuple(
        Comparison(
            f"{label} against adm, {step}", tuple(cell for cell in cells if cell is not None), rows=(label, "adm")
        )
        for (label, step), cells in values.items()
        if None not in cells
    )
    return [
        Claim("B7-snapshots", "All along training SAM's absolute rise is below adm's after as many steps",
              By("theory", "toy P2a (at its end)"), (-INFINITE, 1.0), comparisons,
              f"ratio of the whole network's rises of power-function EMAs; {PAIRED}",
              "layers/*-snapshots.json: measures.step-*.whole.absolute")
    ]  # fmt: skip


def _direction(toy: Toy, measure: str, low: float, high: float) -> int:
    """The sign of the toy's change from one radius to the next; 0 where its intervals overlap or it has none."""
    rows = [toy.row("sam" if rho else "adm", rho, "raw") for rho in (low, high)]
    a, b = (toy.number(row, measure) for row in rows)
    if a is None or b is None or (a.low <= b.high and b.low <= a.high):
        return 0
    return 1 if b.value > a.value else -1
