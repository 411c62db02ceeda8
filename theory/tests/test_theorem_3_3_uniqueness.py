import numpy as np
import pytest
import sympy

from theory.claims import theorem_3_3_uniqueness as module
from theory.claims.theorem_3_3_uniqueness import POTENTIAL, STATEMENT, C, candidates, check_candidate, check_norms
from theory.model.gaussians import Gaussian, kl_divergence, standard_normal
from theory.model.perturbations import perturbed_noise
from theory.proof.notation import A, c, x
from theory.proof.statement import Evidence, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize(("delta", "variance", "divergence"), [(0.5, 2 / 3, 0.0473), (-0.5, 2.0, 0.0966)])
def test_the_two_densities_of_the_counterexample(delta: float, variance: float, divergence: float) -> None:
    one = np.ones((1, 1))
    assert perturbed_noise(delta * one, one, np.zeros(1)).covariance[0, 0] == pytest.approx(variance, rel=1e-15)
    gaussian = Gaussian(np.zeros(1), variance * one)
    assert kl_divergence(standard_normal(1), gaussian) == pytest.approx(divergence, abs=5e-5)  # four digits are given


def test_the_check_kills_a_shift_without_its_mean_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESIDUAL_SHIFT", A * x - c)
    assert fails_without("c's sign", candidates((1.0,)), check_norms).run().holds


@pytest.mark.parametrize("factor", [-1, 2])
def test_the_check_kills_a_wrong_potential(monkeypatch: pytest.MonkeyPatch, factor: int) -> None:
    monkeypatch.setattr(module, "POTENTIAL", (factor * (POTENTIAL - C) + C).doit())
    assert fails_without("the potential", candidates((1.0,)), check_candidate).run().holds


def test_what_the_falsifier_finds_is_the_density_and_not_the_norms() -> None:
    # delta and -delta differ by rounding alone in (11), so its comparison holds wherever the density's fails.
    falsifier = next(evidence for evidence in STATEMENT.evidence if "fails without" in evidence.shows)
    violated = [line for line in falsifier.run().lines if line.startswith("violated")]
    assert violated
    assert all("log p_hat" in line for line in violated)


def test_the_line_integral_kills_a_potential_without_its_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POTENTIAL", x.T * A * x + x.T * c + C)
    evidence = next(evidence for evidence in STATEMENT.evidence if "determines" in evidence.shows)
    assert not evidence.run().holds


def test_formula_of_the_divergences_at_the_counterexample() -> None:
    half = sympy.Rational(1, 2)
    kl = module.DIVERGENCES["kl"].term_formula
    assert [round(float(kl.subs(module.TAU, tau) / 2), 4) for tau in (half, -half)] == [0.0473, 0.0966]
