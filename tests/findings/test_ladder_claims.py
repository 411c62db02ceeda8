"""The ladder's claims: well formed, and decidable by what runs are asked to record."""

import re

from findings.ladder_claims import CLAIMS, RAW_CHECKPOINTS, SHARES_OF_THE_RUN


def test_identifiers_are_unique_and_in_order() -> None:
    identifiers = [claim.identifier for claim in CLAIMS]
    assert all(re.fullmatch(r"L\d+[a-z]", identifier) for identifier in identifiers)
    key = [(int(re.findall(r"\d+", name)[0]), name[-1]) for name in identifiers]
    assert key == sorted(set(key))


def test_regions_are_intervals_that_can_be_missed() -> None:
    for claim in CLAIMS:
        low, high = claim.region
        assert low < high
        assert (low, high) != (-float("inf"), float("inf"))


def test_each_statement_is_its_own() -> None:
    assert len({claim.statement for claim in CLAIMS}) == len(CLAIMS)


def test_plain_training_has_no_dose_and_flatteners_have_one() -> None:
    for claim in CLAIMS:
        for selection in (claim.subject, claim.against):
            assert (selection.dose == "none") == (selection.method in ("adm", "ip")), claim.identifier


def test_raw_rows_are_never_one_checkpoint() -> None:
    late = [share for share in SHARES_OF_THE_RUN if share >= 0.8]
    assert len(late) == RAW_CHECKPOINTS
    assert SHARES_OF_THE_RUN[-1] == 1.0
    assert list(SHARES_OF_THE_RUN) == sorted(SHARES_OF_THE_RUN)
