"""The claims on the paper's printed numbers: some by hand, and that other numbers give other answers."""

from __future__ import annotations

import copy
import math

import pytest

from findings.ladder_claims import CLAIMS, LadderClaim
from findings.ladder_printed import in_print, printed
from findings.toy_study import paper


def claim(identifier: str) -> LadderClaim:
    return next(one for one in CLAIMS if one.identifier == identifier)


def test_some_by_hand() -> None:
    raw = {one.of: one for one in printed(claim("L1a"))}
    assert raw["cifar10, T' = 20"].value == pytest.approx(math.log(9.01 / 34.47))
    assert len(raw) == 6
    assert all(one.holds for one in raw.values())
    averaged = printed(claim("L2e"))  # plain training with EMA against SAM's raw weights
    assert sum(one.holds for one in averaged) == 2
    assert {one.of for one in averaged if one.holds} == {"lsun-tower, T' = 20", "lsun-tower, T' = 100"}
    (rounded,) = printed(claim("L8a"))
    assert rounded.value == pytest.approx(math.log(8.94 / 9.01))
    gaps = {one.of: one.value for one in printed(claim("L4a"))}
    by_hand = ((9.01 - 7.00) / 0.063) / ((34.47 - 10.63) / 0.097)
    assert gaps["cifar10, T' = 20"] == pytest.approx(math.log(by_hand))


def test_other_numbers_give_other_answers() -> None:
    changed = copy.deepcopy(paper())
    for data in ("cifar10", "lsun-tower", "ffhq"):
        for steps in ("20", "100"):
            changed["fid"][data][steps]["sam"] = 100.0
    assert not any(one.holds for one in printed(claim("L1a"), changed))
    assert all(one.holds for one in printed(claim("L2d"), changed))  # SAM is no part of it


def test_what_the_paper_does_not_print_is_left_out() -> None:
    assert printed(claim("L5b")) == []  # random weight perturbation
    assert printed(claim("L1b")) == []  # its largest radius
    assert printed(claim("L7c")) == []  # worst-case rises
    known = in_print()
    assert "L1d" not in known  # a claim of the regime that its runs are not in
    assert all(numbers for numbers in known.values())
