"""The toy's own claims of the ladder: well formed, and about regimes, methods, doses and measures that there are."""

import re

from findings import ladder_claims
from findings.toy_ladder_claims import BETWEEN_REGIMES, RUNGS, WITHIN_A_REGIME
from toy import regimes

ARMS = {rung: [arm for regime in one.regimes for arm in regimes.arms_of(regime)] for rung, one in regimes.RUNGS.items()}


def test_identifiers_are_unique_in_order_and_not_the_networks() -> None:
    identifiers = [one.identifier for one in WITHIN_A_REGIME] + [one.identifier for one in BETWEEN_REGIMES]
    key = [(int(re.findall(r"\d+", name)[0]), name[-1]) for name in identifiers]
    assert key == sorted(set(key))
    assert not set(identifiers) & {claim.identifier for claim in ladder_claims.CLAIMS}


def test_regions_are_intervals_that_can_be_missed_and_statements_their_own() -> None:
    regions = [one.region for one in WITHIN_A_REGIME] + [one.region for one in BETWEEN_REGIMES]
    for low, high in regions:
        assert low < high
        assert (low, high) != (-float("inf"), float("inf"))
    statements = [one.statement for one in WITHIN_A_REGIME] + [one.statement for one in BETWEEN_REGIMES]
    assert len(set(statements)) == len(statements)


def test_every_method_is_trained_on_a_rung_where_it_is_claimed() -> None:
    for one in WITHIN_A_REGIME:
        for rung in one.rungs:
            assert rung in RUNGS
            methods = {arm.method for arm in ARMS[rung]}
            assert {one.subject.method, one.against.method} <= methods, one.identifier
            plain = [s for s in (one.subject, one.against) if s.method in ("adm", "ip")]
            assert all(selection.dose == "none" for selection in plain)


def test_claims_between_regimes_name_regimes_with_those_doses() -> None:
    for one in BETWEEN_REGIMES:
        for regime, dose in one.sides:
            doses = {arm.dose for arm in ARMS[one.rung] if arm.regime.name == regime and arm.method == one.method}
            assert doses, one.identifier
            assert dose is None or dose in doses, one.identifier
