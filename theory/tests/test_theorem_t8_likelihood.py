from typing import Any

import numpy as np
import pytest
import sympy

from theory.claims import theorem_t8_likelihood as module
from theory.claims.theorem_t8_likelihood import (
    READOUT,
    STATEMENT,
    WEIGHT,
    Chain,
    chains,
    check_gap,
    check_paths,
    check_readout,
    readouts,
)
from theory.model import likelihood
from theory.model.gaussians import Gaussian, kl_divergence
from theory.proof.statement import Evidence, InstanceCheck
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def long_chain(steps: int, error: float) -> Chain:
    """Data N(1/2, 1/4) on the line; the exact noise prediction (model 0), and one whose slope is off by a share."""
    bars = np.cos(np.linspace(0.1, 1.5, steps)) ** 2
    variance = bars / 4 + 1 - bars  # of x_t
    slopes = np.sqrt(1 - bars) / variance
    shifts = -slopes * np.sqrt(bars) / 2
    factors = np.array([1.0, 1 + error, 1 - error])
    variances = likelihood.reverse_variances(bars, "large")
    return Chain(
        np.array([0.5]), np.array([[0.25]]), bars, variances, (factors[:, None] * slopes)[..., None, None],
        (factors[:, None] * shifts)[..., None], np.array([0.5, 0.5]), np.tile(variances, (3, 1)),
    )  # fmt: skip


def test_forty_steps() -> None:
    """The divergence of two paths of 41 coordinates against the sum over steps; and how much x_0 alone shows of it."""
    chain = long_chain(40, 0.05)
    for check in (check_paths, check_gap):
        assert all(comparison.holds() for comparison in check(chain))
    data = Gaussian(*chain.block(chain.data_path, 0))
    gap = kl_divergence(chain.data_path, chain.path(1))
    seen = kl_divergence(data, Gaussian(*chain.block(chain.path(1), 0)))
    assert 0 < seen < gap
    weights = likelihood.likelihood_weights(chain.bars, "large")
    rise = likelihood.likelihood_rise(chain.squared_errors(1) - chain.squared_errors(0), weights)
    assert rise == pytest.approx(gap - kl_divergence(chain.data_path, chain.path(0)), rel=1e-9)


def test_the_exact_noise_prediction_is_where_the_weighted_loss_is_least() -> None:
    chain = long_chain(12, 0.01)
    errors = [chain.squared_errors(model) for model in range(3)]
    assert (errors[0] < errors[1]).all()
    assert (errors[0] < errors[2]).all()


def test_pinned_weights() -> None:
    """DDPM's linear schedule: the first steps count most; w_1 = beta_1 / (2 sigma_1^2 alpha_1) since 1 - bar = beta."""
    betas = np.linspace(1e-4, 0.02, 1000)
    bars = np.cumprod(1 - betas)
    large, small = (likelihood.likelihood_weights(bars, name) for name in likelihood.VARIANCES[::-1])
    assert large[0] == pytest.approx(1 / (2 * (1 - 1e-4)), rel=1e-9)
    second = betas[1] * betas[0] / (1 - bars[1])
    assert small[0] == pytest.approx(1e-4 / (2 * second * (1 - 1e-4)), rel=1e-9)
    assert (np.diff(large[1:200]) < 0).all()
    assert large[1] / large[499] > 20  # what training weighs alike
    assert np.allclose(likelihood.likelihood_weights(bars, betas), large, rtol=1e-9)
    assert likelihood.bits_per_dimension(np.log(2) * 6, 3) == pytest.approx(2)


@pytest.mark.parametrize(
    ("name", "mutant", "check", "instances"),
    [
        ("WEIGHT", 2 * WEIGHT, check_paths, chains()),
        ("WEIGHT", -WEIGHT, check_gap, chains()),
        ("WEIGHT", sympy.Integer(1), check_gap, chains()),  # training's
        ("READOUT", READOUT / module.d, check_readout, readouts()),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str, mutant: sympy.Expr, check: InstanceCheck, instances: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    module._weights.cache_clear()
    module._readout_factor.cache_clear()
    monkeypatch.setattr(module, name, mutant)
    try:
        assert finds_violation(instances, check)  # type: ignore[arg-type]
    finally:
        module._weights.cache_clear()
        module._readout_factor.cache_clear()


def test_the_rounding_bound_is_attained() -> None:
    """One feature phi = 1, theta = 0 a minimum at targets 0: every error at q/2 has the same direction to go in."""
    weights, moments = np.array([0.5, 2.0]), np.ones((2, 1, 1))
    bound = likelihood.rounding_bound(0.2, moments, weights, 3)
    assert bound == pytest.approx(2.5 * 3 * 0.1**2, rel=1e-14)


LIKELIHOOD: Any = likelihood  # lists are accepted too; the signatures, which name arrays, are not asked here


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LIKELIHOOD.likelihood_weights([0.5, 0.5]), "alpha_bar is .*fall strictly"),
        (lambda: LIKELIHOOD.likelihood_weights([1.0, 0.5]), "alpha_bar is"),
        (lambda: LIKELIHOOD.likelihood_weights([0.5], "small"), "alpha_bar has one step"),
        (lambda: LIKELIHOOD.likelihood_weights([0.5, 0.4], [0.1, 0.0]), "variances has the entry 0"),
        (lambda: LIKELIHOOD.likelihood_weights([0.5, 0.4], "learned"), "variances is 'learned'"),
        (lambda: LIKELIHOOD.readout_rise(1.0, [-1.0], [1.0], 1, 1), "energies has the entry -1"),
    ],
)
def test_what_has_no_answer_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
