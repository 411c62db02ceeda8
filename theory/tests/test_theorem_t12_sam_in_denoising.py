import numpy as np
import pytest
import sympy
from hypothesis.strategies import SearchStrategy

from theory.claims import theorem_t12_sam_in_denoising as module
from theory.claims.theorem_t12_sam_in_denoising import (
    EXCESS,
    GRADIENT_SQUARE,
    NOISY_GRADIENT,
    REMAINDER,
    STATEMENT,
    check_ascent,
    check_gradient,
    check_noisy_gradient,
    check_stationary,
    denoising,
    descents,
)
from theory.model import step_noise
from theory.proof.statement import Evidence, InstanceCheck
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_a_simulated_sgd_stays_as_far_above_the_minimum_as_its_formula_says() -> None:
    """1,500 chains of SGD on a random least-squares problem, drawn and stepped as a user would."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 6, 2))
    y = y[:, 0]
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    hessians, gradients = 2 * np.einsum("ni,nj->nij", x, x), 2 * (x @ best - y)[:, None] * x
    rate, decay, batch, chains = 0.05, 0.9, 2, 1500
    w, v = np.tile(best, (2, chains, 1))
    for _ in range(400):
        at = rng.integers(6, size=(chains, batch))
        error = np.einsum("cbi,ci->cb", x[at], w) - y[at]
        w = w - rate * 2 * np.einsum("cb,cbi->ci", error, x[at]) / batch
        v = decay * v + (1 - decay) * w
    law = step_noise.stationary_sgd(hessians, gradients, rate, batch)
    shares = step_noise.ema_share(np.linalg.eigvalsh(law.hessian), rate, decay)
    assert rate * np.linalg.eigvalsh(law.hessian)[0] * 400 > 6  # e^-6 of the start is left at most
    for iterate, share in ((w, 1.0), (v, shares)):
        losses = ((iterate @ x.T - y) ** 2).mean(axis=1) - ((x @ best - y) ** 2).mean()
        error = losses.std() / np.sqrt(chains)
        assert losses.mean() == pytest.approx(
            step_noise.averaged_excess(law.hessian, law.covariance, share), abs=4 * error
        )


def test_pinned_numbers() -> None:
    """By hand: eta h = 1/2 leaves variance eta c / (h (2 - eta h)) = 1/3 of c at h = 1."""
    covariance = step_noise.stationary_covariance(np.eye(1), np.eye(1), 0.5)
    assert covariance[0, 0] == pytest.approx(1 / 3, rel=1e-14)
    assert step_noise.ema_share(np.array([1.0]), 0.5, 0.0) == pytest.approx(1)
    assert step_noise.swa_share(np.array([1.0]), 0.5, 2) == pytest.approx((2 + 2 * 0.5) / 4)
    assert step_noise.swa_share(np.array([1.0]), 0.5, 2, every=3) == pytest.approx((2 + 2 * 0.125) / 4)
    assert step_noise.sam_dose(0.1, 2.0, 0.4) == pytest.approx(0.5)
    # penalty .1 * 2 = .2; s^2 R = .1 at half of it
    assert step_noise.matched_noise(0.1, 2.0, 10.0) ** 2 * 10 == pytest.approx(0.1)


def test_like_hessians_solve_the_lyapunov_equation() -> None:
    rng = np.random.default_rng(1)
    root, gradients = rng.standard_normal((3, 3)), rng.standard_normal((5, 3))
    gradients -= gradients.mean(axis=0)
    hessian = root @ root.T + np.eye(3)
    law = step_noise.stationary_sgd(np.tile(hessian, (5, 1, 1)), gradients, 0.05, 3)
    covariance = step_noise.stationary_covariance(hessian, law.noise, 0.05)
    assert np.allclose(covariance, law.covariance, rtol=1e-10, atol=1e-14)  # two solvers, a few hundred roundings
    left = hessian @ covariance + covariance @ hessian - 0.05 * hessian @ covariance @ hessian
    assert np.allclose(left, 0.05 * law.noise, rtol=1e-10, atol=1e-14)


def test_a_plain_mean_keeps_less_the_longer_it_is_and_an_average_the_slower() -> None:
    curvatures = np.array([0.1, 1.0, 10.0])
    for function, values in ((step_noise.swa_share, (1, 10, 100)), (step_noise.ema_share, (0.0, 0.9, 0.999))):
        shares = [function(curvatures, 0.05, value) for value in values]  # type: ignore[arg-type]
        assert np.allclose(shares[0], 1)
        assert (shares[2] < shares[1]).all()
        assert (shares[1] < 1).all()
        assert (np.diff(shares[2]) < 0).all()  # stiff directions are averaged best


@pytest.mark.parametrize(
    ("name", "mutant", "check", "instances"),
    [
        ("GRADIENT_SQUARE", GRADIENT_SQUARE * module.B, check_gradient, denoising()),
        ("GRADIENT_SQUARE", -GRADIENT_SQUARE, check_gradient, denoising()),
        ("REMAINDER", REMAINDER / 2, check_ascent, denoising(minimum=False)),
        ("EXCESS", EXCESS.subs(module.M, module.C), check_stationary, descents()),
        (
            "SHARE",
            module.share_rate / (module.share_rate + module.rate * module.curvature),
            check_stationary,
            descents(),
        ),
        (
            "NOISY_GRADIENT",
            NOISY_GRADIENT.subs(module.noise, sympy.sqrt(module.noise)),
            check_noisy_gradient,
            descents(),
        ),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str,
    mutant: sympy.Expr,
    check: InstanceCheck,
    instances: SearchStrategy[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module._square.cache_clear()
    monkeypatch.setattr(module, name, mutant)
    try:
        assert finds_violation(instances, check)
    finally:
        module._square.cache_clear()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: step_noise.stationary_covariance(np.eye(2), np.eye(2), 2.0), "rate is 2; allowed: below 2"),
        (lambda: step_noise.stationary_covariance(np.diag([1.0, 0.0]), np.eye(2), 0.1), "hessian has eigenvalue 0"),
        (lambda: step_noise.stationary_sgd(np.ones((2, 1, 1)), np.ones((2, 1)), 0.1), "gradients have a mean of 1"),
        (lambda: step_noise.stationary_sgd(np.ones((2, 1, 1)), np.array([[1.0], [-1]]), 2.5), "second moments by 2.25"),
        (lambda: step_noise.ema_share(np.array([1.0]), 0.1, 1.0), "decay is 1"),
        (lambda: step_noise.sam_dose(0.1, 1.0, 0.0), "loss is 0"),
    ],
)
def test_what_has_no_answer_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
