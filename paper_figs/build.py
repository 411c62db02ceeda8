"""Figures to files: PDF, PNG and data, each whole or not at all, and a stamp that tells whether they are up to date.

A module that defines `table(data) -> paper_figs.columns.tabular.Table` is a table: Markdown, LaTeX and CSV are written
too.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from findings.checksums import ResultError, read_json, with_checksum
from findings.files import write_whole
from paper_figs.catalogue import ROOT, Entry, versions
from paper_figs.columns import tabular

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paper_figs.columns.tabular import Table

OUT = ROOT / "paper_figs" / "out"
FIGURE_SUFFIXES = (".pdf", ".png", ".json")
"""Of the files of every figure."""
COLOURS = 64
"""Of a PNG."""
TABLE_SUFFIXES = (".md", ".tex", ".csv")
"""Of the further ones of a table."""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def suffixes(entry: Entry) -> tuple[str, ...]:
    """Of the files that are written for a figure; its module is read, not imported."""
    tree = ast.parse(entry.source.read_bytes(), str(entry.source))
    is_table = any(isinstance(node, ast.FunctionDef) and node.name == "table" for node in tree.body)
    return FIGURE_SUFFIXES + (TABLE_SUFFIXES if is_table else ())


def _stamp(entry: Entry, out: Path) -> Path:
    return out / f"{entry.name}.stamp"


def up_to_date(entry: Entry, out: Path = OUT) -> bool:
    """Whether the figure's files are those that were last written, and nothing that they come from has changed."""
    try:
        stamp = read_json(_stamp(entry, out))
        if stamp["fingerprint"] != entry.fingerprint():
            return False
        return all(_digest(out / f"{entry.name}{suffix}") == stamp["files"][suffix] for suffix in suffixes(entry))
    except (OSError, ResultError, KeyError, TypeError):  # missing, damaged or of another making
        return False


def as_json(data: dict[str, Any]) -> str:
    """The data as JSON, one top-level entry a line.

    Raises:
        ValueError: a number that is not finite, or something that is no plain number, string, list or dictionary.
    """
    lines = []
    for key, value in data.items():
        try:
            lines.append(f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}")
        except (TypeError, ValueError) as error:
            raise ValueError(f"data[{key!r}] cannot be written ({error}); allowed: plain finite values") from error
    return "{\n" + ",\n".join(lines) + "\n}\n"


def save(figure: Figure, stream: IO[bytes], kind: str) -> None:
    """Write a figure as "pdf" or "png", without a date: the same figure gives the same bytes.

    A PNG has COLOURS colours, which makes it a quarter as large; what is lost stands in the PDF.
    """
    if kind == "pdf":
        figure.savefig(stream, format=kind, metadata={"CreationDate": None})
        return
    from PIL import Image  # matplotlib needs it too

    drawn = BytesIO()
    figure.savefig(drawn, format=kind)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(stream, kind, optimize=True)


def _as_texts(table: Table, name: str) -> dict[str, str]:
    """The table in each of its formats."""
    return {
        ".md": tabular.markdown(table),
        ".tex": tabular.latex(table, name),
        ".csv": tabular.comma_separated(table),
    }


def draw(entry: Entry, out: Path = OUT) -> list[Path]:
    """Compute the figure's data, write it, draw from what was written, and write the drawing; and the table of one.

    Args:
        entry: from `catalogue.figures`.
        out: the folder; made where it is missing.

    Returns:
        The files written, drawing first.
    """
    from paper_figs.drawing import style  # loads matplotlib, which asking for the state does not need

    made_of = entry.fingerprint()  # before anything is computed: an edit meanwhile must count as one
    module = importlib.import_module(entry.module)
    text = as_json(module.compute())
    files = {suffix: out / f"{entry.name}{suffix}" for suffix in suffixes(entry)}
    texts = {".json": text}
    if files.keys() > set(FIGURE_SUFFIXES):
        texts |= _as_texts(module.table(json.loads(text)), entry.name)
    for suffix in texts:
        write_whole(files[suffix], texts[suffix])
    with style.applied():
        figure = module.draw(json.loads(text))
        for kind in ("pdf", "png"):
            stream = BytesIO()
            save(figure, stream, kind)
            write_whole(files[f".{kind}"], stream.getvalue())
    stamp = {
        "figure": entry.name,
        "fingerprint": made_of,
        "versions": versions(),
        "files": {suffix: _digest(path) for suffix, path in files.items()},
    }
    write_whole(_stamp(entry, out), json.dumps(with_checksum(stamp), indent=1) + "\n")
    return list(files.values())
