"""README's story and the findings' tables are those of the result files."""

import copy
import json
from typing import Any

import pytest

from findings import ladder_page, predictions
from findings.ladder import Measure
from findings.ladder_page import Cell, Column, columns_of
from findings.sentences import RUNGS, percent, tally
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
    assert [part.name for part in story.parts([]) if part.first] == ["question", "by-rung", "unknown"]
    for rung, command in story.COMMANDS.items():
        assert story.RUNGS[rung] in text
        assert command in text


def test_a_rung_that_is_there_has_a_column_and_is_not_among_the_unknown() -> None:
    columns = [column for column in columns_of() if column.rung in ("0", "1", "5")]
    second = next(column for column in columns if column.rung == "0")._replace(rung="2", study="mini", regime="")
    parts = {part.name: story.markdown(part) for part in story.parts([*columns, second])}
    assert f"{story.RUNGS['2']}: 1 study" in parts["by-rung"]
    assert story.RUNGS["2"] not in parts["unknown"]
    assert story.RUNGS["3"] in parts["unknown"]
    head, _, *rows = [line for line in parts["by-rung"].splitlines() if line.startswith("|")]
    assert len(rows) == len(story.KEY_CLAIMS)
    assert all(row.count("|") == head.count("|") for row in rows)


def test_the_first_page_says_a_count_once_and_every_page_says_the_same() -> None:
    """A claim's count over all studies stands in one sentence of the first page, and is the same on the others."""
    columns = columns_of()
    first = readme.the_story(columns)
    for identifier in ("L2a", "L2d", "L6a", "L8c"):
        words = tally(columns, identifier).words(size=True)
        assert first.count(words) == 1, identifier
    for rung in ("0", "1"):
        words = tally([one for one in columns if one.rung == rung], "L1a").words(size=True)
        assert first.count(f"of {RUNGS[rung]} {words}") == 1, rung
    advice = next(story.markdown(part) for part in story.parts(columns) if part.name == "advice")
    for text, identifiers in (
        (advice, ("L1a", "L2a", "L2d", "L8b", "L8c")),
        (readme.at_length(columns), ("L2d", "L8b")),
    ):
        assert all(tally(columns, identifier).words(size=True) in text for identifier in identifiers)


def column(name: str, **verdicts: str) -> Column:
    cells = {
        claim: Cell(verdict, "", [{"verdict": verdict, "seeds": 3, "deciding_seeds": 9}])
        for claim, verdict in verdicts.items()
    }
    return Column("2", name, {"regimes": ["step noise"], "seeds": 3}, cells)


@pytest.mark.parametrize(
    ("verdicts", "cell"),
    [
        ("ccc", "✓ 3"),
        ("coo", "✓ 1, open 2"),
        ("crr", "✓ 1, ✗ 2"),
        ("cro", "✓ 1, ✗ 1, open 1"),
        ("rrr", "✗ 3"),
        ("ood", "open 3"),
        ("---", "–"),
        ("c--", "✓ 1"),
    ],
)
def test_a_cell_says_in_how_many_studies_a_claim_stands(verdicts: str, cell: str) -> None:
    names = {"c": "confirmed", "r": "refuted", "o": "undecided", "d": "disputed", "-": "cannot say"}
    columns = [column(str(place), L1a=names[one]) for place, one in enumerate(verdicts)]
    (part,) = [one for one in story.parts(columns) if one.name == "by-rung"]
    (table,) = [block for block in part.blocks if isinstance(block, story.Table)]
    assert table.heads == ("claim", "whose", f"8 × 8 images (ADM): {len(verdicts)} studies, 3 seeds")
    (row,) = [row for row in table.rows if row[0].startswith("without averaging, SAM's samples")]
    assert row[0].endswith("\N{NO-BREAK SPACE}†")  # its condition
    assert row[1:] == ("paper", cell)
    assert {other[2] for other in table.rows if other != row} == {"–"}


def test_a_rung_says_how_many_studies_seeds_and_radii_it_has() -> None:
    """From the studies themselves, the toy's and the networks' on disk."""
    columns = [one for one in columns_of() if one.rung in "02"]
    for rung, studies in (("0", 6), ("2", 1)):
        of = [one for one in columns if one.rung == rung]
        assert len(of) == studies
        radii = sorted({len(one.source.doses("sam")) for one in of if one.source is not None})
        span = f"{radii[0]} to {radii[-1]} radii" if len(radii) > 1 else f"{radii[0]} radii"
        (part,) = [one for one in story.parts(columns) if one.name == "by-rung"]
        (table,) = [block for block in part.blocks if isinstance(block, story.Table)]
        assert any(head.startswith(RUNGS[rung]) and head.endswith(f"seeds, {span}") for head in table.heads)
    alone = copy.copy(columns[-1].source)
    assert alone is not None
    alone.doses = lambda method: [0.01]  # type: ignore[method-assign]
    (head,) = [
        head
        for part in story.parts([columns[-1]._replace(source=alone)])
        for block in part.blocks
        if isinstance(block, story.Table)
        for head in block.heads[2:]
    ]
    assert head.endswith("3 seeds, 1 radius")


def test_the_legend_says_the_limits_that_claims_are_judged_by(monkeypatch: pytest.MonkeyPatch) -> None:
    def legend() -> str:
        return next(story.markdown(part) for part in story.parts([column("a")]) if part.name == "by-rung")

    for name, words in (("STEP_NOISE", "over 37% above their EMA"), ("MEMORISED", "over 37% above its training loss"),
                        ("SAME", "level: within 37%")):  # fmt: skip
        assert words not in legend()
        monkeypatch.setattr(story, name, 0.37)
        assert words in legend()


def test_why_a_claim_is_judged_in_fewer_studies_is_said() -> None:
    there = dict.fromkeys(("L7a", "L1a", "L8c", "L3b"), "confirmed")
    whole = column("a", **there)._replace(about={"regimes": ["step noise", "memorised"], "seeds": 3})
    noisy = column("b", **there | dict.fromkeys(("L8c", "L3b"), "cannot say"))
    (few,) = story.judged_in_few([whole, whole, noisy]).splitlines()
    assert few.startswith("Judged in fewer than all 3 studies: “rounded to 4 bits, SAM's loss rises less” in 2 (in the")
    reasons = {key.identifier: key.unless for key in story.KEY_CLAIMS}
    assert f"“rounded to 4 bits, SAM's loss rises less” in 2 (in the others {reasons['L8c']})" in few
    assert few.endswith("improves samples” in 2 (in the others nothing is memorised).")  # noisy's regime
    quiet = column("c", **there)._replace(about={"regimes": ["memorised"], "seeds": 3})
    lacking = column("d", L7a="confirmed", L1a="cannot say")
    both = [quiet._replace(cells=quiet.cells | {"L1a": Cell("cannot say", "", [])}), lacking, whole]
    assert f"in 1 (in the others step noise is small or {reasons['L1a']})" in story.judged_in_few(both)
    (part,) = [one for one in story.parts([whole, noisy]) if one.name == "by-rung"]
    (fold,) = [block for block in part.blocks if isinstance(block, story.Fold)]
    assert fold.summary == "What is open, or judged in fewer studies, and why"
    assert story.judged_in_few([whole, noisy]) in fold.blocks[0].texts  # type: ignore[union-attr]


def test_claims_that_a_study_decides_are_counted_and_the_others_named() -> None:
    """One yes or no is enough; what is open or disputed everywhere is named, what is untested not counted."""
    first = column("a", L7a="confirmed", L1a="undecided", L2a="disputed", L3b="cannot say", L8b="undecided")
    second = column("b", L7a="undecided", L1a="undecided", L8b="refuted")
    statements = {claim.identifier: claim.statement for claim in ladder_page.all_claims()}
    words = story.decided_somewhere([first, second])
    assert words.startswith("Of the 4 claims that are judged 2 got a yes or no in some study; open")
    assert words.endswith(f"{statements['L1a']}; {statements['L2a']}.")
    assert story.decided_somewhere([second]) == (
        f"Of the 3 claims that are judged 1 got a yes or no in some study; open wherever they are judged: "
        f"{statements['L1a']}; {statements['L7a']}."
    )
    assert story.decided_somewhere([column("c", L8b="refuted")]).endswith("1 got a yes or no in some study.")
    assert story.decided_somewhere([column("d", L3b="cannot say")]) == ""


def test_where_all_studies_judge_every_claim_nothing_is_said_of_fewer() -> None:
    assert story.judged_in_few([column("a", L7a="confirmed"), column("b", L7a="refuted")]) == ""
    assert story.judged_in_few([column("a", L7a="confirmed"), column("b", L7a="undecided")]) == ""
    (part,) = [one for one in story.parts([column("a", L7a="confirmed")]) if one.name == "by-rung"]
    assert next(block.summary for block in part.blocks if isinstance(block, story.Fold)) == "What is open, and why"


def test_the_short_answer_sorts_the_papers_claims_by_what_most_studies_say() -> None:
    columns = [
        column(name, L7a="confirmed", L2a="refuted", L1a=of)
        for name, of in zip("ab", ("confirmed", "undecided"), strict=True)
    ]
    text = story.against(columns)
    assert text.startswith(
        "Of the paper's 3 claims on trained models in the table, most studies contradict 1: “with averaging (EMA) too"
    )
    assert text.endswith("; 1 holds in most studies, on 1 there is no majority.")
    both = story.against([column("a", L7a="refuted", L2a="refuted", L1a="refuted")])
    assert "contradict 3: “SAM finds flatter minima”, “without" in both
    assert "; none hold in most studies." in both
    assert "most studies contradict none; 1 holds in most studies." in story.against([column("a", L7a="confirmed")])
    assert story.against([column("a")]) == "Of the paper's claims none is measured yet."
    ours = story.against([column("a", L2b="confirmed", L3b="refuted")], "theory")
    assert ours.startswith(
        "Of our own theory's 2 claims on trained models in the table, most studies contradict 1: “with"
    )


def test_advice_follows_the_verdicts() -> None:
    def advice(**verdicts: str) -> str:
        return next(story.markdown(part) for part in story.parts([column("a", **verdicts)]) if part.name == "advice")

    assert "**Try SAM where you sample without averaging.**" in advice(L1a="confirmed", L3b="undecided")
    assert "**Try SAM where the training set is memorised.**" in advice(L1a="refuted", L3b="confirmed")
    both = "**Try SAM where you sample without averaging or where you sample with an average.**"
    assert both in advice(L1a="confirmed", L2a="confirmed")
    toy = column("b", L1a="confirmed")._replace(rung="0")
    (advised,) = [one for one in story.parts([toy, column("a", L1a="undecided")]) if one.name == "advice"]
    seen = "**Try SAM where you sample without averaging (seen of points in the plane (toy) alone).**"
    assert seen in story.markdown(advised)
    assert "**Do not count on SAM for better samples.**" in advice(L1a="refuted", L3b="undecided")
    assert "**Compare SAM with random weight noise, which costs half.**" in advice(L5a="undecided")
    assert "**Random weight noise does not replace SAM.**" in advice(L5a="refuted")
    assert "**Round to 8 bits as trained;" in advice(L8b="refuted")
    assert "**Train flat for 8 bits.**" in advice(L8b="confirmed")


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        ("rrr", "at most 5% farther in 3 of 3 studies, more in none."),
        ("cro", "at most 5% farther in 1 of 3 studies, more in 1, open in 1."),
        ("ccc", "at most 5% farther in none of 3 studies, more in 3."),
    ],
)
def test_rounding_is_told_without_a_double_negative(verdicts: str, words: str) -> None:
    full = {"c": "confirmed", "r": "refuted", "o": "undecided"}
    answers = story.short_answers([column(str(at), L8b=full[one]) for at, one in enumerate(verdicts)])
    assert answers[1].endswith(words)


@pytest.mark.parametrize(
    ("regimes", "words"),
    [
        ((["step noise"], ["memorised"]), "in 2 of 3 studies (1 contradicted). At"),
        ((["memorised"], ["step noise", "memorised"]), "in 2 of 3 studies (1 contradicted); those memorise their"),
        ((["memorised"],), "in 1 of 2 studies (1 contradicted); that study memorises its training set. At"),
        ((), "not in the one study (contradicted). At"),
    ],
)
def test_where_only_memorised_sets_gain_with_an_average_it_is_said(regimes: tuple[list[str], ...], words: str) -> None:
    fresh = column("r", L2a="refuted")._replace(about={"regimes": ["step noise"], "seeds": 3})
    others = [
        column(str(at), L2a="confirmed")._replace(about={"regimes": of, "seeds": 3}) for at, of in enumerate(regimes)
    ]
    assert f"as the paper chose it, {words}" in story.short_answers([fresh, *others])[1]


@pytest.mark.parametrize("verdict", ["confirmed", "refuted"])
def test_exposure_bias_stands_where_most_studies_put_it(verdict: str) -> None:
    buys, does_not = story.short_answers([column("a", L6a=verdict)])[:2]
    assert ("exposure bias" in buys, "exposure bias" in does_not) == (verdict == "confirmed", verdict == "refuted")


def test_the_best_radius_is_told_as_a_dose() -> None:
    """rho E|grad L_B| / L of the study's own rows, of each study at the radius that its samples choose."""
    columns = [one for one in columns_of() if one.rung == "0"][:2]
    doses = []
    for one in columns:
        assert one.source is not None
        radius = one.about["doses"]["sam"]["chosen"]
        norm, loss = (
            one.source.numbers("sam", radius, "raw", Measure(name)) for name in ("gradient_norm", "trained_loss")
        )
        doses.append(radius * float((norm / loss).mean()))
    text = next(story.markdown(part) for part in story.parts(columns) if part.name == "advice")
    ends = f"from {percent(min(doses))} to {percent(max(doses))}"
    assert f"best dose for raw weights was {percent(sum(doses) / 2)} of the loss in the median study, {ends}" in text


def test_pictures_and_what_is_under_them_are_text() -> None:
    hostile = story.Picture("ladder", "a <script>b</script> ![c](d)", 'x" onerror="y', 10)
    part = story.Part("p", "", (hostile,))
    text = story.markdown(part)
    assert "\\<script>" in text
    assert "\\![c]" in text
    assert 'onerror="' not in text


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
