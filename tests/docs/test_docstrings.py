"""Docstrings as reStructuredText: what they say is what a reader sees."""

import io
from pathlib import Path

import pytest
from docutils.core import publish_parts

from docs.extensions.docstrings import readable

SETTINGS = {"halt_level": 2, "report_level": 2, "warning_stream": io.StringIO(), "default_role": "literal"}


def shown(text: str) -> str:
    """The HTML of a docstring; docutils raises where it would warn."""
    return str(
        publish_parts("\n".join(readable(text.split("\n"))), writer="html5", settings_overrides=SETTINGS)["body"]
    )


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("The rise is s2 E|phi|^2, twice |x|.", "s2 E|phi|^2, twice |x|."),
        ("A minimum w* and a sum x_ of x_0, _private.", "A minimum w* and a sum x_ of x_0, _private."),
        ("See `f(a|b)` beside |c|.", "f(a|b)"),
        ("Yields `Grid`s and `x`.", "s and "),
        ("Over a line `loss(model,\nbatch)` with |b|.", "with |b|."),
    ],
)
def test_mathematics_is_text(text: str, html: str) -> None:
    assert html in shown(text)


COLUMNS = """It is:

    noise  s2 E|phi|^2
    dither  `q` * 2

The first is |exact|.

Args:
    x: a number.

    y  is set in columns
"""


def test_columns_stay_columns() -> None:
    html = shown(COLUMNS)
    assert "    noise  s2 E|phi|^2\n    dither  `q` * 2".replace("    ", "") in html.replace("    ", "")
    assert html.count("<pre") == 1, "what follows a section's head is not further in than the section"
    assert "The first is |exact|." in html


def test_paragraphs_and_lists_stay_what_they_are() -> None:
    lines = ["One.", "", "Two:", "", "- a", "- b", "", "Raises:", "    ValueError: no."]
    assert readable(lines) == lines


def test_every_docstring_of_ours_that_the_site_shows_is_read_without_a_complaint() -> None:
    """The site's build fails on a warning; this is that the words are ours, not that nothing was found."""
    source = Path(__file__).parent.parent.parent / "flatness" / "measuring" / "readout.py"
    text = source.read_text(encoding="utf-8").split('"""')[1]
    html = shown(text)
    assert html.count("<pre") == 1
    assert "lambda_max(E phi phi^T)" in html
