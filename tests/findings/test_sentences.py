"""The ladder's sentences: counts and titles follow the verdicts, and turn with them; sizes are of every study."""

from __future__ import annotations

import math

import pytest

from findings.ladder_page import Cell, Column
from findings.sentences import Tally, percent, sentences, study_words, tally


def column(name: str, verdict: str, mean: float, **others: str) -> Column:
    """A study in which every claim has one verdict, but those named."""
    comparison = {"quantity": "distance-20", "dose": "0.03", "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    names = ["L1a", "L1b", "L2a", "L2b", "L2d", "L2e", "L3b", "L6a", "L7a", "L7b", "L7c", "L8a", "L8b", "L8c"]
    cells = {
        claim: Cell(others.get(claim, verdict), "", [comparison | {"verdict": others.get(claim, verdict)}])
        for claim in names
    }
    return Column("2", name, {"regimes": ["step noise"]}, cells)


def test_a_tally_counts_studies_and_its_size_is_the_median_of_all_that_are_counted() -> None:
    columns = [
        column("a", "confirmed", -0.2),
        column("b", "refuted", 0.9),
        column("c", "undecided", -0.1),
        column("d", "cannot say", -9.0),
        column("the paper's tables", "in print", -9.0)._replace(rung="5"),
    ]
    of = tally(columns, "L1a")
    assert (of.confirmed, of.refuted, of.other, of.studies) == (1, 1, 1, 3)
    assert of.changes == (-0.2, 0.9, -0.1)
    assert of.words() == "in 1 of 3 studies (1 contradicted, 1 open)"
    assert of.words(size=True) == "in 1 of 3 studies (1 contradicted, 1 open; median 9.5% closer)"
    assert of.spread() == "from 18% closer to 146% farther"


def lower(*changes: float, confirmed: int = 0, refuted: int = 0, other: int = 0) -> Tally:
    """A claim on something other than samples, a change a study."""
    return Tally(confirmed, refuted, other, changes)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (lower(), "in no study so far (not measured)"),
        (lower(-0.7, confirmed=1), "in the one study (50% lower)"),
        (lower(-0.7, -0.1, 0.02, confirmed=3), "in all 3 studies (median 9.5% lower)"),
        (lower(0.02, other=1)._replace(level=1), "not for certain in the one study (open, within 5%; 2.0% higher)"),
        (
            lower(0.0, 0.1, refuted=1, other=4)._replace(level=4),
            "in none of 5 studies (1 contradicted, 4 open, all within 5%; median 5.1% higher)",
        ),
        (
            lower(0.0, 0.1, confirmed=1, other=3)._replace(level=2),
            "in 1 of 4 studies (3 open, 2 of them within 5%; median 5.1% higher)",
        ),
        (lower(0.02, other=1), "not for certain in the one study (open; 2.0% higher)"),
        (lower(0.02, 0.1, refuted=1, other=1), "in none of 2 studies (1 contradicted, 1 open; median 6.2% higher)"),
        (lower(0.02, refuted=1), "not in the one study (contradicted; 2.0% higher)"),
        (lower(0.02, 0.04, other=2), "for certain in none of 2 studies (2 open; median 3.0% higher)"),
    ],
)
def test_counts_read_well_whatever_they_are(of: Tally, words: str) -> None:
    assert of.words(size=True) == words


@pytest.mark.parametrize(
    ("identifier", "verdict", "intervals", "level"),
    [
        ("L1a", "undecided", [(-0.02, 0.03), (-0.04, 0.049)], 1),
        ("L1a", "undecided", [(-0.02, 0.03), (-0.04, 0.051)], 0),  # every one of its intervals
        ("L1a", "undecided", [(-0.06, 0.03)], 0),
        ("L1a", "disputed", [(-0.02, 0.03)], 1),
        ("L1a", "refuted", [(0.01, 0.03)], 0),  # decided
        ("L3c", "undecided", [(-0.02, 0.03)], 0),  # a difference, in units of its own
    ],
)
def test_what_is_open_and_bounded_is_told_apart(
    identifier: str, verdict: str, intervals: list[tuple[float, float]], level: int
) -> None:
    compared = [{"quantity": "distance-20", "mean": (a + b) / 2, "low": a, "high": b} for a, b in intervals]
    one = column("a", "undecided", 0.0)
    of = one._replace(cells={identifier: one.cells["L1a"]._replace(verdict=verdict, comparisons=compared)})
    assert tally([of], identifier).level == level


def test_a_claim_that_holds_on_one_rung_alone_says_on_which() -> None:
    first, second = column("a", "confirmed", -0.5)._replace(rung="0"), column("b", "undecided", 0.0)
    assert tally([first, second], "L1a").only_of() == "points in the plane (toy)"
    assert tally([first], "L1a").only_of() == ""  # no other rung is judged
    assert tally([first, column("b", "confirmed", -0.5)], "L1a").only_of() == ""
    assert sentences([first, second])[1].title.endswith(
        "in 1 of 2 studies (1 open); that one is of points in the plane (toy)"
    )


@pytest.mark.parametrize(
    ("share", "words"), [(0.063, "6.3%"), (-0.0994, "9.9%"), (0.0996, "10%"), (-0.48, "48%"), (1.46, "146%")]
)
def test_a_share_has_two_digits_and_no_sign(share: float, words: str) -> None:
    assert percent(share) == words


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (("ring", "fresh, batch 16"), "points in the plane (toy): fresh data, batch 16"),
        (("mini-300", ""), "8 × 8 images (ADM): 300 images"),
        (("tiny", ""), "16 × 16 images (ADM): all images"),
        (("gpu", ""), "images (ADM, on a GPU)"),
    ],
)
def test_a_study_is_named_for_people(study: tuple[str, str], words: str) -> None:
    assert study_words(*study) == words


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        ("confirmed", "Without averaging, SAM's samples are better in all 3 studies"),
        ("refuted", "Without averaging, SAM's samples are better in none of 3 studies (3 contradicted)"),
        ("undecided", "Without averaging, SAM's samples are better for certain in none of 3 studies (3 open)"),
        ("cannot say", "Without averaging, SAM's samples are better in no study so far (not measured)"),
    ],
)
def test_titles_turn_with_the_verdicts(verdict: str, title: str) -> None:
    sentence_of = sentences([column(name, "confirmed", -0.5, L1a=verdict) for name in "abc"])
    assert sentence_of[1].title == title


def test_half_of_the_studies_is_no_majority() -> None:
    sentence_of = sentences([column("a", "confirmed", -0.5), column("b", "refuted", 0.5)])
    assert sentence_of[0].title == "Whether SAM flattens depends on the study"
    assert sentence_of[2].title.endswith("better in 1 of 2 studies (1 contradicted)")
    assert sentence_of[3].title.endswith("it is open whether rounding to 8 bits harms plain training")
    sentence_of = sentences([column("a", "undecided", 0.0), column("b", "refuted", 0.0)])
    assert sentence_of[3].title.endswith("no study shows that rounding to 8 bits harms plain training")


def test_a_claim_has_one_count_wherever_it_is_said() -> None:
    """A memorised study is counted with the others: no sentence narrows a claim's condition without saying so."""
    memorised = column("a", "refuted", 0.5)._replace(about={"regimes": ["step noise", "memorised"]})
    averaged = sentences([memorised, column("b", "confirmed", -0.5)])[2]
    assert averaged.title.endswith("better in 1 of 2 studies (1 contradicted)")
    assert "EMA alone improves plain training's samples in 1 of 2 studies (1 contradicted;" in averaged.text


def test_a_size_is_said_with_its_spread() -> None:
    text = sentences([column(name, "confirmed", mean) for name, mean in zip("abc", (-0.5, -0.1, 0.1), strict=True)])
    assert (
        "Their distance to the data in the median study: 9.5% closer; over studies, from 39% closer to" in text[1].text
    )
    one = sentences([column("a", "confirmed", math.log(0.5))])
    assert "Their distance to the data there: 50% closer." in one[1].text


def test_what_is_not_measured_is_said() -> None:
    sentence_of = sentences([column("a", "confirmed", -0.5, L3b="cannot say", L8c="cannot say")])
    assert "they are better at that radius in no study so far (not measured)" in sentence_of[2].text
    assert "in no study so far (not measured)" in sentence_of[3].text


def test_without_results_there_are_no_sentences() -> None:
    assert sentences([]) == []
    assert sentences([column("the paper's tables", "in print", 0.0)._replace(rung="5")]) == []
