import numpy as np
import pytest

from theory.claims import theorem_t4_robust_radius as module
from theory.claims.theorem_t4_robust_radius import STATEMENT, check_attained, check_gap_radius, check_two_sided, free
from theory.model.perturbations import gap_radius
from theory.proof import strategies
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda kappa, name="kl": gap_radius(kappa, name) * 1.01,  # too large by a hundredth
        lambda kappa, name="kl": gap_radius(kappa, name) * 0.99,
        lambda kappa, name="kl": gap_radius(kappa**2, name),  # forgets the square root
    ],
    ids=["too large", "too small", "no root"],
)
def test_a_wrong_radius_is_found_out(mutant: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gap_radius", mutant)
    assert finds_violation(strategies.models().filter(free), check_attained)


def test_a_radius_too_large_contradicts_some_perturbation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gap_radius", lambda kappa, name="kl": 1.01 * gap_radius(kappa, name))
    assert finds_violation(strategies.admissible(), check_gap_radius)


def test_the_factors_of_the_two_sided_bounds_are_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """With J a tenth larger or smaller one side or the other fails: both are near their limits somewhere."""
    from theory.model import perturbations

    honest = perturbations.loss_rise
    for factor in (1.1, 0.9):
        monkeypatch.setattr(perturbations, "loss_rise", lambda *a, f=factor: f * honest(*a))
        assert finds_violation(strategies.admissible(), check_two_sided)


def test_value() -> None:
    assert gap_radius(1.0) == pytest.approx((1 - np.log(2)) / 2, rel=1e-15)
