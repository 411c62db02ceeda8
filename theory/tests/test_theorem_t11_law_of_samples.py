from typing import Any

import numpy as np
import pytest
import sympy

from theory.claims import theorem_t11_law_of_samples as module
from theory.claims.theorem_t11_law_of_samples import (
    ODE_MEAN,
    ODE_VARIANCE,
    SDE_VARIANCE,
    STATEMENT,
    check_laws,
    samplings,
)
from theory.model import sampling
from theory.model.gaussians import kl_divergence, standard_normal
from theory.model.perturbations import NotNormalizableError, perturbed_noise
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require

LINE = (np.array([[0.2]]), np.ones((1, 1)), np.ones(1))


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_simulated_paths_have_the_law() -> None:
    """20,000 paths by Euler-Maruyama, drawn from the score alone; a = c = 1/5."""
    rng = np.random.default_rng(0)
    step, steps, paths = 0.02, 300, 20_000
    sde, ode = rng.standard_normal((2, paths))
    for _ in range(steps):
        for name, x in (("sde", sde), ("ode", ode)):
            score = -x + 0.2 * x + 0.2
            if name == "sde":
                x += step * (x / 2 + score) + np.sqrt(step) * rng.standard_normal(paths)
            else:
                x += step * (x + score) / 2
    time = step * steps
    for x, law in ((sde, sampling.sde_law(*LINE, time)), (ode, sampling.ode_law(*LINE, time))):
        deviation = float(np.sqrt(law.covariance[0, 0]))
        # four standard errors, and Euler's error of a step over the mean and over the variance
        assert x.mean() == pytest.approx(law.mean[0], abs=4 * deviation / np.sqrt(paths) + step * deviation)
        assert x.var() == pytest.approx(law.covariance[0, 0], rel=4 * np.sqrt(2 / paths) + step)


def test_ancestral_sampling_forgets_and_the_ode_does_not() -> None:
    """The divergence from N(0, I), after processes of growing length."""
    data = standard_normal(1)
    sde = [kl_divergence(data, sampling.sde_law(*LINE, time)) for time in (6.0, 12.0, 24.0)]
    ode = [kl_divergence(data, sampling.ode_law(*LINE, time)) for time in (6.0, 12.0, 24.0)]
    assert abs(sde[2] - sde[1]) < 0.05 * sde[1]
    assert ode[2] > 1.5 * ode[1] > 2 * ode[0]
    limit = kl_divergence(data, perturbed_noise(-2 * LINE[0], *LINE[1:]))
    assert sde[2] == pytest.approx(limit, rel=5e-3)  # e^(-.3 * 24) of the start's mean is left


def test_the_law_at_time_zero_is_the_start() -> None:
    for law in (sampling.sde_law(*LINE, 0.0), sampling.ode_law(*LINE, 0.0)):
        assert law.mean[0] == 0
        assert law.covariance[0, 0] == 1


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("SDE_VARIANCE", SDE_VARIANCE.subs(module.value, module.value / 2)),  # e^I p in place of e^(2I) p
        ("SDE_VARIANCE", SDE_VARIANCE.subs(module.value, -module.value)),
        ("ODE_VARIANCE", ODE_VARIANCE.subs(module.tau, 2 * module.tau)),
        ("ODE_MEAN", -ODE_MEAN),
    ],
)
def test_the_checks_kill_wrong_formulas(name: str, mutant: sympy.Expr, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, name, mutant)
    assert finds_violation(samplings(), check_laws)


LAW: Any = sampling


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LAW.ode_law(*LINE, np.inf), "time is inf"),
        (lambda: LAW.ode_law(*LINE, -1.0), "time is -1"),
        (lambda: LAW.ode_law(*LINE, 1e6), "time is 1e.06, in which variances grow"),
        (lambda: LAW.sde_law([[0, 1], [-1, 0]], np.eye(2), [0, 0]), "delta is not admissible"),
        (lambda: LAW.sde_law(*LINE, 1.0, standard_normal(2)), "allowed: a Gaussian of dimension 1"),
    ],
)
def test_what_has_no_law_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
    with pytest.raises(NotNormalizableError, match="I - 2 delta"):
        sampling.sde_law(3 * LINE[0], *LINE[1:])
