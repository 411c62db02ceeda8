"""Numbers with their sources, and texts that are marked as such: all that a template may print.

A template prints by way of `Printer`, Jinja's `finalize`. It takes `Number`s, which carry a source, and texts that went
through `prose`; a bare int or float, or a plain text that has a digit in it, is refused before the page is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup, escape

MINUS = "\N{MINUS SIGN}"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Source:
    """Where a number comes from.

    Args:
        file: the file that holds it, relative to the checkout.
        key: where in the file.
        seeds: how many and which, or that there are none.
        commit: of the code that computed it.
        command: what computes it again.

    Raises:
        ValueError: one of them is empty.
    """

    file: str
    key: str
    seeds: str
    commit: str
    command: str

    def __post_init__(self) -> None:
        """Refuse a source that leaves something out."""
        for name, text in self.lines():
            if not text.strip():
                raise ValueError(f"{name} of the source is empty; allowed: where the number comes from")

    def at(self, key: str) -> Source:
        """The same source at another key."""
        return replace(self, key=key)

    def lines(self) -> Iterator[tuple[str, str]]:
        """Name and content of each part."""
        for name in ("file", "key", "seeds", "commit", "command"):
            yield name, getattr(self, name)


@dataclass(frozen=True)
class Number:
    """A number, or a number with its interval, as it is shown.

    Args:
        text: how it is shown.
        value: what it is sorted by.
        source: where it comes from.
    """

    text: str
    value: float
    source: Source


def shown(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, as people write it: "−0.0262", "1.03 × 10⁻¹³".

    Raises:
        ValueError: it is not finite.
    """
    if not math.isfinite(value):
        raise ValueError(f"value is {value}; allowed: finite numbers")
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    power = f" × 10{str(int(exponent)).translate(_RAISED)}" if exponent else ""
    return mantissa.replace("-", MINUS) + power


def counted(value: int, source: Source) -> Number:
    """A count."""
    return Number(f"{value:,}", value, source)


def plain(value: float, source: Source) -> Number:
    """A number without an interval; whole numbers are shown whole."""
    return Number(shown(value, 3 if value != int(value) else max(3, len(str(abs(int(value)))))), value, source)


def with_interval(mean: float, low: float, high: float, source: Source, percent: bool = False) -> Number:
    """A mean and its interval, as a number or in percent."""
    factor, unit = (100, " %") if percent else (1, "")
    mean_, low_, high_ = (shown(factor * number) for number in (mean, low, high))
    return Number(f"{mean_}{unit} [{low_}, {high_}]", mean, source)


def region(ends: list[float | None], source: Source) -> Number:
    """The region that a claim names, from its two ends, of which one may be open."""
    low, high = ends
    if low is None and high is None:
        raise ValueError(f"region is {ends}; allowed: at least one end")
    if low is None:
        return Number(f"at most {shown(high or 0.0)}", high or 0.0, source)
    if high is None:
        return Number(f"at least {shown(low)}", low, source)
    return Number(f"{shown(low, 7)} to {shown(high, 7)}", low, source)


class Printer:
    """Jinja's `finalize` for one page: prints numbers with their sources, refuses what could hide one.

    Numbers of one file, seeds, commit and command share a note; what differs, the key, is the number's own title.

    Args:
        prefix: of the notes' names, so that several printers can write on one page.
    """

    def __init__(self, prefix: str = "source") -> None:
        """Start with no note."""
        self._prefix = prefix
        self._notes: dict[Source, str] = {}

    def __call__(self, value: Any) -> Any:
        """What is put on the page for a value.

        Raises:
            TypeError: it is a number without a source, or a text with digits that is not marked as one.
        """
        if isinstance(value, Number):
            return self.html(value)
        if isinstance(value, Markup) or (isinstance(value, str) and not any(letter.isdigit() for letter in value)):
            return value
        raise TypeError(f"{value!r} is printed without a source; allowed: a Number, text by way of prose or quoted")

    def html(self, number: Number) -> Markup:
        """The number as a button that opens the note of its source."""
        shared = number.source.at(IN_TITLE)
        name = self._notes.setdefault(shared, f"{self._prefix}-{len(self._notes) + 1}")
        return Markup('<span class="number"><button popovertarget="{}" title="{}">{}</button></span>').format(
            name, number.source.key, number.text
        )

    def notes(self) -> Markup:
        """The notes of all that was printed so far, once a page."""
        return Markup("").join(
            Markup('<div popover id="{}" class="source" role="note">{}</div>').format(
                name,
                Markup("").join(
                    Markup('<span><b>{}</b> <code class="{}">{}</code></span>').format(part, part, text)
                    for part, text in source.lines()
                ),
            )
            for source, name in self._notes.items()
        )


IN_TITLE = "as the number's own title says"
"""The key in a note that several numbers share; the page's script puts the number's own there."""


def sortable(number: Number) -> Markup:
    """What a number is sorted by, for an attribute."""
    return Markup(repr(float(number.value)))


def anchor(text: str) -> Markup:
    """A text as the name of a place on the page: letters, digits, dots, underscores and hyphens."""
    return Markup("").join(escape(letter if letter.isalnum() or letter in "._-" else "-") for letter in text)
