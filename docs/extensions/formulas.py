"""Formulas without network: LaTeX as MathML, which browsers set themselves, in a font that comes with the site.

Inline and displayed mathematics of MyST and reStructuredText alike. A displayed block may hold several formulas with
an empty line between them; each is set on a line of its own. Blocks can have labels and numbers, as Sphinx has them.

What cannot be set is a warning that names the place, so that `sphinx -W` fails: unknown commands, commands that lack
an argument, and & or \\\\ outside of a matrix.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from docutils import nodes
from markupsafe import Markup, escape
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

from paper_figs.report import prose, typesetting

STYLE = Path(__file__).parent.parent / "_static" / "formulas.css"
FILES = (STYLE, typesetting.FONT, typesetting.FONT.with_suffix(".LICENSE"))
"""What the site's pages load, and the font's licence; whole, since one file is loaded once for all pages."""

_CHILDREN = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2, "msubsup": 3, "munderover": 3}
"""How many children MathML asks for: with fewer of them browsers show an error in red, or nothing."""
_LOGGER = logging.getLogger(__name__)


def mathml(latex: str, block: bool = True) -> Markup:
    """One formula as MathML.

    Args:
        latex: without dollar signs.
        block: set on a line of its own.

    Raises:
        ValueError: it cannot be set.
    """
    markup = prose.formula(latex.strip(), block)
    for element in ElementTree.fromstring(markup).iter():
        tag = element.tag.partition("}")[2]
        if len(element) != _CHILDREN.get(tag, len(element)):
            raise ValueError(f"latex is {latex!r}; a command in it lacks an argument")
        if tag == "mi" and element.text == "&":
            raise ValueError(f"latex is {latex!r}; & is allowed in matrices and cases only")
        if tag == "mspace" and element.get("linebreak"):
            raise ValueError(f"latex is {latex!r}; between formulas an empty line is allowed, not \\\\")
    return markup


def _set(latex: str, block: bool, node: nodes.Node) -> Markup:
    """As MathML; as it is written where it cannot be set, with a warning."""
    try:
        return mathml(latex, block)
    except ValueError as error:
        _LOGGER.warning("this formula cannot be set: %s", error, location=node, type="formulas")
        return Markup("<code>{}</code>").format(escape(latex.strip()))


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    translator.body.append(translator.starttag(node, "span", "", CLASS="math notranslate nohighlight"))
    translator.body.append(f"{_set(node.astext(), False, node)}</span>")
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write a displayed block, each of its formulas on a line of its own."""
    parts = [part for part in re.split(r"\n\s*\n", node.astext()) if part.strip()] or [""]
    kind = "math several" if len(parts) > 1 else "math"
    translator.body.append(translator.starttag(node, "div", "", CLASS=f"{kind} notranslate nohighlight"))
    if node.get("number"):
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.extend(_set(part, True, node) for part in parts)
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def add_files(app: Sphinx, config: Config) -> None:
    """Have the font and its rule copied beside the site's other static files."""
    config.html_static_path += [str(path) for path in FILES]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, which prefers a renderer of ours to its own of the network."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("config-inited", add_files)
    app.add_css_file(STYLE.name)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
