"""The tables shown are those of the result file."""

import json
from pathlib import Path

import pytest

from toy import tables


def test_the_pages_are_in_step_with_the_results() -> None:
    results = tables.load()
    assert tables.OWN.read_text(encoding="utf-8") == tables.full(results), "renew it: python -m toy.tables"
    readme = tables.README.read_text(encoding="utf-8")
    assert readme == tables.with_brief(readme, results), "renew it: python -m toy.tables"


def test_every_prediction_is_in_the_brief_table() -> None:
    results = tables.load()
    shown = tables.brief(results)
    groups = {p["identifier"][:2] for p in results["predictions"]}
    assert groups == set(tables.TITLES)
    cells = [part for line in shown.splitlines()[2:] for part in line.split("|")[2:]]
    assert sum(len([x for x in cell.split(",") if x.strip()]) for cell in cells) == len(results["predictions"])


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="python -m toy wrote"):
        tables.load(tmp_path / "none.json")
    foreign = tmp_path / "foreign.json"
    foreign.write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="holds no predictions"):
        tables.load(foreign)
    with pytest.raises(ValueError, match="marks"):
        tables.with_brief("no marks here", tables.load())
