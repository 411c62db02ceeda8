"""The figures there are: every module of a folder that defines `compute` and `draw`, found without importing any."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from paper_figs.fingerprint import declared_inputs, fingerprint

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

DRAWING = ("paper_figs.build",)
"""Modules that decide how every figure is written."""


@dataclass(frozen=True)
class Entry:
    """One figure, unopened.

    Args:
        name: its module's, and its files', name.
        module: the module's dotted name.
        title: the first line of the module's docstring.
        source: the module's file.
        root: the checkout that it belongs to.
    """

    name: str
    module: str
    title: str
    source: Path
    root: Path

    def fingerprint(self) -> str:
        """The hash of all that it is drawn from."""
        return fingerprint((self.module, *DRAWING), declared_inputs(self.source), self.root)


def figures(root: Path = ROOT, package: str = "paper_figs") -> dict[str, Entry]:
    """All figures by name, in alphabetical order: the modules of the package's folder `figures`."""
    figures = {}
    for source in sorted((root / package / "figures").glob("*.py")):
        tree = ast.parse(source.read_bytes(), str(source))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if {"compute", "draw"} <= functions:
            title = (ast.get_docstring(tree) or "").partition("\n")[0]
            figures[source.stem] = Entry(source.stem, f"{package}.figures.{source.stem}", title, source, root)
    return figures


def chosen(names: list[str], available: dict[str, Entry]) -> list[Entry]:
    """The entries of these names, each once.

    Raises:
        ValueError: a name that is not there.
    """
    for name in names:
        if name not in available:
            raise ValueError(f"there is no figure {name!r}; allowed: {', '.join(available)}")
    return [available[name] for name in dict.fromkeys(names)]
