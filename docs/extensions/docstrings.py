"""Docstrings as Sphinx reads them: what would be markup in reStructuredText is text in ours.

Ours are plain sentences with `code` in single backticks, and what is set in columns stands indented after an empty
line. A bar, an asterisk or a trailing underscore in a sentence is mathematics (E|phi|^2, s*, x_), so it is escaped
outside code; what stands in columns is shown as it is. A `name` links to what ends in it, where that is one thing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

CODE = re.compile(r"(`[^`]+`)")
MARKUP = re.compile(r"(?<!\\)([|*]|(?<=\w)_(?!\w))")
WAY_BACK = re.compile(r'<a class="viewcode-back".*?</a>')
PLURAL = re.compile(r"^(?=\w)")


def escaped(text: str) -> str:
    """Text with markup outside `code` escaped; code may run over the end of a line.

    Args:
        text: of one or more paragraphs, as written.
    """
    parts = CODE.split(text)
    for index in range(0, len(parts), 2):
        parts[index] = MARKUP.sub(r"\\\1", parts[index])
        if index:  # the letters of "`Grid`s" would keep the code from ending
            parts[index] = PLURAL.sub(r"\\ ", parts[index])
    return "".join(parts)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def pieces(lines: list[str]) -> Iterator[tuple[bool, list[str]]]:
    """The docstring in pieces: whether it is set in columns, and its lines.

    Columns begin with a line that is further in than the last one before an empty line, and end before the next line
    that is not.
    """
    rows: list[str] = []
    columns, level, last = False, 0, 0
    for number, line in enumerate(lines):
        if line.strip():
            begins = not columns and number > 0 and not lines[number - 1].strip() and _indent(line) >= last + 4
            ends = columns and _indent(line) <= level
            if begins or ends:
                yield columns, rows
                columns, rows = begins, []
                level = last
            last = _indent(line)
        rows.append(line)
    yield columns, rows


def readable(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText that shows what was meant."""
    blocks: list[str] = []
    for columns, part in pieces(lines):
        if columns:
            margin = " " * min(_indent(line) - 4 for line in part if line.strip())
            blocks += [f"{margin}::", "", *part, ""]
        else:
            blocks += escaped("\n".join(part)).split("\n")
    return blocks


def process(app: Sphinx, what: str, name: str, documented: Any, options: Any, lines: list[str]) -> None:
    """Change a docstring in place, before napoleon gives it its sections."""
    lines[:] = readable(lines)


def linked(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element) -> nodes.Node | None:
    """The link for a name that Sphinx has not found from where it stands: to the one object whose name ends in it."""
    if node.get("refdomain") != "py":
        return None
    names = [name for name in env.domains.python_domain.objects if f".{name}".endswith(f".{node['reftarget']}")]
    if len(names) != 1:
        return None
    target = env.domains.python_domain.objects[names[0]]
    page = app.builder.get_relative_uri(node["refdoc"], target.docname)
    return nodes.reference("", "", content, internal=True, refuri=f"{page}#{target.node_id}")


def dashes(app: Sphinx, tree: nodes.document) -> None:
    """Set the dash between a field's name and its text, which typographic quotes alone leave as two hyphens."""
    for text in list(tree.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \N{EN DASH} "))


def without_ways_back(app: Sphinx, name: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Take the links from sources to the reference out: viewcode knows a module by one name, and ours have two."""
    if name.startswith("_modules/"):
        context["body"] = WAY_BACK.sub("", context["body"])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", process, priority=100)
    app.connect("doctree-read", dashes)
    app.connect("html-page-context", without_ways_back)
    app.connect("missing-reference", linked)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
