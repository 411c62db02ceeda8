"""The ladder's page and document: what stands in a cell is what the judge says, and both follow from the files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from findings.documents import ResultError
from findings.ladder import Study, judged
from findings.ladder_claims import CLAIMS
from findings.ladder_page import (
    DOCUMENT,
    PAGE,
    Cell,
    Column,
    all_claims,
    columns_of,
    counts,
    main,
    mark,
    toy_columns,
    undecided,
    unfinished,
)
from tests.findings.test_ladder import study

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ladder")
    study(out / "mini")
    main(out)
    return out


def test_cells_are_the_judges(folder: Path) -> None:
    document = json.loads((folder / DOCUMENT).read_bytes())
    assert [one["name"] for one in document["studies"]] == ["mini", "the paper's tables"]
    verdicts = {one.claim.identifier: one for one in judged(Study(folder / "mini"))}
    for claim in document["claims"]:
        if claim["identifier"] in verdicts:
            cell = claim["cells"]["mini"]
            assert cell["verdict"] == verdicts[claim["identifier"]].verdict
            assert len(cell["comparisons"]) == len(verdicts[claim["identifier"]].comparisons)
        else:
            assert "mini" not in claim["cells"]  # the toy's alone


def test_every_claim_has_a_line_and_its_numbers(folder: Path) -> None:
    page = (folder / PAGE).read_text()
    for claim in CLAIMS:
        assert f"| [{claim.identifier}](#{claim.identifier.lower()}) {claim.statement} |" in page
        assert f"## {claim.identifier}\n" in page
    line = next(line for line in page.splitlines() if line.startswith("| [L1a]"))
    assert line.endswith("| the paper's | step noise | yes | 6 of 6 in print |")
    assert next(line for line in page.splitlines() if line.startswith("| [L3a]")).endswith("| - |  |")


def test_written_twice_it_is_the_same(folder: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in (DOCUMENT, PAGE)}
    command = [sys.executable, "-m", "findings", "--folder", str(folder)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("2 studies")
    assert {name: (folder / name).read_bytes() for name in (DOCUMENT, PAGE)} == before


def test_a_study_that_is_not_one_yet_is_left_out(tmp_path: Path) -> None:
    study(tmp_path / "mini")
    for path in (tmp_path / "mini").glob("*-[12].json"):
        path.unlink()
    assert columns_of(tmp_path) == []


def test_counts_are_by_owner_and_leave_out_other_regimes() -> None:
    cells = {
        "L1a": Cell("confirmed", "", []),
        "L1b": Cell("refuted", "", []),
        "L1d": Cell("cannot say", "the study is in the regime step noise", []),
        "L1c": Cell("cannot say", "no dose of the study is matched or none", []),
    }
    about = {"regimes": ["step noise"]}
    counted = counts([Column("2", "mini", about, cells), Column("2", "other", about, cells)])
    assert counted == {"paper": {"confirmed": 2, "cannot say": 2}, "theory": {"refuted": 2}, "question": {}}


def test_rungs_that_are_not_all_made_are_named() -> None:
    about = {"complete": False, "file": "ring.json"}
    columns = [Column("0", "ring", about, {}, "a"), Column("0", "ring", about, {}, "b")]
    assert unfinished(columns).startswith("Not all runs are made yet of: ring.")
    assert unfinished([Column("2", "mini", {}, {})]) == ""


def test_damaged_rows_of_the_toy_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ring.json"
    for content in (b"{", b"[]", b"{}"):
        path.write_bytes(content)
        with pytest.raises(ResultError, match="holds no rows"):
            toy_columns(path, "ring")


def test_identifiers_are_unique_over_all_rungs() -> None:
    identifiers = [claim.identifier for claim in all_claims()]
    assert len(set(identifiers)) == len(identifiers)


def test_an_unknown_folder_is_refused() -> None:
    command = [sys.executable, "-m", "findings", "--folder", "nowhere-at-all"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--folder is nowhere-at-all" in ended.stderr


def comparison(verdict: str, deciding: int | None = None) -> dict[str, object]:
    entry: dict[str, object] = {"quantity": "distance-20", "dose": "0.1", "verdict": verdict, "seeds": 20}
    return entry | ({"deciding_seeds": deciding} if verdict == "undecided" else {})


@pytest.mark.parametrize(
    ("deciding", "word"),
    [([22], "open (22)"), ([22, 31], "open (31)"), ([22, None], "open (>1000)"), ([None], "open (>1000)")],
)
def test_an_open_cell_says_how_many_seeds_would_decide_it(deciding: list[int | None], word: str) -> None:
    decided = [comparison("confirmed")]
    assert mark(Cell("undecided", "", [*decided, *(comparison("undecided", one) for one in deciding)])) == word
    assert mark(Cell("confirmed", "", decided)) == "yes"
    assert mark(Cell("cannot say", "", [])) == "-"


def test_what_is_open_is_counted_by_what_would_decide_it() -> None:
    cells = {
        "L1a": Cell("undecided", "", [comparison("undecided", 39)]),
        "L1b": Cell("undecided", "", [comparison("undecided", 41)]),
        "L1c": Cell("undecided", "", [comparison("undecided", None)]),
        "L1d": Cell("confirmed", "", [comparison("confirmed")]),
        "L1e": Cell("cannot say", "", []),
    }
    sentence = undecided([Column("0", "ring", {"regimes": []}, cells)])
    assert sentence.startswith("Of 4 verdicts 3 are open. With 2 times the seeds 1 of these would")
    assert "; 1 take more, and for 1 even 1000 are not enough" in sentence


def test_a_study_of_fewer_than_three_seeds_is_not_judged_yet(tmp_path: Path) -> None:
    study(tmp_path / "mini")
    assert "mini" in [column.name for column in columns_of(tmp_path)]
    for path in (tmp_path / "mini").glob("*-[2-9].json"):
        path.unlink()
    assert len(Study(tmp_path / "mini").seeds) == 2
    assert columns_of(tmp_path) == []
