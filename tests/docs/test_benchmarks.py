"""The directive that shows what benchmarks measured, and the page of peers that uses it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace

from benchmarks.__main__ import ROOMS
from docs.extensions.benchmarks import FILE

ROOT = Path(__file__).parent.parent.parent
CONF = 'extensions = ["myst_parser", "docs.extensions.benchmarks"]\n'
NAMES = ("CIFAR-10", "T2")
"""What has digits in prose and is no number that was measured."""
ROWS = [
    {"measured": "SAM, d=2", "result": "1.02 times", "against": "*theirs* `as it stands`, 3 ± 1 %"},
    {"measured": "peak <memory>", "result": "2 MiB", "against": "pip install 'flatness[plot]'"},
]
WHERE = {
    "versions": {"python": "3.11.7", "torch": "2.6", "cuda": None},
    "commit": "0123456789abcdef0123456789abcdef01234567+changes",
    "device": "cpu, x86_64, 2 threads",
    "cores": 8,
}


class Site:
    """A page that shows one room of some results.

    Args:
        folder: empty.
        room: what it shows.
        results: the file's content; None for no file.
    """

    def __init__(self, folder: Path, room: str = "instruments", results: Any = None) -> None:
        """Write it."""
        self.source, self.built, self.file = folder / "source", folder / "built", folder / "benchmarks.json"
        self.source.mkdir()
        (self.source / "conf.py").write_text(CONF)
        (self.source / "index.md").write_text(f"# Page\n\n```{{benchmarks}} {room}\n```\n")
        if results is not None:
            self.file.write_text(json.dumps(results))

    def build(self) -> tuple[nodes.document, str, str]:
        """The page as a tree, as HTML, and what Sphinx warned of."""
        warnings = io.StringIO()
        with docutils_namespace():  # what Sphinx registers is for this build
            app = Sphinx(
                self.source, self.source, self.built, self.built / "trees", "html",
                confoverrides={"benchmarks_file": str(self.file)}, status=None, warning=warnings,
            )  # fmt: skip
            app.build()
            tree = app.env.get_doctree("index")
        return tree, (self.built / "index.html").read_text(encoding="utf-8"), warnings.getvalue()


def results(rows: list[dict[str, str]], **where: Any) -> dict[str, Any]:
    """Of one room."""
    room = {"title": "What it costs.", "provenance": WHERE | where, "wall_seconds": 12.5, "rows": rows}
    return {"version": 1, "rooms": {"instruments": room}}


def test_rows_and_provenance_are_shown_as_they_stand(tmp_path: Path) -> None:
    tree, html, warned = Site(tmp_path, results=results(ROWS)).build()
    assert warned == ""
    (table,) = tree.findall(nodes.table)
    cells = [entry.astext() for entry in table.findall(nodes.entry)]
    assert cells == ["measured", "result", "held against", *(text for row in ROWS for text in row.values())]
    (caption,) = (title.astext() for title in table.findall(nodes.title))
    assert caption == (
        "Measured on cpu, x86_64, 2 threads of 8 cores; python 3.11.7, torch 2.6; "
        "commit 0123456789ab+changes; in 12.5 s"
    )
    assert "<table" in html
    assert "peak &lt;memory&gt;" in html
    assert "pip install 'flatness[plot]'" in html.replace("&#39;", "'")  # quotes that can be copied


def test_a_page_is_renewed_with_the_file(tmp_path: Path) -> None:
    site = Site(tmp_path, results=results(ROWS))
    site.build()
    site.file.write_text(json.dumps(results([{"measured": "anew", "result": "9", "against": "8"}], commit=None)))
    tree, html, warned = site.build()
    assert "anew" in tree.astext()
    assert "anew" in html
    assert "commit none" in html
    assert warned == ""


@pytest.mark.parametrize(
    ("room", "content", "message"),
    [
        ("instruments", None, "benchmarks.json is not there; `python -m benchmarks instruments --out"),
        ("instruments", [], "benchmarks.json holds no results of benchmarks"),
        ("instruments", {}, "benchmarks.json holds no results of benchmarks"),
        ("sam", results(ROWS), "room is 'sam'; benchmarks.json holds: instruments; `python -m benchmarks sam --out"),
        ("sam", {"rooms": {}}, "room is 'sam'; benchmarks.json holds: none"),
    ],
)
def test_results_that_are_not_there_are_an_error(room: str, content: Any, message: str, tmp_path: Path) -> None:
    tree, _, warned = Site(tmp_path, room, content).build()
    assert not list(tree.findall(nodes.table))
    assert message in " ".join(warned.split())
    assert "index.md:3: ERROR" in warned


def test_a_file_that_appears_is_seen(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.build()
    site.file.write_text(json.dumps(results(ROWS)))
    tree, _, warned = site.build()
    assert len(list(tree.findall(nodes.table))) == 1
    assert warned == ""


def test_the_page_of_peers_shows_every_room_and_no_number_of_its_own() -> None:
    page = (ROOT / "docs" / "peers.md").read_text(encoding="utf-8")
    assert re.findall(r"```{benchmarks} (\w+)\n```\n", page) == list(ROOMS)
    for name in NAMES:
        page = page.replace(name, "")
    assert re.findall(r"[^\n]*\d[^\n]*", page) == []


def test_the_file_is_the_results(tmp_path: Path) -> None:
    assert FILE == ROOT / "results" / "benchmarks.json"
    if FILE.exists():
        assert set(json.loads(FILE.read_bytes())["rooms"]) == set(ROOMS)
