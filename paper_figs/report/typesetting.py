"""How formulas are set: long ones on several lines, all in STIX Two Math, since browsers seldom have such a font.

Lines are broken only between clauses, after commas, before arrows and before relations. The font is cut down to the
characters that a page's formulas use.
"""

from __future__ import annotations

import base64
import io
import itertools
import re
import string
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

from fontTools import subset
from fontTools.ttLib import TTFont
from markupsafe import Markup

from paper_figs.report import prose

LONGEST = 56
"""In letters, of a line; what the text's column holds on a wide screen, with a margin."""
BREAKS = (
    ((r";\quad ",), ()),
    ((r",\quad ", r":\; "), (r"\;\Rightarrow\; ", r"\;\Longleftrightarrow\; ")),
    ((), (" = ", r" \leq ", r" \geq ", " > ", " < ")),
    ((), (" + ",)),
)
"""From the strongest: signs after which a line may end, and signs with which one may begin."""

_PAIRED = re.compile(r"\\left(?![a-z])|\\right(?![a-z])|[{}]")
_OVER_EACH_OTHER = ("mfrac", "munder", "mover", "munderover", "mtable")
_SCRIPTS = ("msub", "msup", "msubsup")


def _width(element: ElementTree.Element) -> float:
    tag = element.tag.partition("}")[2]
    parts = [_width(child) for child in element]
    if tag in _OVER_EACH_OTHER:
        return max(parts, default=0.0)
    if tag in _SCRIPTS:
        return parts[0] + 0.7 * max(parts[1:], default=0.0)
    return len(element.text or "") + sum(parts)


@cache
def width(latex: str) -> float:
    """About how many letters wide a formula is set."""
    return _width(ElementTree.fromstring(prose.formula(latex)))


def _inside(latex: str) -> list[bool]:
    """For every character, whether it stands within braces or within a pair of brackets."""
    depths = [0] * (len(latex) + 1)
    for mark in _PAIRED.finditer(latex):
        depths[mark.start()] += 1 if mark.group() in ("{", r"\left") else -1
    return [depth > 0 for depth in itertools.accumulate(depths)]


def _split(latex: str, after: Sequence[str], before: Sequence[str]) -> list[str]:
    inside = _inside(latex)
    places = {0, len(latex)}
    for place in range(1, len(latex)):
        if not inside[place]:
            places |= {place + len(sign) for sign in after if latex.startswith(sign, place)}
            places |= {place for sign in before if latex.startswith(sign, place)}
    cuts = sorted(places)
    return [latex[start:end] for start, end in itertools.pairwise(cuts) if latex[start:end].strip()]


def lines(latex: str, longest: float = LONGEST, strength: int = 0) -> list[str]:
    """A formula's lines; put together they are the formula again.

    Clauses always have a line each; of the other breaks only as many are made as are needed, the strongest first, so a
    line may still be longer where it has none.

    Args:
        latex: as `theory.proof.notation.latex` writes it.
        longest: see LONGEST.
        strength: which of BREAKS may be made; the weaker ones too.
    """
    if strength == len(BREAKS) or (strength and width(latex) <= longest):
        return [latex]
    broken: list[str] = []
    for part in _split(latex, *BREAKS[strength]):
        if strength and broken and width(broken[-1] + part) <= longest:
            broken[-1] += part
        else:
            broken += lines(part, longest, strength + 1)
    return broken


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
