"""The paper's tables from result files: rows by measures, for the terminal, as Markdown and as JSON.

Table 1 is the paper's summary, 2 its distances, 3 (and 5, on other data) its flatness, 4 its quantisation. Beside them
stand what the paper shows in figures, exposure bias and loss under perturbation, and the readout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from experiments.evaluation import cells
from experiments.evaluation.cells import Cell, Column, Result

METHODS = ("adm", "ip", "sam", "ip+sam")
AVERAGES = ("raw", "ema", "swa")
FULL = 32
FLOOR = "real images"


class Table(NamedTuple):
    """One table.

    Attributes:
        name: in JSON.
        title: what is shown, and in which unit.
        columns: those that any row has a number in.
        rows: by label, a cell or None for each column.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: dict[str, tuple[Cell | None, ...]]


def grouped(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The rows in the paper's order, each with its results: one, or one for each training seed.

    A label is the method and the average, with rho where results of several radii are there.
    """
    radii = {r["settings"]["configuration"]["sam"]["rho"] for r in results if "sam" in r["method"]}

    def order(result: Result) -> tuple[int, float, int, int]:
        c = result["settings"]["configuration"]
        average = AVERAGES.index(result["average"])
        return METHODS.index(result["method"]), -_radius(result), average, c["seed"]

    found: dict[str, list[Result]] = {}
    for result in sorted(results, key=order):
        radius = f" rho={_radius(result):g}" if len(radii) > 1 and "sam" in result["method"] else ""
        average = "" if result["average"] == "raw" else f"+{result['average']}"
        found.setdefault(f"{result['method']}{radius}{average}", []).append(result)
    return found


def _radius(result: Result) -> float:
    return float(result["settings"]["configuration"]["sam"]["rho"]) if "sam" in result["method"] else 0.0


def tables(results: Sequence[Result]) -> list[Table]:
    """All tables.

    Raises:
        ValueError: there is no result.
    """
    if not results:
        raise ValueError("results is empty; allowed: at least one")
    rows, options = grouped(results), cells.options_of(results)
    shown = [
        ("summary", "Table 1: summary", _summary(options)),
        ("distances", f"Table 2: {distance_name(results)}; T' sampling steps, 32 bits", _distances(options)),
        ("flatness", f"Table 3: flatness ({_objective(options)}); LPF with its noise", _flatness(options)),
        ("quantisation", f"Table 4: rounded weights: {distance_name(results)}, and loss", _quantisation(options)),
        ("exposure-bias", "Exposure bias: norm of the predicted noise, sampling less training", _exposure(options)),
        ("curve", f"Rise of the loss at a distance from the weights ({_objective(options)})", _curve(options)),
        (
            "readout",
            "The last layer: feature energy, norms, and the loss's rise when it alone is moved, measured and predicted",
            _readout(options),
        ),
    ]
    found = [_table(name, title, columns, rows) for name, title, columns in shown]
    return [_with_floor(table, results) for table in found if table.columns]


def distance_name(results: Sequence[Result]) -> str:
    """FID is Inception's alone."""
    features = results[0]["settings"]["features"]
    if features is None:
        return "no distances"
    name = features["name"]
    return "FID" if name.startswith("inception") else f"Frechet distance in features of {name} (not FID)"


def _objective(options: Mapping[str, Any]) -> str:
    return "mean squared error of the noise" if options["objective"] == "mse" else "hybrid loss"


def _table(name: str, title: str, columns: Sequence[Column], rows: Mapping[str, Sequence[Result]]) -> Table:
    """The table without columns that no row has a number in."""
    found = {column: [column.of(results) for results in rows.values()] for column in columns}
    kept = [column for column in columns if any(cell is not None for cell in found[column])]
    by_row = {label: tuple(found[column][place] for column in kept) for place, label in enumerate(rows)}
    return Table(name, title, tuple(kept), by_row)


def _with_floor(table: Table, results: Sequence[Result]) -> Table:
    """Table 2 with one more row: what as many real images reach."""
    if table.name != "distances":
        return table
    options = cells.options_of(results)
    counts = {
        f"frechet-{steps}": f"frechet-floor-{count}"
        for steps, count in zip(options["sampling_steps"], options["samples"], strict=True)
    }
    measures = results[0]["measures"]
    row: list[Cell | None] = []
    for column in table.columns:
        found = measures.get(counts[column.name.removesuffix("-extrapolated")])
        value = None if found is None else cells.estimate(found)
        if value is not None and column.name.endswith("extrapolated"):
            value = Cell(found["extrapolated"], value.error)
        row.append(value)
    return table._replace(rows={**table.rows, FLOOR: tuple(row)})


def _summary(options: Mapping[str, Any]) -> list[Column]:
    steps = options["sampling_steps"][0]
    found = [
        cells.stored("mse", "MSE", "loss", "mse"),
        cells.stored("lpf", "LPF", "lpf-absolute", "value"),
        cells.stored("lpf-rise", "LPF rise", "lpf-absolute", "rise"),
        cells.stored("mean-gap", f"norm gap T'={steps}", f"exposure-{steps}", "mean_gap"),
        cells.stored("frechet", f"distance T'={steps}", f"frechet-{steps}-{FULL}"),
    ]
    return found + [
        cells.change(f"frechet-{bits}", f"change at {bits} bits", f"frechet-{steps}-{bits}", f"frechet-{steps}-{FULL}")
        for bits in options["bits"]
    ]


def _distances(options: Mapping[str, Any]) -> list[Column]:
    found = []
    for steps, count in zip(options["sampling_steps"], options["samples"], strict=True):
        measure = f"frechet-{steps}-{FULL}"
        found.append(cells.stored(f"frechet-{steps}", f"T'={steps}, {count} samples", measure))
        found.append(_extrapolated(f"frechet-{steps}-extrapolated", f"T'={steps}, without bias", measure))
    return found


def _extrapolated(name: str, heading: str, measure: str) -> Column:
    def cell(result: Result) -> Cell:
        found = cells.at(result, measure)
        return Cell(found["extrapolated"], found["standard_error"])

    return Column(name, heading, cell, (measure,))


def _flatness(options: Mapping[str, Any]) -> list[Column]:
    found = [cells.stored("loss", "loss", "lpf-absolute", "loss")]
    for scale in ("absolute", "layer", "filter"):
        sigma = options["sigma" if scale == "absolute" else "relative_sigma"]
        found.append(cells.stored(f"lpf-{scale}", f"LPF, {scale} {sigma:g}", f"lpf-{scale}", "value"))
        found.append(cells.stored(f"lpf-{scale}-rise", f"rise, {scale}", f"lpf-{scale}", "rise"))
    return found


def _quantisation(options: Mapping[str, Any]) -> list[Column]:
    found = []
    for steps in options["sampling_steps"]:
        full = f"frechet-{steps}-{FULL}"
        found.append(cells.stored(f"frechet-{steps}", f"T'={steps}, 32 bits", full))
        for bits in options["bits"]:
            measure = f"frechet-{steps}-{bits}"
            found.append(cells.stored(measure, f"T'={steps}, {bits} bits", measure))
            found.append(cells.change(f"{measure}-change", "change", measure, full))
    return found + [
        cells.stored(f"rise-{bits}", f"loss rise, {bits} bits", f"quantization-{bits}", "rise")
        for bits in options["rise_bits"]
    ]


def _exposure(options: Mapping[str, Any]) -> list[Column]:
    reductions = {"mean_gap": "mean", "mean_absolute_gap": "mean |gap|", "last_gap": "last step"}
    return [
        cells.stored(f"{key}-{steps}", f"T'={steps}, {words}", f"exposure-{steps}", key)
        for steps in options["sampling_steps"]
        for key, words in reductions.items()
    ]


def _curve(options: Mapping[str, Any]) -> list[Column]:
    def rise(measure: str, index: int) -> Any:
        return lambda result: cells.estimate(cells.at(result, measure, "rises")[index])

    found = []
    for measure, key, words in (
        ("curve-random", "curve_rms", "random, rms"),
        ("curve-gradient", "gradient_distances", "gradient,"),
    ):
        for index, distance in enumerate(options[key]):
            found.append(Column(f"{measure}-{distance:g}", f"{words} {distance:g}", rise(measure, index), (measure,)))
    return found


def _readout(options: Mapping[str, Any]) -> list[Column]:
    found = [
        cells.stored("feature-energy", "E|phi|^2", "readout", "feature_energy"),
        cells.bare("readout-norm", "|W| last layer", "readout", "weight_norm"),
        cells.bare("norm", "|w| all", "readout", "weights", "norm"),
    ]
    words = {"lpf-absolute": "noise", "lpf-layer": "scaled noise"}
    words |= {f"quantization-{bits}": f"{bits} bits" for bits in options["rise_bits"]}
    return found + [
        cells.stored(f"{name}-{kind}", f"{word}, {kind}", "readout", "rises", name, kind)
        for name, word in words.items()
        for kind in ("measured", "predicted")
    ]


def shown(results: Sequence[Result], console: Console) -> None:
    """All tables on the terminal; columns that do not fit continue in a further table."""
    for table in tables(results):
        for title, columns in _fitting(table, console.width):
            drawn = RichTable(title=title, title_justify="left")
            drawn.add_column("row", no_wrap=True)
            for place in columns:
                drawn.add_column(table.columns[place].heading, justify="right", no_wrap=False, min_width=8)
            for label, row in table.rows.items():
                drawn.add_row(label, *(_text(row[place]) for place in columns))
            console.print(drawn, highlight=False)


def _fitting(table: Table, width: int) -> list[tuple[str, list[int]]]:
    """Columns by the tables that show them, so that no number is broken over lines."""
    first = max(len(label) for label in (*table.rows, "row")) + 4
    found: list[list[int]] = [[]]
    used = first
    for place in range(len(table.columns)):
        needs = max((len(_text(row[place])) for row in table.rows.values()), default=0)
        needs = max(needs, 8) + 3
        if used + needs > width and found[-1]:
            found.append([])
            used = first
        found[-1].append(place)
        used += needs
    return [(table.title + (", continued" if part else ""), columns) for part, columns in enumerate(found)]


def _text(cell: Cell | None) -> str:
    return "" if cell is None or math.isnan(cell.value) else cell.shown()


def markdown(found: Sequence[Table]) -> str:
    """The tables, one below the other."""
    lines = []
    for table in found:
        lines += [f"### {table.title}", "", "| row | " + " | ".join(c.heading for c in table.columns) + " |"]
        lines[-1] = (
            lines[-1].replace("|W|", "‖W‖").replace("|w|", "‖w‖").replace("|phi|", "‖phi‖").replace("|gap|", "abs. gap")
        )
        lines.append("|---|" + "---:|" * len(table.columns))
        lines += ["| " + " | ".join((label, *map(_text, row))) + " |" for label, row in table.rows.items()]
        lines.append("")
    return "\n".join(lines)


def document(found: Sequence[Table]) -> list[dict[str, Any]]:
    """The same for JSON: a number that is not finite, or not there, is None."""
    return [
        {
            "name": table.name,
            "title": table.title,
            "columns": {column.name: column.heading for column in table.columns},
            "rows": {
                label: {c.name: _entry(cell) for c, cell in zip(table.columns, row, strict=True)}
                for label, row in table.rows.items()
            },
        }
        for table in found
    ]


def _entry(cell: Cell | None) -> dict[str, float | None] | None:
    if cell is None or not math.isfinite(cell.value):
        return None
    return {"value": cell.value, "error": cell.error}
