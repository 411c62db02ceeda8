"""Texts of the repository as HTML: `code`, $formulas$ and paragraphs; and LaTeX as MathML."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import cache
from xml.etree import ElementTree

import latex2mathml.converter
from markupsafe import Markup, escape

_MARKED = re.compile(r"`([^`]+)`|\$([^$]+)\$")
_RICH = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)\s]+)\)")
_TARGET = re.compile(r"https://[\w./-]+|#[\w.-]+|(?:[\w-]+/)*[\w-]+\.(?:html|md)(?:#[\w.-]+)?")
"""What a link may lead to."""


_LIMITS = {"msub": "munder", "msubsup": "munderover"}
_SIGNS = ("-", "+", "\N{MINUS SIGN}")
_CLOSING = (")", "]", "}", "|", "\N{DOUBLE VERTICAL LINE}", "!")
_MISTAKEN = {
    ";": ";",
    "~": "\N{TILDE OPERATOR}",
    "\N{LONG LEFT RIGHT DOUBLE ARROW}": "\N{LONG LEFT RIGHT DOUBLE ARROW}",
}
"""Signs that are taken for letters."""
_TEXT = {"mi", "mo", "mn", "mtext", "mspace"}
_SCRIPTS = {"msub", "msup", "msubsup", "munder", "mover", "munderover", "mfrac", "msqrt", "mroot"}
_GROUPS = {"math", "mrow", "mtable", "mtr", "mtd", "mstyle", "mphantom"}
_SHOWN = _TEXT | _SCRIPTS | _GROUPS
_LENGTH = r"-?([0-9](\.[0-9]{0,4})?|\.[0-9]{1,4})em"
_ATTRIBUTES = {
    name: re.compile(pattern)
    for names, pattern in {
        "xmlns": r"http://www\.w3\.org/1998/Math/MathML",
        "display": "block|inline",
        "accent accentunder displaystyle fence largeop movablelimits separator stretchy symmetric": "true|false",
        "form": "prefix|infix|postfix",
        "mathvariant": "[a-z-]+",
        "width lspace rspace minsize maxsize columnspacing rowspacing": _LENGTH,
        "linethickness": r"0|0pt|0em",
        "linebreak": "newline",
        "scriptlevel": r"[+-]?\d",
        "columnalign": "(left|center|right| )+",
    }.items()
    for name in names.split()
}
"""What a formula may consist of, since texts of result files hold formulas too: no style, class, link or colour, and
nothing wider than the page."""
_LONGEST = 2000
"""Characters of a formula."""
_WITH_LIMITS = ("max", "min", "sup", "inf", "\N{N-ARY SUMMATION}")


def _put_limits_under(element: ElementTree.Element) -> None:
    """Set what a maximum or sum runs over below it, as TeX does on a line of its own; MathML moves it back in text."""
    if element.tag in _LIMITS and element[0].text in _WITH_LIMITS:
        element.tag = _LIMITS[element.tag]
        element[0].set("movablelimits", "true")


def _mend_kind(element: ElementTree.Element) -> None:
    """Space relations and semicolons as signs, and a function's name as a name: latex2mathml has some mixed up."""
    text = element.text or ""
    if element.tag == "mi" and text in _MISTAKEN:
        element.tag, element.text = "mo", _MISTAKEN[text]
    elif element.tag == "mo" and text.isalpha() and text not in _WITH_LIMITS:
        element.tag = "mi"


def _join_signs(row: ElementTree.Element) -> None:
    """Set a sign that begins a term close to it: latex2mathml leaves it to be spaced as one between two terms."""
    before: ElementTree.Element | None = None
    for child in row:
        begins = before is None or (before.tag == "mo" and before.text not in _CLOSING)
        if child.tag == "mo" and child.text in _SIGNS and begins:
            child.set("form", "prefix")
        before = child


def _check_allowed(latex: str, tree: ElementTree.Element) -> None:
    """Refuse what is not in the lists above.

    Raises:
        ValueError: an element or an attribute is not.
    """
    for element in tree.iter():
        if element.tag not in _SHOWN:
            raise ValueError(f"latex is {latex!r}, which gives <{element.tag}>; allowed: formulas alone")
        for name, value in element.attrib.items():
            allowed = _ATTRIBUTES.get(name)
            if allowed is None or not allowed.fullmatch(value):
                raise ValueError(f"latex is {latex!r}, which sets {name} to {value!r}; allowed: formulas alone")


@cache
def formula(latex: str, block: bool = True) -> Markup:
    """LaTeX as MathML.

    Args:
        latex: without dollar signs.
        block: set on a line of its own.

    Raises:
        ValueError: something in it is not understood, or is more than a formula: a style, a class, a link.
    """
    if len(latex) > _LONGEST:
        raise ValueError(f"latex has {len(latex)} characters; allowed: at most {_LONGEST}")
    try:
        tree = latex2mathml.converter.convert_to_element(latex, display="block" if block else "inline")
    except Exception as error:  # it raises errors of many kinds, IndexError among them
        raise ValueError(f"latex is {latex!r}, which cannot be set ({type(error).__name__}: {error})") from error
    for element in tree.iter():
        element.text = html.unescape(element.text) if element.text else None  # it writes characters as references
        _put_limits_under(element)
        _mend_kind(element)
    for element in tree.iter():
        _join_signs(element)
    _check_allowed(latex, tree)
    left = "".join(tree.itertext())
    if "\\" in left or "$" in left:
        raise ValueError(f"latex is {latex!r}; a command in it is not known, see {left!r}")
    return Markup(ElementTree.tostring(tree, encoding="unicode"))


def prose(text: str, plain: Callable[[str], Markup] = escape) -> Markup:
    """A line of text, escaped, with `code` and $formulas$ set; `plain` sets what stands between these."""
    parts, done = [], 0
    for mark in _MARKED.finditer(text):
        parts.append(plain(text[done : mark.start()]))
        code, latex = mark.groups()
        parts.append(formula(latex, block=False) if code is None else Markup("<code>{}</code>").format(code))
        done = mark.end()
    parts.append(plain(text[done:]))
    return Markup("").join(parts)


def rich(text: str, address: Callable[[str], str | None]) -> Markup:
    """A line of text, escaped, with `code`, **bold** and [links](target) set.

    Args:
        text: no formulas.
        address: the page's own address of a target, None where it has none; the words then stand without a link.
    """
    parts, done = [], 0
    for mark in _RICH.finditer(text):
        parts.append(escape(text[done : mark.start()]))
        code, bold, words, target = mark.groups()
        if code is not None:
            parts.append(Markup("<code>{}</code>").format(code))
        elif bold is not None:
            parts.append(Markup("<strong>{}</strong>").format(bold))
        else:
            href = address(target) if _TARGET.fullmatch(target) else None
            allowed = href is not None and _TARGET.fullmatch(href.removeprefix("../").removeprefix("../"))
            parts.append(Markup('<a href="{}">{}</a>').format(href, words) if allowed else escape(words))
        done = mark.end()
    parts.append(escape(text[done:]))
    return Markup("").join(parts)


def quoted(text: str) -> Markup:
    """A text taken word by word from a result file or a source; what digits it has are part of the words."""
    return Markup('<span class="quoted">{}</span>').format(prose(text))


def paragraphs(text: str) -> list[Markup]:
    """A docstring's paragraphs."""
    return [prose(" ".join(part.split())) for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
