"""Long formulas on several lines: broken only between clauses, after commas, before arrows and before relations."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from functools import cache
from xml.etree import ElementTree

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
