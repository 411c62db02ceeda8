"""The tables shown are those of the result file."""

import json
from pathlib import Path

import pytest

from findings import toy_study
from toy import tables


def test_the_pages_are_in_step_with_the_results() -> None:
    results = toy_study.load()
    assert tables.OWN.read_text(encoding="utf-8") == tables.full(results), "renew it: python -m toy.tables"
    readme = tables.BRIEF.read_text(encoding="utf-8")
    assert readme == tables.with_brief(readme, results), "renew it: python -m toy.tables"


def test_every_prediction_is_in_the_brief_table() -> None:
    results = toy_study.load()
    shown = tables.brief(results)
    groups = {p["identifier"][:2] for p in results["predictions"]}
    assert groups == set(tables.TITLES)
    cells = [part for line in shown.splitlines()[2:] for part in line.split("|")[2:]]
    assert sum(len([x for x in cell.split(",") if x.strip()]) for cell in cells) == len(results["predictions"])


def test_a_missing_or_foreign_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="python -m toy wrote"):
        toy_study.load(tmp_path / "none.json")
    foreign = tmp_path / "foreign.json"
    foreign.write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="no JSON object but list"):
        toy_study.load(foreign)
    with pytest.raises(ValueError, match="marks"):
        tables.with_brief("no marks here", toy_study.load())


def test_what_was_decided_after_a_first_run_is_said_at_the_head_and_in_its_line() -> None:
    results = toy_study.load()
    blind = [{key: p[key] for key in p if key != "revised"} for p in results["predictions"]]
    assert "first run" not in tables.full({**results, "predictions": blind})
    marked = [{**p, "revised": {"P7b": "added", "P2a": "restated"}.get(p["identifier"], "")} for p in blind]
    shown = tables.full({**results, "predictions": marked}).splitlines()
    (head,) = [line for line in shown if line.startswith("After the results of a first run had been seen")]
    assert "P7b were added; P2a were restated" in head
    lines = [line for line in shown if "after a first run)" in line]
    assert [line.split(" | ")[0] for line in lines] == ["| P2a", "| P7b"]
    assert "(added after a first run)" in lines[1]


def test_runs_of_equal_loss_are_explained_with_their_numbers() -> None:
    results = toy_study.load()
    changed = {**results, "equal_loss": {"adm": {"steps": 123}, "ip": {"steps": 456}}}
    assert "adm after 123 steps, ip after 456 steps" in tables.full(changed)
