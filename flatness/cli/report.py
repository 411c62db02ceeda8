"""Tables of numbers with their errors, for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from flatness.cli.comparing import Difference
from flatness.cli.runner import Common, Measured
from flatness.cli.statistics import Uncertain
from flatness.cli.tasks import Quantity


def shown(one: Measured) -> dict[str, Quantity]:
    """The numbers that stand in tables, by name; all are in the JSON.

    Noise relative to the layer is left out beside noise relative to the filter, which says the same more finely.
    """
    by_filter = any(quantity.scale == "filter" for quantity in one.quantities.values())
    return {
        name: quantity
        for name, quantity in one.quantities.items()
        if not quantity.detail and not (quantity.scale == "layer" and by_filter)
    }


def number(value: float, digits: int = 4) -> str:
    """To so many significant digits; a dash for one that is not there."""
    return "-" if not math.isfinite(value) else f"{value:.{digits}g}"


def with_error(found: Uncertain) -> str:
    """A number and the half-width of its interval, to the same place: "0.0123 ± 0.0004"."""
    if not math.isfinite(found.half_width):
        return number(found.value)
    if not found.half_width:
        return f"{number(found.value)} ± 0"
    places = 1 - math.floor(math.log10(found.half_width))
    if 0 <= places <= 6:
        return f"{found.value:.{places}f} ± {found.half_width:.{places}f}"
    return f"{number(found.value)} ± {number(found.half_width, 2)}"


def measured_table(found: Measured) -> Table:
    """All numbers of one network."""
    table = Table(title=f"{found.label}: {found.about['weights']:,} weights", title_justify="left")
    table.add_column("measure")
    for heading in ("value", "± 95%", "error over draws", "over images"):
        table.add_column(heading, justify="right", no_wrap=True)
    for quantity in shown(found).values():
        one = quantity.found
        errors = (one.half_width, one.draw_error, one.data_error)
        table.add_row(quantity.words, number(one.value), *(number(error, 2) for error in errors))
    return table


def compared_table(found: Sequence[Measured], told: Sequence[Difference]) -> Table:
    """Numbers side by side, and differences against the first network."""
    table = Table(title=f"differences are against {found[0].label}", title_justify="left")
    table.add_column("measure")
    for one in found:
        table.add_column(one.label, justify="right", no_wrap=True)
    for one in found[1:]:
        table.add_column(f"{one.label} - {found[0].label}", justify="right", no_wrap=True)
    for name, quantity in shown(found[0]).items():
        numbers = [one.quantities.get(name) for one in found]
        cells = ["-" if one is None else number(one.found.value) for one in numbers]
        by_label = {one.label: one for one in told if one.name == name}
        for one in found[1:]:
            difference = by_label.get(one.label)
            cells.append("-" if difference is None else f"{with_error(difference.found)} {difference.verdict}")
        table.add_row(quantity.words, *cells)
    return table


def notes(found: Sequence[Measured], common: Common, told: Sequence[Difference] = ()) -> list[str]:
    """What a reader of the tables has to know, a line each."""
    options = common.options
    lines = [
        f"{len(common.x_0)} images, {options.draws} draws of weight noise, seed {options.seed}, {options.precision} on "
        f"{common.device}. ± is the half-width of a 95% interval (Student), over draws and images in quadrature."
    ]
    if told:
        compared = len({one.name for one in told} & set(shown(found[0])))
        lines.append(
            "Differences are taken image by image with the same noise, and are of these weights, not of the methods "
            f"that trained them. Without any true difference 5% of {compared} would still be called lower or higher."
        )
        readout = found[0].outcomes.get("readout")
        of_readout = {quantity.name for quantity in readout.quantities} if readout else set()
        if not all(one.paired for one in told if one.name not in of_readout):
            lines.append("Some numbers could not be paired; their errors are added as if independent.")
    lines += [f"{one.label}: {outcome.note}" for one in found for outcome in one.outcomes.values() if outcome.note]
    lines += [f"{one.label}: {name} failed: {why}" for one in found for name, why in one.failed.items()]
    lines += [f"{one.label}: {name} is left out: {why}" for one in found for name, why in one.left_out.items()]
    return lines


def show(console: Console, table: Table, lines: Sequence[str]) -> None:
    """Print a table and the lines below it."""
    console.print(table)
    for line in lines:
        console.print(line, markup=False, highlight=False)
