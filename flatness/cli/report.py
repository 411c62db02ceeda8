"""Tables of numbers with their errors, for the terminal, and of what networks differ by.

Each network is compared with the first, number by number, paired sample by sample and draw by draw.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from flatness.cli.runner import Common, Measured
from flatness.cli.statistics import Uncertain, paired_difference
from flatness.cli.tasks import Quantity


@dataclass(frozen=True)
class Difference:
    """One number of one network less that of the first.

    Attributes:
        name, words: of the number.
        label, against: of the networks.
        number: the difference with its errors.
        paired: whether it was taken sample by sample; else the two numbers' errors were added as if independent.
    """

    name: str
    words: str
    label: str
    against: str
    number: Uncertain
    paired: bool

    @property
    def verdict(self) -> str:
        """Lower or higher where the 95% interval leaves 0 out; undecided otherwise."""
        value, half = self.number.value, self.number.half_width
        if not half < float("inf") or not abs(value) > half:
            return "undecided"
        return "lower" if value < 0 else "higher"

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        about = {"number": self.name, "source": self.label, "against": self.against, "verdict": self.verdict}
        return about | {"paired": self.paired, **dataclasses.asdict(self.number)}


def differences(networks: Sequence[Measured], samples: int) -> list[Difference]:
    """All that the first network and another both have, in the first one's order.

    Args:
        networks: measured on the same data.
        samples: how many, for numbers of which single values are not known.
    """
    first, differing = networks[0].quantities, []
    for name, ours in first.items():
        for other in networks[1:]:
            theirs = other.quantities.get(name)
            if theirs is None:
                continue
            paired = paired_difference(theirs.parts, ours.parts) if ours.parts else None
            difference = paired or theirs.number.minus(ours.number, samples)
            differing.append(
                Difference(name, ours.words, other.label, networks[0].label, difference, paired is not None)
            )
    return differing


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


def with_error(quantity: Uncertain) -> str:
    """A number and the half-width of its interval, to the same place: "0.0123 ± 0.0004"."""
    if not math.isfinite(quantity.half_width):
        return number(quantity.value)
    if not quantity.half_width:
        return f"{number(quantity.value)} ± 0"
    places = 1 - math.floor(math.log10(quantity.half_width))
    if 0 <= places <= 6:
        return f"{quantity.value:.{places}f} ± {quantity.half_width:.{places}f}"
    return f"{number(quantity.value)} ± {number(quantity.half_width, 2)}"


def measured_table(network: Measured) -> Table:
    """All numbers of one network."""
    table = Table(title=f"{network.label}: {network.about['weights']:,} weights", title_justify="left")
    table.add_column("measure")
    for heading in ("value", "± 95%", "error over draws", "over images"):
        table.add_column(heading, justify="right", no_wrap=True)
    for quantity in shown(network).values():
        one = quantity.number
        errors = (one.half_width, one.draw_error, one.data_error)
        table.add_row(quantity.words, number(one.value), *(number(error, 2) for error in errors))
    return table


def compared_table(networks: Sequence[Measured], differing: Sequence[Difference]) -> Table:
    """Numbers side by side, and differences against the first network."""
    table = Table(title=f"differences are against {networks[0].label}", title_justify="left")
    table.add_column("measure")
    for one in networks:
        table.add_column(one.label, justify="right", no_wrap=True)
    for one in networks[1:]:
        table.add_column(f"{one.label} - {networks[0].label}", justify="right", no_wrap=True)
    for name, quantity in shown(networks[0]).items():
        numbers = [one.quantities.get(name) for one in networks]
        cells = ["-" if one is None else number(one.number.value) for one in numbers]
        by_label = {one.label: one for one in differing if one.name == name}
        for one in networks[1:]:
            difference = by_label.get(one.label)
            cells.append("-" if difference is None else f"{with_error(difference.number)} {difference.verdict}")
        table.add_row(quantity.words, *cells)
    return table


def notes(networks: Sequence[Measured], common: Common, differing: Sequence[Difference] = ()) -> list[str]:
    """What a reader of the tables has to know, a line each."""
    options = common.options
    lines = [
        f"{len(common.x_0)} images, {options.draws} draws of weight noise, seed {options.seed}, {options.precision} on "
        f"{common.device}. ± is the half-width of a 95% interval (Student), over draws and images in quadrature."
    ]
    if differing:
        compared = len({one.name for one in differing} & set(shown(networks[0])))
        lines.append(
            "Differences are taken image by image with the same noise, and are of these weights, not of the methods "
            f"that trained them. Without any true difference 5% of {compared} would still be called lower or higher."
        )
        readout = networks[0].outcomes.get("readout")
        of_readout = {quantity.name for quantity in readout.quantities} if readout else set()
        if not all(one.paired for one in differing if one.name not in of_readout):
            lines.append("Some numbers could not be paired; their errors are added as if independent.")
    lines += [f"{one.label}: {outcome.note}" for one in networks for outcome in one.outcomes.values() if outcome.note]
    lines += [f"{one.label}: {name} failed: {why}" for one in networks for name, why in one.failed.items()]
    lines += [f"{one.label}: {name} is left out: {why}" for one in networks for name, why in one.left_out.items()]
    return lines


def show(console: Console, table: Table, lines: Sequence[str]) -> None:
    """Print a table and the lines below it."""
    console.print(table)
    for line in lines:
        console.print(line, markup=False, highlight=False)
