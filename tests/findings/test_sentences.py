"""The ladder's sentences: counts and titles follow the verdicts, and turn with them."""

from __future__ import annotations

import math

import pytest

from findings.ladder_page import Cell, Column
from findings.sentences import sentences, tally


def column(name: str, verdict: str, mean: float, **others: str) -> Column:
    """A study in which every claim has one verdict, but those named."""
    comparison = {"quantity": "distance-20", "dose": "0.03", "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    names = ("L1a", "L1b", "L2a", "L2b", "L2d", "L2e", "L3a", "L3b", "L5a", "L5b", "L7a", "L7b", "L7c")
    cells = {
        claim: Cell(others.get(claim, verdict), "", [comparison | {"verdict": others.get(claim, verdict)}])
        for claim in names
    }
    return Column("2", name, {"regimes": ["step noise"]}, cells)


def test_a_tally_counts_studies_and_quotes_the_clearest() -> None:
    counted = tally(
        [column("a", "confirmed", -0.2), column("b", "refuted", 0.9), column("c", "cannot say", 0.0)], "L1a"
    )
    assert (counted.confirmed, counted.refuted, counted.other, counted.studies) == (1, 1, 0, 2)
    assert counted.words() == "in 1 of 2 studies (1 refuted)"
    assert counted.example == (
        "b: the distance of samples at T' = 20, at the dose 0.03, times "
        f"{math.exp(0.9):.2f} [{math.exp(0.8):.2f}, {math.exp(1.0):.2f}]"
    )


@pytest.mark.parametrize(
    ("verdict", "title"),
    [
        ("confirmed", "Where step noise is large, flatness helps raw weights"),
        ("refuted", "Flatness does not help raw weights"),
        ("undecided", "Whether flatness helps raw weights is mixed"),
    ],
)
def test_titles_turn_with_the_verdicts(verdict: str, title: str) -> None:
    sentence_of = sentences([column(name, "confirmed", -0.5, L1a=verdict) for name in "abc"])
    assert title in [sentence.title for sentence in sentence_of]


def test_half_of_the_studies_is_no_majority() -> None:
    sentence_of = sentences([column("a", "confirmed", -0.5), column("b", "refuted", 0.5)])
    words = ("mixed", "open", "depends", "not settled")
    assert all(any(word in one.title for word in words) for one in sentence_of)


def test_where_samples_gain_and_held_out_loss_does_not_the_title_says_both() -> None:
    both = column("a", "confirmed", -0.5, L3a="refuted")._replace(about={"regimes": ["step noise", "memorised"]})
    titles = [one.title for one in sentences([both])]
    assert "Where a training set is memorised, flatness improves averaged samples, not held-out loss" in titles


def test_memorised_studies_are_not_among_those_where_nothing_is() -> None:
    memorised = column("a", "refuted", 0.5)._replace(about={"regimes": ["step noise", "memorised"]})
    averaged = sentences([memorised, column("b", "confirmed", -0.5)])[2]
    assert averaged.title == "Averaging takes the gain away"
    assert averaged.text.startswith("In the 1 of these")


def test_what_is_not_measured_is_said() -> None:
    sentence_of = sentences([column("a", "confirmed", -0.5, L3a="cannot say", L3b="cannot say")])
    memorised = next(one for one in sentence_of if "memorised" in one.title)
    assert memorised.title.endswith("is open")
    assert "not measured" in memorised.text


def test_without_results_there_are_no_sentences() -> None:
    assert sentences([]) == []
    assert sentences([column("the paper's tables", "3 of 3 in print", 0.0)._replace(rung="5")]) == []
