"""The columns of the tables: the paper's printed numbers and the toy study's; `studies` has trained networks'.

Everything is plain data, as it is written beside a drawing: a column is a dictionary with the arguments of
`tabular.Column`, and `Columns` collects them with what has to be said of their sources.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from findings import toy_study, trained
from findings.names import NINE, RowName
from paper_figs.columns import sources, tabular

Numbers = Mapping[str, float]
Cells = dict[str, dict[str, Any]]
STEPS = 20
"""T' where one number of sampling steps is shown."""


class Columns:
    """The data of one table while it is put together.

    Attributes:
        data: "title", what the table says in a sentence; "rows", "columns", "groups", "notes" (see
            `tabular.from_data`); "faces", by source what its panels say; "absent", for each data set that has no runs
            what is said instead; "distances", what those of a
            study are called.
    """

    def __init__(self) -> None:
        """Without any column."""
        self.data: dict[str, Any] = {
            "title": "",
            "rows": [],
            "columns": {},
            "groups": {},
            "notes": [],
            "faces": {},
            "absent": {},
            "distances": {},
        }
        self._printed: set[str] = set()

    def group(
        self, name: str, words: str, key: str, face: str, source: str, short: str = "", printed: bool = False
    ) -> None:
        """Say what a group is: in full, under a key of its own what is said beside its panels and above them, and
        whether its numbers are those that the paper prints."""
        self.data["groups"][name] = words
        if printed:
            self._printed.add(name)
        self.data["faces"][key] = {"face": face, "source": source, "short": short or name}

    def face_also(self, key: str, words: str) -> None:
        """Say something more on the face of a group's panels."""
        self.data["faces"][key]["face"] += f"; {words}"

    def add(
        self,
        key: str,
        group: str,
        heading: str,
        cells: Cells,
        *,
        decimals: int | None = None,
        signed: bool = False,
        measure: str = "",
        steps: int | None = None,
        bits: int | None = None,
    ) -> None:
        """A column under a key of its own; rows that it alone has are added in order.

        Args:
            key: of the column.
            group: as `group` was told.
            heading: in words.
            cells: by row.
            decimals, signed: how numbers are written.
            measure, steps, bits: what the figure asks the column about; left out where it asks nothing.
        """
        column = {"group": group, "heading": heading, "cells": cells, "decimals": decimals, "signed": signed}
        about = {"measure": measure or None, "steps": steps, "bits": bits}
        column |= {name: value for name, value in about.items() if value is not None}
        column["printed"] = group in self._printed
        self.data["columns"][key] = column
        for row, cell in cells.items():
            if cell.get("missing"):
                self.note(tabular.why(group, heading, row, cell["missing"]))
        self.data["rows"] = ordered({*self.data["rows"], *cells})

    def keep(self, methods: Sequence[str]) -> None:
        """Leave out the rows of all other methods."""
        self.data["rows"] = [row for row in self.data["rows"] if parted(row)[0] in methods]
        for column in self.data["columns"].values():
            column["cells"] = {row: cell for row, cell in column["cells"].items() if row in self.data["rows"]}

    def note(self, sentence: str) -> None:
        """Something to say under the table, once."""
        if sentence not in self.data["notes"]:
            self.data["notes"].append(sentence)

    def absent(self, dataset: str) -> None:
        """Say how the runs of a data set that has none are made."""
        empty = sources.empty(dataset)["empty"]
        self.data["absent"][dataset] = empty
        commands = ", then ".join(f"`{' '.join(command.split())}`" for command in empty["commands"])
        self.note(f"ours, {empty['what']}; {commands}")


def by_whom(data: Mapping[str, Any], *, printed: bool) -> list[str]:
    """Keys of the columns that the paper prints, or of the others."""
    return [key for key, column in data["columns"].items() if column["printed"] is printed]


def lower(data: Mapping[str, Any], rows: Sequence[str], against: Sequence[str], keys: Sequence[str]) -> tuple[int, int]:
    """In how many of these columns all rows of the first kind have lower numbers than all of the second; of how many.

    Args:
        data: of `Columns`.
        rows, against: labels.
        keys: of columns; those without numbers of both are not counted.
    """
    wins, total = 0, 0
    for key in keys:
        cells = data["columns"].get(key, {"cells": {}})["cells"]
        ours, others = (
            [cells[row]["value"] for row in kind if cells.get(row, {}).get("value") is not None]
            for kind in (rows, against)
        )
        if ours and others:
            wins, total = wins + (max(ours) < min(others)), total + 1
    return wins, total


def ordered(rows: set[str]) -> list[str]:
    """Row labels from the top down: the nine methods, then SAM's other radii, largest first."""

    def place(row: str) -> tuple[float, int]:
        name = RowName.of(row)
        return -math.inf if name.rho is None else -name.rho, NINE.index(name.of_method)

    return sorted(rows, key=place)


def labelled(method: str, rho: float | None) -> str:
    """A row's label: "sam+ema", or "sam rho=0.01+ema" where the radius is not the one that the method stands for."""
    return str(dataclasses.replace(RowName.of(method), rho=rho))


def parted(row: str) -> tuple[str, float | None]:
    """The method and the radius of a label."""
    name = RowName.of(row)
    return name.of_method, name.rho


def printed(numbers: Numbers) -> Cells:
    """The paper's numbers: no intervals."""
    return {method: {"value": number} for method, number in numbers.items()}


def changes(after: Numbers, before: Numbers) -> dict[str, float]:
    """Differences of printed numbers, exact in their decimals."""
    return {
        method: float(Decimal(str(number)) - Decimal(str(before[method])))
        for method, number in after.items()
        if method in before
    }


def misprints(where: str, printed: Numbers, after: Numbers, before: Numbers) -> list[str]:
    """A sentence for each printed change that is not the difference of the numbers beside it."""
    return [
        f"{where}: {printed[method]:+.2f} is printed for {method.upper()}, but {after[method]:.2f} - "
        f"{before[method]:.2f} = {true:+.2f}"
        for method, true in changes(after, before).items()
        if method in printed and printed[method] != true
    ]


def of_toy(results: Mapping[str, Any], measure: str) -> Cells:
    """The toy study's means over seeds with their intervals, learnt features."""
    numbers = {method: toy_study.number(dict(results), f"learnt/{method}", measure) for method in NINE}
    return {method: {"value": one["mean"], "low": one["low"], "high": one["high"]} for method, one in numbers.items()}


def describe_paper(columns: Columns, key: str, dataset: str, source: str, words: str = "") -> str:
    """The group of the paper's numbers on a data set; its name.

    Args:
        columns: where it is added.
        key: of its panels.
        dataset: as in the paper's numbers.
        source: the table, or tables.
        words: further ones.
    """
    name = f"paper, {trained.TITLES[dataset]}"
    face = f"paper, {trained.TITLES[dataset]}; seeds not given"
    columns.group(name, f"{source}, as printed; one number each, no spread{words}", key, face, source, printed=True)
    return name


def describe_toy(columns: Columns, results: Mapping[str, Any]) -> None:
    """The toy's group."""
    face = toy_study.face(dict(results))
    trial = " (trial)" if face["trial"] else ""
    columns.group(
        "toy",
        f"random-feature diffusion models on a ring of eight Gaussians in the plane, {face['seeds']} seeds{trial}, "
        f"`{toy_study.COMMAND}`, results/toy.json; ± half of the {face['level']:.0%} interval over seeds",
        "toy",
        toy_study.sentence(face),
        "results/toy.json",
        toy_study.short(face),
    )


def powered(column: Mapping[str, Any]) -> int:
    """The power of ten that a column's panel takes out, as the written table does."""
    cells = {row: tabular.Cell(**cell) for row, cell in column["cells"].items()}
    return tabular.Column(column["group"], column["heading"], cells, column["decimals"], column["signed"]).power
