from typing import Any

import numpy as np
import pytest
import sympy

from theory.claims import theorem_t14_pac_bayes as module
from theory.claims.theorem_t14_pac_bayes import (
    BUDGET,
    DIVERGENCE,
    LINEAR,
    MOMENT,
    STATEMENT,
    check_bound,
    check_learning,
    learnings,
    two_gaussians,
)
from theory.model import pac_bayes
from theory.proof.statement import Evidence, InstanceCheck
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_pinned_numbers() -> None:
    """kl(0 || p) = -log(1 - p), so with no training loss the bound is 1 - e^-budget."""
    bound = pac_bayes.pac_bayes_bound(0.0, 3.0, 50, 2.0, 0.1)
    budget = (3 + np.log(2 * np.sqrt(50) / 0.1)) / 50
    assert bound.budget == pytest.approx(budget, rel=1e-14)
    assert bound.value == pytest.approx(2 * (1 - np.exp(-budget)), rel=1e-12)
    assert bound.linear == pytest.approx(2 * np.sqrt(budget / 2), rel=1e-14)
    assert pac_bayes.gaussian_divergence(0.0, 7, 0.3, 0.3) == 0
    assert pac_bayes.binary_divergence(0.5, 0.25) == pytest.approx(np.log(2) / 2 + np.log(2 / 3) / 2)


def test_more_samples_tighten_the_bound_and_more_divergence_loosens_it() -> None:
    values = [pac_bayes.pac_bayes_bound(0.2, 10.0, samples, 1.0).value for samples in (10, 100, 1000, 10_000)]
    assert (np.diff(values) < 0).all()
    values = [pac_bayes.pac_bayes_bound(0.2, divergence, 1000, 1.0).value for divergence in (0.0, 10.0, 100.0)]
    assert (np.diff(values) > 0).all()


def test_the_least_share_spends_the_budget() -> None:
    share = pac_bayes.least_noise_share(1000, 50, 2.0)
    assert pac_bayes.gaussian_divergence(0.0, 1000, share, 1.0) / 50 == pytest.approx(2.0, rel=1e-9)
    assert share < 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_example_holds_for_other_draws(seed: int) -> None:
    certificate = module.example(images=5000, seed=seed)
    assert certificate.expected < certificate.bound.value < certificate.bound.linear


@pytest.mark.parametrize(
    ("name", "mutant", "check", "instances"),
    [
        ("MOMENT", MOMENT / 2, check_learning, learnings()),
        ("DIVERGENCE", DIVERGENCE.subs(module.ratio, 1 / module.ratio), check_bound, two_gaussians()),
        ("DIVERGENCE", -DIVERGENCE, check_bound, two_gaussians()),
        ("BUDGET", BUDGET / 2, check_bound, two_gaussians()),
        ("LINEAR", LINEAR / 2, check_bound, two_gaussians()),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str, mutant: sympy.Expr, check: InstanceCheck, instances: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, mutant)
    assert finds_violation(instances, check)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pac_bayes.pac_bayes_bound(1.5, 1.0, 10, 1.0), "empirical is 1.5"),
        (lambda: pac_bayes.pac_bayes_bound(0.5, 1.0, 10, 1.0, 1.0), "failure 1.0"),
        (lambda: pac_bayes.pac_bayes_bound(0.5, -1.0, 10, 1.0), "divergence is -1"),
        (lambda: pac_bayes.binary_divergence(0.5, 1.5), "p is 1.5"),
        (lambda: pac_bayes.gaussian_divergence(1.0, 0, 1.0), "weights is 0"),
    ],
)
def test_what_has_no_bound_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
