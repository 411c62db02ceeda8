"""B1 and B2: the last layer as theta of Eq. (9), and whether SAM shrinks its features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from experiments.bridge.rows import INFINITE, By, Claim, Comparison, Entry, Rows
from findings import estimates, names
from findings.estimates import Cell, estimated, over_seeds, ratio
from findings.toy_study import Toy

EXACT = 0.05
"""Margin of what is exact in the mean over draws, as the toy's P3b."""
ON_AVERAGE = 0.25
"""Margin of rounding, which the closed form has on average over weights alone, as the toy's P4d."""
SAME = 0.05
"""Margin within which a method that leaves a measure alone must not lower it, as the toy's P2c."""
FACTOR = 2.0
"""By how much the ratio may differ from the toy's to count as the same size."""
SOURCES = {"T3": By("theory", "theory T3, toy P3b"), "T5": By("theory", "theory T5, toy P4")}
ROUNDED = By("question", "question (theory T5 has it on average over weights alone)")
DRAWS = "error over draws, of images that the prediction is computed on too"
IMAGES = "error over images and draws"


def claims(rows: Rows, toy: Toy, bits: tuple[int, ...]) -> list[Claim]:
    """All of B1 and B2.

    Args:
        rows: of the folder.
        toy: its results.
        bits: widths of rounded weights.
    """
    return [*_closed_forms(rows, bits), *_energies(rows, toy)]


def _closed_forms(rows: Rows, bits: tuple[int, ...]) -> list[Claim]:
    exact = [
        ("B1a", "noise-absolute", "absolute noise on weight and bias raises the loss by sigma^2 (E|phi|^2 + 1)", "T3"),
        ("B1b", "noise-layer", "noise relative to the weight raises the loss by sigma^2 |W|^2 / (d m) E|phi|^2", "T3"),
        *(
            (f"B1c-{b}", f"dither-{b}", f"dither of one step of {b} bits raises it by (q^2 / 12) E|phi|^2", "T5")
            for b in bits
        ),
    ]
    claims = []
    for identifier, rise, says, theorem in exact:
        comparisons = rows.each(_first_stage(rise))
        claims.append(_closed(identifier, f"The last layer: {says}", SOURCES[theorem], EXACT, comparisons, DRAWS, rise))
        if identifier in ("B1a", "B1b"):
            pooled = _pooled(comparisons)
            says = f"The same in the mean over all rows ({rise})"
            claims.append(_closed(f"{identifier}-mean", says, SOURCES[theorem], EXACT, pooled, DRAWS, rise))
    for b in bits:
        even = rows.each(_first_stage(f"rounding-{b}", drawn=False))
        says = f"Rounding the last layer to {b} bits raises the loss's even part by (q^2 / 12) E|phi|^2 in each network"
        claims.append(_closed(f"B1d-{b}", says, ROUNDED, ON_AVERAGE, even, IMAGES, f"rounding-{b}"))
        mean = _over_runs(rows, _first_stage(f"rounding-{b}", drawn=False))
        says = f"The same at {b} bits in the mean over runs, whose weights are drawn apart"
        over = "error over the runs' raw weights (Student)"
        claims.append(_closed(f"B1d-{b}-mean", says, SOURCES["T5"], ON_AVERAGE, mean, over, f"rounding-{b}"))
        whole = rows.each(_of_rows(names.quantization(b), drawn=False))
        says = f"Rounding the last layer to {b} bits raises the loss itself by (q^2 / 12) E|phi|^2 in each network"
        where = f"rows/*.json: measures.readout.rises.quantization-{b}"
        claims.append(_closed(f"B1e-{b}", says, ROUNDED, ON_AVERAGE, whole, IMAGES, "", where))
    for name in map(names.low_pass, ("absolute", "layer")):
        comparisons = rows.each(_of_rows(name, drawn=True))
        says = (
            f"The rows' own measure of the last layer's rise ({name}, one sign, few draws) agrees with the closed form"
        )
        where = f"rows/*.json: measures.readout.rises.{name}"
        claims.append(_closed(f"B1f-{name}", says, SOURCES["T3"], EXACT, comparisons, IMAGES, "", where))
    return claims


def _closed(
    identifier: str, statement: str, source: By, margin: float, comparisons: tuple[Comparison, ...], error: str,
    rise: str, where: str = "",
) -> Claim:  # fmt: skip
    return Claim(
        identifier, statement, source,
        (1.0 - margin, 1.0 + margin), comparisons, f"measured over predicted, margin {margin:.0%}; {error}",
        where or f"layers/*.json: measures.readout.rises.{rise}", predicted=1.0,
    )  # fmt: skip


def _first_stage(rise: str, *, drawn: bool = True) -> Callable[[Entry], Cell | None]:
    """Measured over predicted, on the first stage's images; its error over draws, over images where none are drawn."""

    def number(entry: Entry) -> Cell | None:
        rises = entry.layered("readout")
        if rises is None or rise not in rises["rises"]:
            return None
        one, draws = rises["rises"][rise], rises["draws"]
        measured = one["measured"]
        error = measured["draw_standard_error"] if drawn else measured["data_standard_error"]
        degrees = (draws if drawn else len(one["by_image"])) - 1
        return Cell(measured["value"] / one["predicted"], error / one["predicted"], degrees)

    return number


def _of_rows(rise: str, *, drawn: bool) -> Callable[[Entry], Cell | None]:
    """The same of the rows' measure, whose few draws have a linear part."""

    def number(entry: Entry) -> Cell | None:
        readout = entry.measure("readout")
        if readout is None or rise not in readout["rises"]:
            return None
        one = readout["rises"][rise]
        draws = entry.row["settings"]["evaluation"]["readout_draws"] if entry.row else 2
        settings: dict[str, Any] = {"samples": readout["settings"]["samples"]}
        if drawn:
            settings["draws"] = draws
        return ratio(estimates.estimate(one["measured"], settings), Cell(one["predicted"]["value"]))

    return number


def _pooled(comparisons: tuple[Comparison, ...]) -> tuple[Comparison, ...]:
    """The mean over rows; they share draws, so their errors are added as if they were the same."""
    if not comparisons:
        return ()
    of_rows = [over_seeds(one.values) for one in comparisons]
    number = len(of_rows)
    value, error = sum(c.value for c in of_rows) / number, sum(c.error or 0.0 for c in of_rows) / number
    return (Comparison(f"mean over {number} rows", (Cell(value, error, min(c.degrees for c in of_rows)),)),)


def _over_runs(rows: Rows, number: Callable[[Entry], Cell | None]) -> tuple[Comparison, ...]:
    """The mean over the runs' raw weights with the error over runs."""
    values = [number(entry) for entry in rows.entries if entry.average == "raw"]
    there = [cell.value for cell in values if cell is not None]
    return (
        (Comparison(f"mean over {len(there)} runs", (estimates.mean(there),)),)
        if len(there) >= estimates.FEWEST
        else ()
    )


def energy(entry: Entry) -> Cell | None:
    """The last layer's feature energy, of a row."""
    readout = entry.measure("readout")
    return None if readout is None else estimated(readout["feature_energy"], readout["settings"])


def _ratio(a: Entry, b: Entry) -> Cell | None:
    ours, theirs = energy(a), energy(b)
    return None if ours is None or theirs is None else ratio(ours, theirs)


def _toys(toy: Toy, entry: Entry) -> str:
    """The toy's row that corresponds to one of a folder."""
    return toy.row(entry.method, entry.rho, entry.average)


def _energies(rows: Rows, toy: Toy) -> list[Claim]:
    sam, ip = rows.counterparts("sam", "adm"), rows.counterparts("ip", "adm")
    where = "rows/*.json: measures.readout.feature_energy"
    how = f"ratio of E|phi|^2; {IMAGES}, the two rows' added as if independent"
    claims = [
        Claim("B2a", "SAM lowers the last layer's feature energy", By("theory", "theory T3 and T6, toy P3a"),
              (-INFINITE, 1.0), rows.against(sam, _ratio), how, where),
        Claim("B2b", "EMA and SWA leave the last layer's feature energy (at most 5% less)",
              By("theory", "toy P2c, P2d"), (1.0 - SAME, INFINITE), rows.against(rows.averages(), _ratio), how, where),
        Claim("B2c", "Input perturbation leaves the last layer's feature energy (at most 5% less)",
              By("theory", "toy P2e"), (1.0 - SAME, INFINITE), rows.against(ip, _ratio), how, where),
    ]  # fmt: skip
    for label, against in sam:
        entry, other = rows.of(label)[0], rows.of(against)[0]
        predicted = toy.ratio(_toys(toy, entry), _toys(toy, other), "feature_energy")
        if predicted is not None:
            claims.append(
                Claim(
                    f"B2d-{label}",
                    f"{label}'s feature energy falls by as much as the toy's, within a factor of {FACTOR:g}",
                    By("theory", "toy P3a, sweep"),
                    (predicted.value / FACTOR, predicted.value * FACTOR),
                    rows.against([(label, against)], _ratio),
                    how,
                    f"{where}; toy.json: measures.{_toys(toy, entry)}.feature_energy",
                    predicted.value,
                    predicted.interval,
                )
            )
    return claims
