from theory.claims import appendix_slips
from theory.claims.appendix_slips import PROMISES, PROVED, STATEMENTS
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, require


@every_evidence(*STATEMENTS)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_a_promise_that_is_kept_is_not_counted() -> None:
    missing = [promise.what for promise in PROMISES if not promise.place]
    assert missing == ["visual comparisons, Appendix 2.2", "discussion and results of post-hoc EMA, Appendix 2.3"]
    assert [name for name, proved in PROVED.items() if not proved] == ["Proposition 1", "Theorem 2"]
    assert len({promise.what for promise in appendix_slips.PROMISES}) == len(PROMISES)
