"""The ladder's sentences: counts and titles follow the verdicts, and turn with them."""

from __future__ import annotations

import math

import pytest

from findings.ladder_page import Cell, Column
from findings.sentences import sentences, tally


def column(name: str, verdict: str, mean: float, **others: str) -> Column:
    """A study in which every claim has one verdict, but those named."""
    comparison = {"quantity": "distance-20", "dose": "0.03", "mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    names = ("L1a", "L1b", "L2a", "L2b", "L2d", "L3a", "L3b", "L5a", "L7a", "L7b", "L7c")
    cells = {
        claim: Cell(others.get(claim, verdict), "", [comparison | {"verdict": others.get(claim, verdict)}])
        for claim in names
    }
    return Column("2", name, {"regimes": ["step noise"]}, cells)


def test_a_tally_counts_studies_and_quotes_the_clearest() -> None:
    found = tally([column("a", "confirmed", -0.2), column("b", "refuted", 0.9), column("c", "cannot say", 0.0)], "L1a")
    assert (found.confirmed, found.refuted, found.other, found.studies) == (1, 1, 0, 2)
    assert found.words() == "confirmed in 1 of 2, refuted in 1 of 2"
    assert found.example == (
        f"distance-20 at 0.03 times {math.exp(0.9):.2f} [{math.exp(0.8):.2f}, {math.exp(1.0):.2f}] in b"
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
    found = sentences([column(name, "confirmed", -0.5, L1a=verdict) for name in "abc"])
    assert title in [sentence.title for sentence in found]


def test_half_of_the_studies_is_no_majority() -> None:
    found = sentences([column("a", "confirmed", -0.5), column("b", "refuted", 0.5)])
    assert [one.title for one in found if "mixed" in one.title or "open" in one.title or "depends" in one.title] == [
        one.title for one in found
    ]


def test_what_is_not_measured_is_said() -> None:
    found = sentences([column("a", "confirmed", -0.5, L3a="cannot say", L3b="cannot say")])
    memorised = next(one for one in found if "memorised" in one.title)
    assert memorised.title.endswith("is open")
    assert "not measured" in memorised.text


def test_without_results_there_are_no_sentences() -> None:
    assert sentences([]) == []
    assert sentences([column("the paper's tables", "3 of 3 in print", 0.0)._replace(rung="5")]) == []
