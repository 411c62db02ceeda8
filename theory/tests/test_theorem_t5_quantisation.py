import numpy as np
import pytest
import sympy

from theory.claims import theorem_t5_quantisation as module
from theory.claims.theorem_t5_quantisation import (
    CODIMENSION,
    DITHER_RISE,
    STATEMENT,
    STOCHASTIC_RISE,
    WORST_CASE,
    check_dither,
    check_stochastic,
    check_worst_case,
    grid_steps,
    q,
    rank,
    rounding_ratios,
)
from theory.proof.empirical import quantised
from theory.proof.notation import G, d, m
from theory.proof.statement import Evidence, InstanceCheck, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_pinned_numbers() -> None:
    rise = DITHER_RISE.subs(sympy.Trace(G), 97).subs({d: 2, m: 128, q: sympy.Rational(1, 10)})
    assert rise == sympy.Rational(1, 1200) * 2 * 97 / 128**2
    assert [CODIMENSION.subs({d: 3, m: 7, rank: r}) for r in (0, 1, 2, 3)] == [0, 2, 3, 3]
    assert grid_steps(np.array([-3.0, 1.5]), 8) == pytest.approx(
        {"2 max/(2^bits - 1)": 6 / 255, "max/(2^(bits-1) - 1)": 3 / 127}
    )


def test_the_worst_case_is_attained() -> None:
    """One feature: every error at q/2 has the same sign in the only direction there is."""
    G_11, step, rows = 0.7, 0.3, 4
    error = np.full((rows, 1), step / 2)
    assert (error**2).sum() * G_11 == pytest.approx(module._worst_case()(step, G_11, rows, 1), rel=1e-14)  # roundings


def test_min_max_scaling_spares_the_largest_weight() -> None:
    """With q = max/(2^(bits-1) - 1) the largest weight lies on the grid: of d m errors one is 0, on average."""
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(2000):
        weights = rng.standard_normal(12)
        step = grid_steps(weights, 5)["max/(2^(bits-1) - 1)"]
        errors = step * np.round(weights / step) - weights
        ratios.append((errors**2).mean() / (step**2 / 12))
    error = np.std(ratios) / np.sqrt(len(ratios))
    assert np.mean(ratios) == pytest.approx(11 / 12, abs=4 * error)  # four standard errors, the seed is fixed


def test_plain_rounding_spreads_about_its_mean() -> None:
    ratios = rounding_ratios(4000, seed=7)
    assert np.std(ratios) > 0.1


@pytest.mark.parametrize(
    ("name", "mutant", "check"),
    [
        ("DITHER_RISE", 2 * DITHER_RISE, check_dither),
        ("DITHER_RISE", -DITHER_RISE, check_dither),
        ("STOCHASTIC_RISE", STOCHASTIC_RISE / 2, check_stochastic),
        ("WORST_CASE", WORST_CASE / 3, check_worst_case),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str, mutant: sympy.Expr, check: InstanceCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    module._worst_case.cache_clear()
    monkeypatch.setattr(module, name, mutant)
    try:
        assert fails_without(f"the right {name}", quantised(), check).run().holds
    finally:
        module._worst_case.cache_clear()
