from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from theory.claims import section_4_4_printed_robustness as module
from theory.claims.section_4_4_printed_robustness import COLUMNS, GAPS, PIXELS, STATEMENTS, changes
from theory.proof.printed import Cell, fid_at_8_bits
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, require


@every_evidence(*STATEMENTS)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_numbers_are_exact() -> None:
    assert {"adm": Fraction(1139, 100), "sam": Fraction(332, 100)} == GAPS
    assert fid_at_8_bits(Cell("cifar10", 20))["adm+ema"] == Fraction(2065, 100)
    made = [float(change) for sam, cell in product((False, True), COLUMNS) for change in changes(cell, sam)]
    assert made == pytest.approx([13.55, 10.02, 3.98, 3.3, -0.07, 0.2, 0.19, -0.06])


@pytest.mark.parametrize("row", ["sam", "adm"])
def test_the_evidence_follows_the_numbers(row: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows exchanged: SAM's FID at 8 bits that of ADM, or the other way round."""

    def changed(cell: Cell) -> dict[str, Fraction]:
        rounded = fid_at_8_bits(cell)
        return rounded | {row: rounded["adm" if row == "sam" else "sam"]}

    monkeypatch.setattr(module, "fid_at_8_bits", changed)
    (claim,) = (statement for statement in STATEMENTS if statement.label == "section-4.4-quantisation")
    assert not any(evidence.run().holds for evidence in claim.evidence)


def test_the_step_by_rounding_itself() -> None:
    """Uniform weights of one range, rounded to 15 and to 255 steps: mean squared errors 289 apart."""
    weights = np.linspace(-1, 1, 1_000_003)
    errors = [np.mean((np.round((weights + 1) / (2 / n)) * (2 / n) - 1 - weights) ** 2) for n in (15, 255)]
    assert errors[0] / errors[1] == pytest.approx(289, rel=1e-3)  # the grid of a million points


def test_the_size_of_the_noise_by_sampling() -> None:
    norms = np.linalg.norm(np.random.default_rng(0).standard_normal((2000, PIXELS)), axis=1)
    assert norms.mean() == pytest.approx(np.sqrt(PIXELS), rel=1e-3)
