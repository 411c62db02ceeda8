import numpy as np
import pytest
import sympy

from theory.claims import theorem_t6_sam as module
from theory.claims.theorem_t6_sam import (
    FULL_BATCH_RISE,
    PER_SAMPLE,
    PER_SAMPLE_MEAN,
    STATEMENT,
    check_full_batch,
    check_per_sample,
    sphere_maximum,
    steps,
)
from theory.proof.statement import Evidence, InstanceCheck, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize(
    ("shift", "radius", "largest"),
    [
        ([[0.0, 0.0]], 1.0, 4 / 4),  # at a minimum: radius along the top, lambda = 4, over m^2
        ([[0.0, 2.0]], 1.0, 4 * 9 / 4),  # a shift along the top
        ([[0.1, 0.0]], 1.0, (0.1**2 * 4 / 3 + 4) / 4),  # the hard case: none along the top, mu = 4
        ([[3.0, 0.0]], 0.5, 3.5**2 / 4),  # far along the flat direction: straight on
    ],
)
def test_sphere_maximum(shift: list[list[float]], radius: float, largest: float) -> None:
    G = np.diag([1.0, 4.0])
    value, worst = sphere_maximum(G, np.array(shift), radius)
    assert value == pytest.approx(largest, rel=1e-9)  # the root is found to 1e-14, the rest is rounding
    assert np.linalg.norm(worst) == pytest.approx(radius, rel=1e-9)
    around = radius * np.stack([np.cos(t := np.linspace(0, 2 * np.pi, 2001)), np.sin(t)], axis=-1)
    grid = (((around + shift) @ G) * (around + shift)).sum(axis=1).max() / 4
    assert grid == pytest.approx(value, rel=1e-4)  # the grid's step, squared


@pytest.mark.parametrize(
    ("name", "mutant", "check"),
    [
        ("FULL_BATCH_RISE", 2 * FULL_BATCH_RISE, check_full_batch),
        ("FULL_BATCH_RISE", -FULL_BATCH_RISE, check_full_batch),
        ("PER_SAMPLE", PER_SAMPLE.subs(module.rho, -module.rho), check_per_sample),
        ("PER_SAMPLE_MEAN", PER_SAMPLE_MEAN.subs(sympy.Trace(module.G), 0), check_per_sample),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str, mutant: sympy.Expr, check: InstanceCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, mutant)
    assert fails_without(f"the right {name}", steps(), check).run().holds
