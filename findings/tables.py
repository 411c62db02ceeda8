"""The paper's tables from result files: rows by measures, for the terminal, as Markdown and as JSON.

Table 1 is the paper's summary, 2 its distances, 3 (and 5, on other data) its flatness, 4 its quantisation. Beside them
stand what the paper shows in figures, exposure bias and loss under perturbation, the readout, and SAM's dose: without
it a row of one radius says nothing of another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from findings import columns, estimates, names
from findings.columns import ABSOLUTE
from findings.documents import FAILED
from findings.estimates import Cell, Column, Result
from findings.names import RowName

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

    def order(result: Result) -> tuple[tuple[int, float, int], int]:
        return row_name(result).order, result["settings"]["configuration"]["seed"]

    rows: dict[str, list[Result]] = {}
    for result in sorted(results, key=order):
        name = row_name(result)
        rows.setdefault(str(name) if len(radii) > 1 else name.of_method, []).append(result)
    return rows


def row_name(result: Result) -> RowName:
    """The row that a result is of, its radius said wherever it has one."""
    rho = float(result["settings"]["configuration"]["sam"]["rho"]) if "sam" in result["method"] else None
    return RowName(result["method"], result["average"], rho)


def tables(results: Sequence[Result]) -> list[Table]:
    """All tables.

    Raises:
        ValueError: there is no result.
    """
    if not results:
        raise ValueError("results is empty; allowed: at least one")
    rows, settings = grouped(results), results[0]["settings"]
    steps, name = settings["evaluation"]["sampling_steps"], columns.distance_name(settings)
    notes = (columns.bias_note(settings, some) for some in (steps[:1], steps))
    first, every = (f"; {note}" if note else "" for note in notes)
    objective = columns.objective(settings["evaluation"])
    shown = [
        ("summary", f"Table 1: summary{first}", columns.summary),
        ("distances", f"Table 2: {name}; T' sampling steps, 32 bits{every}", columns.distances),
        ("flatness", f"Table 3: flatness ({objective}); LPF with its noise", columns.flatness),
        ("quantisation", f"Table 4: rounded weights: {name}, and loss{every}", columns.quantisation),
        ("exposure-bias", "Exposure bias: norm of the predicted noise, sampling less training", columns.exposure),
        ("curve", f"Rise of the loss at a distance from the weights ({objective})", columns.curve),
        (
            "readout",
            "The last layer: feature energy, norms, and the loss's rise when it alone is moved, measured and predicted",
            columns.readout,
        ),
    ]
    tables = [*(_table(name, title, of(settings), rows) for name, title, of in shown), doses(rows)]
    return [_with_floors(table, results) for table in tables if table.columns]


def _table(name: str, title: str, wanted: Sequence[Column], rows: Mapping[str, Sequence[Result]]) -> Table:
    """The table without columns that no row has a number in."""
    cells = {column: [column.of(results) for results in rows.values()] for column in wanted}
    shown = [column for column in wanted if any(cell is not None for cell in cells[column])]
    by_row = {label: tuple(cells[column][place] for column in shown) for place, label in enumerate(rows)}
    return Table(name, title, tuple(shown), by_row)


def doses(rows: Mapping[str, Sequence[Result]]) -> Table:
    """How strongly each perturbed row was dosed: its radius, the share of the loss that the ascent climbs, what fell.

    The dose is rho E|grad L_B| / L over batches of the run's own size. The low-pass filter's value and its rise are
    ratios to plain training with the same average and seed; the paper's "a third" is of the value.
    """
    shown = (
        Column("rho", "rho", lambda result: Cell(result["settings"]["configuration"]["sam"]["rho"]), ()),
        Column("dose", "rho E‖g‖/L", _dose, (names.GRADIENT,)),
        estimates.stored("lpf-value-ratio", "LPF value, to adm's", ABSOLUTE, "value"),
        estimates.stored("lpf-rise-ratio", "LPF rise, to adm's", ABSOLUTE, "rise"),
    )
    plain = {of[0]["average"]: of for of in rows.values() if of[0]["method"] == "adm"}
    perturbed = {label: of for label, of in rows.items() if "sam" in of[0]["method"]}
    cells_of: dict[str, list[Cell | None]] = {
        label: [shown[0].of(of[:1]), shown[1].of(of)]
        + [_to_plain(column, of, plain.get(of[0]["average"], ())) for column in shown[2:]]
        for label, of in perturbed.items()
    }
    there = [place for place in range(len(shown)) if any(cells[place] is not None for cells in cells_of.values())]
    return Table(
        "dose",
        "Dose: SAM's radius, the share of the loss that it climbs, and the low-pass filter beside plain training's",
        tuple(shown[place] for place in there),
        {label: tuple(cells[place] for place in there) for label, cells in cells_of.items()},
    )


def _dose(result: Result) -> Cell:
    rho = float(result["settings"]["configuration"]["sam"]["rho"])
    norm, loss = (estimates.estimate(estimates.at(result, names.GRADIENT, key)) for key in ("norm", "loss"))
    share = estimates.ratio(norm, loss)
    if share is None:
        return Cell(math.nan)
    return Cell(rho * share.value, None if share.error is None else rho * share.error, share.degrees)


def _to_plain(column: Column, ours: Sequence[Result], theirs: Sequence[Result]) -> Cell | None:
    """The ratio to plain training's; over seeds that both have its geometric mean. None where it cannot be said."""
    others = {result["settings"]["configuration"]["seed"]: result for result in theirs}
    pairs = [(a, others.get(a["settings"]["configuration"]["seed"])) for a in ours]
    logarithms = []
    for a, b in pairs:
        if b is None or (first := column.of([a])) is None or (second := column.of([b])) is None:
            continue
        one = estimates.logarithm(estimates.ratio(first, second))
        if one is None:
            return None
        logarithms.append(one)
    if not logarithms:
        return None
    of_logarithms = estimates.over_seeds(logarithms)
    value = math.exp(of_logarithms.value)
    return Cell(value, None if of_logarithms.error is None else value * of_logarithms.error, of_logarithms.degrees)


def _with_floors(table: Table, results: Sequence[Result]) -> Table:
    """Table 2 with what real images reach: a row for each number of them.

    Their value stands only where as many samples were taken, for it falls with their number; without bias, wherever
    they are enough. Over training seeds they have no error.
    """
    if table.name != "distances":
        return table
    settings, measures = results[0]["settings"], results[0]["measures"]
    seeds = {result["settings"]["configuration"]["seed"] for result in results}
    counts = {f"frechet-{steps}": count for steps, count in columns.samples_of(settings).items()}
    rows = dict(table.rows)
    for number in settings["data"]["used"]["floors"]:
        floor, row = measures.get(names.floor(number), {FAILED: "not measured"}), []
        if FAILED in floor:
            continue
        for column in table.columns:
            key = column.entry
            fits = columns.extrapolates(settings, number) if key != "value" else counts[column.name] == number
            error = floor["standard_error"] if len(seeds) < estimates.FEWEST else None
            row.append(Cell(floor[key], error) if fits else None)
        if any(cell is not None for cell in row):
            rows[f"{FLOOR}, n={number}"] = tuple(row)
    return table._replace(rows=rows)


def shown(results: Sequence[Result], console: Console) -> None:
    """All tables on the terminal; columns that do not fit continue in a further table."""
    for table in tables(results):
        for title, places in _fitting(table, console.width):
            drawn = RichTable(title=title, title_justify="left")
            drawn.add_column("row", no_wrap=True)
            for place in places:
                drawn.add_column(table.columns[place].heading, justify="right", min_width=_width(table, place))
            for label, row in table.rows.items():
                drawn.add_row(label, *(_text(row[place]) for place in places))
            console.print(drawn, highlight=False)


def _fitting(table: Table, width: int) -> list[tuple[str, list[int]]]:
    """Columns by the tables that show them, so that no number is broken over lines."""
    first = max(len(label) for label in (*table.rows, "row")) + 4
    groups: list[list[int]] = [[]]
    used = first
    for place in range(len(table.columns)):
        needs = _width(table, place) + 3
        if used + needs > width and groups[-1]:
            groups.append([])
            used = first
        groups[-1].append(place)
        used += needs
    return [(table.title + (", continued" if part else ""), places) for part, places in enumerate(groups)]


def _width(table: Table, place: int) -> int:
    return max(8, *(len(_text(row[place])) for row in table.rows.values()))


def _text(cell: Cell | None) -> str:
    if cell is None:
        return ""
    return "failed" if math.isnan(cell.value) else cell.shown()


def markdown(shown: Sequence[Table]) -> str:
    """The tables, one below the other."""
    lines = []
    for table in shown:
        lines += [f"### {table.title}", "", "| row | " + " | ".join(c.heading for c in table.columns) + " |"]
        lines[-1] = lines[-1].replace("|W|", "‖W‖").replace("|w|", "‖w‖").replace("|phi|", "‖phi‖")
        lines.append("|---|" + "---:|" * len(table.columns))
        lines += ["| " + " | ".join((label, *map(_text, row))) + " |" for label, row in table.rows.items()]
        lines.append("")
    return "\n".join(lines)


def document(shown: Sequence[Table]) -> list[dict[str, Any]]:
    """The same for JSON: what is not there is None, and the value of what failed."""
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
        for table in shown
    ]


def _entry(cell: Cell | None) -> dict[str, float | None] | None:
    if cell is None:
        return None
    return {"value": cell.value if math.isfinite(cell.value) else None, "error": cell.error}
