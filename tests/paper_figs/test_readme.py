"""README's story and the findings' tables are those of the result files."""

import copy
import json
from typing import Any

import pytest

from findings import predictions
from findings.ladder_page import Cell, Column, columns_of
from paper_figs import readme, story


@pytest.fixture
def tables() -> list[dict[str, Any]]:
    return list(json.loads((readme.STUDY / "tables.json").read_bytes())["tables"])


def test_the_pages_are_in_step_with_the_results() -> None:
    page, findings = (path.read_text(encoding="utf-8") for path in (readme.README, readme.FINDINGS))
    assert page == readme.readme(page), f"renew it: {readme.COMMAND}"
    assert findings == readme.findings(findings), f"renew it: {readme.COMMAND}"


def test_without_results_the_story_says_so_and_still_has_its_parts() -> None:
    text = readme.the_story([])
    assert "has not been measured" in text
    assert "Nothing is measured yet" in text
    assert text.count("## ") == 4
    for rung, command in story.COMMANDS.items():
        assert story.RUNGS[rung] in text
        assert command in text


def test_a_rung_that_is_there_has_a_column_and_is_not_among_the_unknown() -> None:
    columns = columns_of()
    second = next(column for column in columns if column.rung == "0")._replace(rung="2", study="mini", regime="")
    parts = {part.name: story.markdown(part) for part in story.parts([*columns, second])}
    assert f"{story.RUNGS['2']}: 1 study" in parts["by-rung"]
    assert story.RUNGS["2"] not in parts["unknown"]
    assert story.RUNGS["3"] in parts["unknown"]
    tables = [table.splitlines() for table in parts["by-rung"].split("\n\n") if table.startswith("|")]
    assert [table[0].split("|")[1].strip() for table in tables] == [head for head, _ in story.HEADS.values()]
    for head, _, *rows in tables:
        assert all(row.count("|") == head.count("|") for row in rows)


def column(name: str, **verdicts: str) -> Column:
    cells = {
        claim: Cell(verdict, "", [{"verdict": verdict, "seeds": 3, "deciding_seeds": 9}])
        for claim, verdict in verdicts.items()
    }
    return Column("2", name, {"regimes": ["step noise"], "seeds": 3}, cells)


@pytest.mark.parametrize(
    ("verdicts", "cell"),
    [
        ("ccc", "✓ 3 of 3"),
        ("cco", "✓ 2 of 3, rest open"),
        ("coo", "1 of 3, rest open"),
        ("crr", "✗ 1 of 3, contradicted in 2"),
        ("cro", "1 of 3, contradicted in 1, rest open"),
        ("rrr", "✗ contradicted in 3 of 3"),
        ("roo", "contradicted in 1 of 3, rest open"),
        ("ood", "open in 3 of 3"),
        ("---", "not tested"),
        ("c--", "✓ 1 of 1"),
    ],
)
def test_a_cell_says_in_how_many_studies_a_claim_stands(verdicts: str, cell: str) -> None:
    names = {"c": "confirmed", "r": "refuted", "o": "undecided", "d": "disputed", "-": "cannot say"}
    columns = [column(str(place), L1a=names[one]) for place, one in enumerate(verdicts)]
    (part,) = [one for one in story.parts(columns) if one.name == "by-rung"]
    paper, theory, _ = [block for block in part.blocks if isinstance(block, story.Table)]
    assert paper.heads[1] == f"8 × 8 images (ADM): {len(verdicts)} studies, 3 seeds"
    (row,) = [row for row in paper.rows if row[0].startswith("without averaging, SAM's samples")]
    assert row[1] == paper.rows[-1][1] == cell  # it is the only claim that is judged
    assert {row[1] for row in theory.rows} == {"not tested"}


def test_the_short_answer_sorts_the_papers_claims_by_what_most_studies_say() -> None:
    columns = [
        column(name, L7a="confirmed", L2a="refuted", L1a=of)
        for name, of in zip("ab", ("confirmed", "undecided"), strict=True)
    ]
    text = story.against(columns)
    assert text.startswith("Of its 3 claims in the table, most studies contradict 1: “with averaging (EMA) too")
    assert "They bear out 1: “SAM finds flatter minima” (2 of 2)." in text
    assert "They leave open 1: “without averaging, SAM's samples" in text
    split = [column("a", L6a="confirmed"), column("b", L6a="refuted")]
    words = "They differ among themselves on 1: “without averaging, SAM has less exposure bias” (holds in 1 of 2, "
    assert f"{words}contradicted in 1)." in story.against(split)
    turned = [column(name, L7a="refuted", L2a="confirmed") for name in "ab"]
    assert "contradict 1: “SAM finds flatter minima” (2 of 2)" in story.against(turned)
    assert "most studies contradict none." in story.against([column("a", L7a="confirmed")])


def test_advice_on_sam_follows_the_verdicts() -> None:
    def advice(**verdicts: str) -> str:
        return next(story.markdown(part) for part in story.parts([column("a", **verdicts)]) if part.name == "advice")

    assert "**Try SAM where you sample from raw weights.**" in advice(L1a="confirmed", L3b="undecided")
    assert "**Try SAM where the training set is memorised.**" in advice(L1a="refuted", L3b="confirmed")
    assert "**Do not count on SAM for better samples.**" in advice(L1a="refuted", L3b="undecided")


def test_numbers_are_the_rows_own_and_rounded_by_their_errors(tables: list[dict[str, Any]]) -> None:
    changed = copy.deepcopy(tables)
    by_name = {table["name"]: table for table in changed}
    by_name["flatness"]["rows"]["sam rho=0.1"]["lpf-absolute-rise"] = {"value": 0.0087149, "error": 0.00052}
    by_name["quantisation"]["rows"]["sam rho=0.1"]["frechet-20-4-change"] = {"value": -12.3456, "error": 0.996}
    by_name["distances"]["rows"]["sam rho=0.1"]["frechet-20"] = None
    (line,) = [line for line in readme.rows(changed).splitlines() if line.startswith("| sam rho=0.1 |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[2] == "8.71 ± 0.52"
    assert cells[8] == "-12.3 ± 1.0"
    assert cells[5] == ""
    assert len(readme.rows(tables).splitlines()) == 2 + len(by_name["summary"]["rows"])


def test_a_table_of_another_version_is_refused(tables: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="no exposure-bias: mean_absolute_gap-20"):
        readme.rows([table for table in tables if table["name"] != "exposure-bias"])


def test_verdicts_are_counted_by_group() -> None:
    entries = [{"identifier": name, "verdict": verdict} for name, verdict in
             (("B1a", "confirmed"), ("B1b", "refuted"), ("B1c-8", "confirmed"), ("B6a", "not measured"))]  # fmt: skip
    lines = readme.verdicts(entries).splitlines()
    assert [line.rpartition(":")[2].split("|")[1:-1] for line in lines if line.startswith("| B1:")] == [
        [" 2 ", " 1 ", "  ", "  "]
    ]
    assert next(line for line in lines if line.startswith("| B6:")).endswith("|  |  |  | 1 |")


def test_every_prediction_of_the_bridge_is_in_a_group() -> None:
    entries = json.loads((readme.STUDY / "bridge.json").read_bytes())["predictions"]
    assert {one["identifier"][:2] for one in entries} == set(predictions.TITLES)
    assert {one["verdict"] for one in entries} <= set(predictions.VERDICTS)
