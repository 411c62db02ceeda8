from fractions import Fraction

import numpy as np
import pytest

from theory.claims.section_4_3_printed_flatness import PIXELS, PRINTED_GAP, STATEMENTS, changes
from theory.proof.printed import lpf
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, require


@every_evidence(*STATEMENTS)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_numbers_are_exact() -> None:
    assert lpf("cifar10", "adm") == Fraction(97, 1000)
    assert lpf("lsun-tower", "ip+swa") == Fraction(97, 1000)
    assert Fraction(1139, 100) == PRINTED_GAP


def test_every_change_by_ema_swa_and_ip_is_counted() -> None:
    """Two averages on three methods, and IP at three averagings, on two data sets."""
    found = changes()
    assert len(found) == 18
    assert len({name for name, _ in found}) == 18
    assert max(found, key=lambda change: change[1]) == ("LSUN Tower, ip+swa - ip", Fraction(8, 1000))


def test_the_size_of_the_noise_by_sampling() -> None:
    norms = np.linalg.norm(np.random.default_rng(0).standard_normal((2000, PIXELS)), axis=1)
    assert norms.mean() == pytest.approx(np.sqrt(PIXELS), rel=1e-3)
