import numpy as np
import pytest
import sympy

from theory.claims import definition_3_2_gap_robustness as module
from theory.claims.definition_3_2_gap_robustness import (
    RADIUS,
    STATEMENT,
    TILT_KL_BOUND,
    TILT_RISE,
    Shift,
    check_radius,
    loss_against,
    tilt_divergence,
)
from theory.model.gaussians import Gaussian, kl_divergence, standard_normal
from theory.model.perturbations import gap_radius
from theory.proof.notation import k, kappa
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_shift_against_the_gaussians() -> None:
    # E = 1/50: a = 1/5.
    divergence = kl_divergence(standard_normal(1), Gaussian(np.array([0.2]), np.eye(1)))
    assert divergence == pytest.approx(1 / 50, rel=1e-14)  # a few roundings


@pytest.mark.parametrize(("wave", "expected"), [(1, 0.567668), (2, 1.000335), (8, 4.0)])
def test_rise_of_the_ripple(wave: int, expected: float) -> None:
    assert float(TILT_RISE.subs(k, wave)) == pytest.approx(expected, abs=5e-7)  # six digits after the point are given


def test_divergence_of_the_ripple_is_positive_and_nearly_half_its_bound() -> None:
    # For short waves log E e^-I = E I^2 / 2 + O(1/k^2) = 1/(4 k) + O(1/k^2); I^4 / 24 is at most 1/(24 k^2).
    assert tilt_divergence(16) == pytest.approx(1 / 64, abs=1 / (24 * 16**2))


@pytest.mark.parametrize("rise", [1e-4, 1.0, 9.0])
def test_radius_agrees_with_the_function_that_the_project_computes(rise: float) -> None:
    # The formula subtracts numbers of order sqrt(kappa); 1e-12 relative covers that down to kappa = 1e-4.
    assert float(RADIUS.subs(kappa, rise)) == pytest.approx(gap_radius(rise), rel=1e-12)


def test_the_check_tells_a_ripple_from_a_perturbed_density() -> None:
    ripple = Shift("k=64", float(TILT_KL_BOUND.subs(k, 64)), float(TILT_RISE.subs(k, 64)))
    assert not all(comparison.holds() for comparison in check_radius(ripple))


def _evidence(shows: str) -> Evidence:
    return next(evidence for evidence in STATEMENT.evidence if shows in evidence.shows)


@pytest.mark.parametrize(
    ("name", "mutant", "shows"),
    [
        ("TILT_RISE", k * (1 - sympy.exp(-2 * k**2)) / 2, "ripple's expected loss rise"),
        ("TILT_RISE", k / 2, "divergence and rise of the ripples"),
        ("TILT_KL_BOUND", 1 / (8 * k), "divergence and rise of the ripples"),
        ("TILT", sympy.sin(k * module._x), "its divergence is at most"),
        ("TILT", sympy.cos(k * module._x) / sympy.sqrt(k), "its divergence is at most"),
        ("RADIUS", 2 * RADIUS, "over perturbed densities"),
        ("RADIUS", RADIUS.subs(sympy.sqrt(kappa), -sympy.sqrt(kappa)), "rises with kappa"),
    ],
)
def test_the_evidence_kills_mutants(monkeypatch: pytest.MonkeyPatch, name: str, mutant: sympy.Expr, shows: str) -> None:
    monkeypatch.setattr(module, name, mutant)
    assert not _evidence(shows).run().holds


def test_the_shift_evidence_kills_a_flipped_score(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "loss_against", lambda density, score: loss_against(-density, score))
    assert not _evidence("a shift").run().holds
