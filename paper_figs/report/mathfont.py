"""STIX Two Math for the page's formulas, cut down to the characters that they use; browsers seldom have such a font."""

from __future__ import annotations

import base64
import io
import string
from collections.abc import Iterable
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont
from markupsafe import Markup

FONT = Path(__file__).parent / "vendor" / "stix-two-math.woff"
ITALICS = (*range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C), 0x210E)
"""Italic Latin and Greek letters: what MathML shows for a variable of one letter, which is upright in its source."""


def _options() -> subset.Options:
    options = subset.Options()
    options.flavor = "woff"
    options.recalc_timestamp = False  # the same formulas give the same bytes
    options.notdef_outline = True
    options.layout_features = ["ssty"]  # the forms of small scripts
    return options


def style(formulas: Iterable[str]) -> Markup:
    """The rule that brings the font, for a <style> element.

    Args:
        formulas: MathML; every character in it can be shown.
    """
    font = TTFont(FONT, recalcTimestamp=False)
    cutter = subset.Subsetter(_options())
    characters = {ord(letter) for formula in formulas for letter in formula}
    cutter.populate(unicodes=characters | set(ITALICS) | {ord(letter) for letter in string.printable.strip()})
    cutter.subset(font)
    stream = io.BytesIO()
    font.flavor = "woff"
    font.save(stream)
    encoded = base64.b64encode(stream.getvalue()).decode()
    address = Markup("data:font/woff;base64,") + Markup(encoded)
    return Markup(
        '@font-face { font-family: "Formulas"; src: url("%s") format("woff"); } math { font-family: "Formulas", math; }'
    ) % (address,)
