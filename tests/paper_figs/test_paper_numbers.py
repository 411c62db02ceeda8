"""The paper's printed numbers: transcribed twice, whole, and each block with its source."""

from itertools import product
from typing import Any

from findings import toy_study, trained
from findings.names import NINE, PAPER_RADIUS
from theory.claims.tables_1_and_4_arithmetic import TABLE_2, TABLE_4

KEYS = {"ADM": "adm", "+EMA": "adm+ema", "+SAM": "sam", "+SAM+EMA": "sam+ema"}


def test_the_paper_s_numbers_are_those_that_the_theory_checks() -> None:
    """Two transcriptions of Tables 1, 2 and 4, made for different ends, agree."""
    paper = toy_study.paper()
    for row in TABLE_4:
        place, method = ("cifar10", str(row.steps)), KEYS[row.method]
        for key, text in (("fid", row.full_precision), ("fid_at_8_bits", row.quantised)):
            assert paper[key][place[0]][place[1]][method] == float(text)
        assert paper["fid_change_at_8_bits"][place[0]][place[1]][method] == float(row.change)
    for (name, steps), fid in TABLE_2.items():
        assert paper["fid"]["cifar10"][str(steps)][KEYS[name]] == float(fid)


def test_the_paper_s_tables_are_whole_and_say_where_they_are_from() -> None:
    paper = toy_study.paper()
    for dataset, steps in product(trained.PAPERS, ("20", "100")):
        assert list(paper["fid"][dataset][steps]) == list(NINE)
    for dataset in ("cifar10", "lsun-tower"):
        assert list(paper["lpf"][dataset]) == list(NINE)
    assert paper["lpf"]["sources"] == {"cifar10": "Table 3", "lsun-tower": "Table 5"}
    assert paper["epsilon_norm_gap"]["cifar10"] == {"adm": 11.39, "sam": 3.32}
    assert paper["training"]["sam_rho"][0] == PAPER_RADIUS
    assert all(block["source"] for key, block in paper.items() if key != "about")
    # one of each data set and each table, by eye
    assert paper["fid"]["lsun-tower"]["100"]["sam+swa"] == 2.27
    assert paper["fid"]["ffhq"]["20"]["ip"] == 15.03
    assert paper["lpf"]["lsun-tower"]["ip+swa"] == 0.097


def test_no_number_of_the_paper_has_more_decimals_than_are_printed() -> None:
    def numbers(entry: Any) -> list[float]:
        if isinstance(entry, dict):
            return [number for value in entry.values() for number in numbers(value)]
        return [entry] if isinstance(entry, float) else []

    for block in toy_study.paper().values():
        if isinstance(block, dict) and "decimals" in block:
            assert all(round(number, block["decimals"]) == number for number in numbers(block))
            assert len(numbers(block)) > 1
