"""The ladder's sentences: counts and titles follow the verdicts, and turn with them."""

from __future__ import annotations

import math

import pytest

from findings.ladder_page import Cell, Column
from findings.sentences import changed, sentences, study_words, tally


def column(name: str, verdict: str, mean: float, **others: str) -> Column:
    """A study in which every claim has one verdict, but those named."""
    comparison = {"quantity": "distance-20", "dose": "0.03", "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    names = ["L1a", "L1b", "L2a", "L2b", "L2d", "L2e", "L3b", "L6a", "L7a", "L7b", "L7c", "L8a", "L8b", "L8c"]
    cells = {
        claim: Cell(others.get(claim, verdict), "", [comparison | {"verdict": others.get(claim, verdict)}])
        for claim in names
    }
    return Column("2", name, {"regimes": ["step noise"]}, cells)


def test_a_tally_counts_studies_and_quotes_the_clearest_that_confirms() -> None:
    columns = [column("a", "confirmed", -0.2), column("b", "refuted", 0.9), column("c", "cannot say", 0.0)]
    counted = tally(columns, "L1a")
    assert (counted.confirmed, counted.refuted, counted.other, counted.studies) == (1, 1, 0, 2)
    assert counted.words() == "in 1 of 2 studies (contradicted in 1)"
    assert counted.either_way("better", "worse") == "better in 1 of 2 studies, worse in 1"
    assert counted.example == "samples lie 18% (9.5 to 26%) closer to the data, for 8 × 8 images (ADM)"
    against = tally(columns[1:], "L1a")
    assert against.example.startswith("samples lie 146% (123 to 172%) farther from the data")
    assert against.either_way("better", "worse") == "worse in 1 of 1 study"


@pytest.mark.parametrize(
    ("quantity", "ends", "words"),
    [
        ("lpf_rise", (math.log(0.52), math.log(0.50), math.log(0.53)), "the rise is 48% (47 to 50%) lower"),
        ("held_out_loss", (0.02, 0.01, 0.03), "the held-out loss is 2.0% (1.0 to 3.0%) higher"),
        (
            "distance-100",
            (0.0, -0.05, 0.05),
            "samples of 100 steps lie between 4.9% closer to the data and",
        ),
        ("copies-20", (-0.2, -0.3, -0.1), "copies-20 is 18% (9.5 to 26%) lower"),
    ],
)
def test_a_change_is_said_in_percent_with_its_interval(
    quantity: str, ends: tuple[float, float, float], words: str
) -> None:
    words_of = changed({"quantity": quantity, **dict(zip(("mean", "low", "high"), ends, strict=True))})
    assert words_of.startswith(words)


def test_a_study_is_named_for_people() -> None:
    toy = column("ring", "confirmed", -0.5)._replace(rung="0", regime="fresh, batch 16")
    assert study_words(toy) == "points in the plane (toy; fresh data, batch 16)"


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        ("confirmed", "Without averaging, SAM's samples are better in 3 of 3 studies"),
        ("refuted", "Without averaging, SAM's samples are worse in 3 of 3 studies"),
        ("undecided", "Without averaging, SAM's samples are open in 3 of 3 studies"),
        ("cannot say", "SAM without averaging is not measured"),
    ],
)
def test_titles_turn_with_the_verdicts(verdict: str, title: str) -> None:
    sentence_of = sentences([column(name, "confirmed", -0.5, L1a=verdict) for name in "abc"])
    assert sentence_of[1].title == title


def test_half_of_the_studies_is_no_majority() -> None:
    sentence_of = sentences([column("a", "confirmed", -0.5), column("b", "refuted", 0.5)])
    assert sentence_of[0].title == "Whether SAM flattens depends on the study"
    assert sentence_of[2].title == "With averaging (EMA), SAM's samples are better in 1 of 2 studies, worse in 1"
    assert sentence_of[3].title.endswith("whether rounding to 8 bits harms plain training is open")


def test_memorised_studies_are_not_among_those_where_nothing_is() -> None:
    memorised = column("a", "refuted", 0.5)._replace(about={"regimes": ["step noise", "memorised"]})
    averaged = sentences([memorised, column("b", "confirmed", -0.5)])[2]
    assert averaged.title == "With averaging (EMA), SAM's samples are better in 1 of 1 study"
    assert averaged.text.endswith("SAM with EMA at its best radius is worse in 1 of 1 study.")


def test_what_is_not_measured_is_said() -> None:
    sentence_of = sentences([column("a", "confirmed", -0.5, L3b="cannot say", L8c="cannot say")])
    assert "at its best radius is not measured so far" in sentence_of[2].text
    assert "in no study so far (not measured)" in sentence_of[3].text


def test_without_results_there_are_no_sentences() -> None:
    assert sentences([]) == []
    assert sentences([column("the paper's tables", "3 of 3 in print", 0.0)._replace(rung="5")]) == []
