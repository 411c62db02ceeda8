"""What pages say of results: `python -m paper_figs.readme` renews README.md, docs/findings.md and the pages' pictures.

README.md has the story's first page (`paper_figs.story`); docs/findings.md its findings at length, the trained
network's rows and the bridge's verdicts; docs/images the pictures that both show, from paper_figs/out, where they are
up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from findings import files
from findings import predictions as predicted
from findings.boundary import guarded
from findings.documents import read_document
from findings.estimates import decimals_of, fixed
from findings.ladder_page import Column, columns_of
from paper_figs import build, catalogue, story
from paper_figs.catalogue import ROOT

STUDY = ROOT / "results" / "fashion-mnist-tiny"
README = ROOT / "README.md"
COMMAND = "python -m paper_figs.readme"
FINDINGS = ROOT / "docs" / "findings.md"
IMAGES = ROOT / "docs" / "images"
PICTURES = ("bound", "ladder", "nine_methods", "table_2")
"""Figures that pages show."""
STORY = (f"<!-- story: written by {COMMAND} -->", "<!-- end of story -->")
LONG = (f"<!-- findings: written by {COMMAND} -->", "<!-- end of findings -->")
ROWS = (f"<!-- trained: written by {COMMAND} -->", "<!-- end of trained -->")
BRIDGE = (f"<!-- bridge: written by {COMMAND} -->", "<!-- end of bridge -->")

THOUSANDTHS = 1000.0
COLUMNS: tuple[tuple[str, str, str, float], ...] = (
    ("flatness", "loss", "held-out loss, 10⁻³", THOUSANDTHS),
    ("flatness", "lpf-absolute-rise", "LPF rise, absolute noise, 10⁻³", THOUSANDTHS),
    ("flatness", "lpf-layer-rise", "LPF rise, layer-relative noise, 10⁻³", THOUSANDTHS),
    ("exposure-bias", "mean_absolute_gap-20", "epsilon-norm gap, T' = 20", 1.0),
    ("distances", "frechet-20", "distance, T' = 20", 1.0),
    ("distances", "frechet-100", "distance, T' = 100", 1.0),
    ("quantisation", "frechet-20-8-change", "change at 8 bits, T' = 20", 1.0),
    ("quantisation", "frechet-20-4-change", "change at 4 bits, T' = 20", 1.0),
)
"""Of tables.json: the table, its column, how the README calls it, and in which unit it is shown."""


def _shown(cell: Mapping[str, Any] | None, factor: float) -> str:
    """A value and its error to the error's two leading digits, both times the factor."""
    if cell is None:
        return ""
    value, error = factor * cell["value"], factor * (cell.get("error") or 0.0)
    if not error:
        return f"{value:.3g}"
    digits = decimals_of(error)
    return f"{fixed(value, digits)} ± {fixed(error, digits)}"


def the_story(columns: Sequence[Column]) -> str:
    """README's first part, from the ladder's studies: what stands on a first page."""
    return "\n\n".join(story.markdown(part) for part in story.parts(columns) if part.first)


def at_length(columns: Sequence[Column]) -> str:
    """The findings, for a page of docs/, which both the site and whoever browses the repository show."""
    (part,) = [part for part in story.parts(columns) if part.name == "findings"]
    text = story.markdown(part, lambda picture: f"![{picture.alt}](images/{picture.name}.png)\n\n{picture.words}")
    return text.replace("](docs/", "](")


def rows(tables: Sequence[Mapping[str, Any]]) -> str:
    """The nine rows (more where SAM has several radii): a value ± its standard error.

    Args:
        tables: of tables.json.

    Raises:
        ValueError: a table or a column is not there.
    """
    by_name = {table["name"]: table for table in tables}
    for table, column, *_ in COLUMNS:
        if column not in by_name.get(table, {"columns": {}})["columns"]:
            raise ValueError(f"tables.json has no {table}: {column}; allowed: tables of this version")
    lines = ["| row | " + " | ".join(head for _, _, head, _ in COLUMNS) + " |", "|---" + "|---:" * len(COLUMNS) + "|"]
    for row in by_name["summary"]["rows"]:
        cells = [_shown(by_name[table]["rows"][row].get(column), unit) for table, column, _, unit in COLUMNS]
        lines.append("| " + " | ".join([row, *cells]) + " |")
    return "\n".join(lines)


def verdicts(predictions: Sequence[Mapping[str, Any]]) -> str:
    """The bridge's predictions by group and verdict: how many of each.

    Args:
        predictions: of bridge.json.
    """
    heads = predicted.VERDICTS
    lines = ["| the bridge | " + " | ".join(heads) + " |", "|---" + "|---:" * len(heads) + "|"]
    for group, title in predicted.TITLES.items():
        verdicts = [one["verdict"] for one in predictions if predicted.group(one) == group]
        counts = [str(verdicts.count(verdict) or "") for verdict in heads]
        lines.append(f"| {group}: {title} | " + " | ".join(counts) + " |")
    return "\n".join(lines)


def readme(page: str) -> str:
    """README.md as the results are.

    Raises:
        ValueError: a mark is missing, or a result.
    """
    return files.renewed(page, STORY, the_story(columns_of()))


def findings(page: str) -> str:
    """docs/findings.md as the results are.

    Raises:
        ValueError: a mark is missing, or a result.
    """
    tables, bridge = read_document(STUDY / "tables.json")["tables"], read_document(STUDY / "bridge.json")["predictions"]
    for marks, content in ((LONG, at_length(columns_of())), (ROWS, rows(tables)), (BRIDGE, verdicts(bridge))):
        page = files.renewed(page, marks, content)
    return page


def pictures(out: Path = build.OUT, images: Path = IMAGES) -> list[str]:
    """Copy the pictures that pages show; the names of those that are not up to date in `out`, and are left."""
    entries, old = catalogue.figures(), []
    for name in PICTURES:
        if build.up_to_date(entries[name], out):
            files.write_whole(images / f"{name}.png", (out / f"{name}.png").read_bytes())
        else:
            old.append(name)
    return old


def main() -> int:
    """Renew the pages; the exit status."""
    try:
        files.write_whole(README, readme(README.read_text(encoding="utf-8")))
        files.write_whole(FINDINGS, findings(FINDINGS.read_text(encoding="utf-8")))
        old = pictures()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {README.name} and {FINDINGS.relative_to(ROOT)}")
    if old:
        print(f"pictures left as they are, not up to date in {build.OUT.relative_to(ROOT)}: {', '.join(old)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
