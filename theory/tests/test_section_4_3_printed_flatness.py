from fractions import Fraction

import pytest

from theory.claims import section_4_3_printed_flatness as module
from theory.claims.section_4_3_printed_flatness import STATEMENTS, changes
from theory.proof.printed import lpf
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, require


@every_evidence(*STATEMENTS)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_numbers_are_exact() -> None:
    assert lpf("cifar10", "adm") == Fraction(97, 1000)
    assert lpf("lsun-tower", "ip+swa") == Fraction(97, 1000)


def test_every_change_by_ema_swa_and_ip_is_counted() -> None:
    """Two averages on three methods, and IP at three averagings, on two data sets."""
    made = changes()
    assert len(made) == 18
    assert len({name for name, _ in made}) == 18
    assert max(made, key=lambda change: change[1]) == ("LSUN Tower, ip+swa - ip", Fraction(8, 1000))


def test_a_radius_beyond_those_of_classifiers_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    (claim,) = (statement for statement in STATEMENTS if statement.label == "introduction-radius")
    assert all(evidence.run().holds for evidence in claim.evidence)
    monkeypatch.setattr(module, "RADII", (Fraction(1, 10), Fraction(1, 100), Fraction(2)))
    assert not any(evidence.run().holds for evidence in claim.evidence)
