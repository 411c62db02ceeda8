import re

import numpy as np
import pytest

from theory.claims.section_3_2_which_density import (
    LEVELS,
    STATEMENTS,
    TWO_MODES,
    at_time,
    check_gaussian,
    check_residuals,
    timed,
    two_mode_divergences,
)
from theory.model import perturbations
from theory.model.gaussians import Gaussian, kl_divergence
from theory.model.perturbations import diffused, perturbed_noise, score_perturbation
from theory.model.perturbed_density import perturbed_density
from theory.model.worst_case import worst_case_divergence
from theory.proof.statement import Evidence
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(*STATEMENTS)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_the_law_of_x_t_by_sampling() -> None:
    """Mean and covariance of sqrt(a) x_0 + sqrt(1 - a) epsilon over 200,000 draws, to 5 standard errors."""
    data = Gaussian(np.array([1.0, -2.0]), np.array([[2.0, 0.5], [0.5, 1.0]]))
    generator = np.random.default_rng(0)
    draws = np.sqrt(0.3) * data.sample(200_000, generator) + np.sqrt(0.7) * generator.standard_normal((200_000, 2))
    law = diffused(data, 0.3)
    assert np.abs(draws.mean(axis=0) - law.mean).max() < 5 * np.sqrt(1.3 / 200_000)
    assert np.abs(np.cov(draws.T) - law.covariance).max() < 5 * 2 * 1.3 / np.sqrt(200_000)


@pytest.mark.parametrize("level", LEVELS)
def test_the_score_of_a_mixture_by_differences(level: float) -> None:
    at_t = TWO_MODES.at(level)
    x = np.linspace(-2, 2, 9)[:, None]
    slopes = (at_t.log_density(x + 1e-5) - at_t.log_density(x - 1e-5)) / 2e-5
    assert at_t.score(x)[:, 0] == pytest.approx(slopes, abs=1e-6)


def test_the_divergence_depends_on_the_level() -> None:
    divergences = [kl for kl, _ in two_mode_divergences()]
    assert max(divergences) > 1.5 * min(divergences)


def test_wrong_densities_are_noticed() -> None:
    assert finds_violation(timed(noise=True), check_residuals)
    assert finds_violation(timed(turned=True), check_residuals)
    assert finds_violation(at_time(noise=True), check_gaussian)


def test_a_standard_normal_p_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    W, b = rng.standard_normal((3, 4)), rng.standard_normal(4)
    p = Gaussian(np.zeros(3), np.eye(3))
    delta = 0.1 * perturbations.project_admissible(rng.standard_normal((3, 4)), W)
    plain, given = perturbed_noise(delta, W, b), perturbed_noise(delta, W, b, p)
    assert np.allclose(plain.covariance, given.covariance, rtol=1e-12)
    assert np.allclose(plain.mean, given.mean, rtol=1e-10)
    for divergence in ("kl", "reverse_kl", "w2"):
        of = worst_case_divergence(W, b, 0.3, divergence)
        under = worst_case_divergence(W, b, 0.3, divergence, p=p)
        assert under.exact
        assert under.value == pytest.approx(of.value, rel=1e-12)


def test_a_wider_p_moves_further_and_reaches_its_edge_sooner() -> None:
    """C = v I: the edge is at Delta |W| v = m."""
    W, b = np.array([[2.0, 0.0], [0.0, 1.0]]), np.zeros(2)
    for variance in (0.5, 4.0):
        p = Gaussian(np.zeros(2), variance * np.eye(2))
        inside, outside = (worst_case_divergence(W, b, size / variance, p=p).value for size in (0.999, 1.001))
        assert np.isfinite(inside)
        assert np.isinf(outside)


def test_the_perturbation_of_a_model_of_the_noise() -> None:
    """p_hat_t = e^(+I / sqrt(1 - a)) p_t / Z, from the densities themselves."""
    W, b, delta, level = np.array([[1.0]]), np.array([0.3]), np.array([[0.2]]), 0.75
    p = diffused(Gaussian(np.array([1.0]), np.array([[2.0]])), level)
    law = perturbed_noise(score_perturbation(delta, level), W, b, p)
    x = np.linspace(-3, 3, 7)[:, None]
    exponent = (0.2 * x[:, 0] ** 2 / 2 + 0.06 * x[:, 0]) / 0.5
    logs = law.log_density(x) - p.log_density(x) - exponent
    assert logs == pytest.approx(np.full(7, logs[0]), abs=1e-12)


def test_bounds_where_the_variances_differ() -> None:
    p, W = Gaussian(np.zeros(2), np.diag([4.0, 0.25])), np.eye(2)
    along = worst_case_divergence(W, np.array([1.0, 0.0]), 0.2, p=p)
    assert along.exact, "b moves the mean along the direction in which p is widest"
    worst = worst_case_divergence(W, np.array([0.0, 3.0]), 0.2, p=p)
    assert not worst.exact
    assert worst.lower_bound < worst.upper_bound == worst.value
    moved = perturbed_noise(worst.perturbation, W, np.array([0.0, 3.0]), p)
    assert kl_divergence(p, moved) == pytest.approx(worst.lower_bound, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: diffused(p, 1.5), "alpha_bar is 1.5; allowed: a number from 0 to 1"),
        (lambda p: diffused(p, float("nan")), "alpha_bar has entries that are not finite"),
        (lambda p: diffused(p.mean, 0.5), "data is a ndarray; allowed: a Gaussian"),
        (lambda p: score_perturbation(np.ones((1, 1)), 1.0), "alpha_bar is 1.0; allowed: below 1"),
        (lambda p: score_perturbation(np.ones(3), 0.5), "delta has shape"),
        (lambda p: perturbed_noise(np.ones((1, 1)), np.ones((1, 1)), np.ones(1), p), "p has dimension 2"),
        (lambda p: perturbed_noise(np.eye(2), np.eye(2), np.ones(2), p.covariance), "p is a ndarray; allowed"),
        (
            lambda p: worst_case_divergence(np.eye(2), np.ones(2), 0.1, "w2", p=p),
            "divergence is 'w2' for a p",
        ),
        (lambda p: worst_case_divergence(np.eye(3), np.ones(3), 0.1, p=p), "p has dimension 2"),
        (lambda p: perturbed_noise(-9 * np.eye(2), np.eye(2), np.ones(2), p), "where p is made standard"),
        (lambda p: perturbed_noise(np.triu(np.ones((2, 2))), np.eye(2), np.ones(2), p), "delta is not admissible"),
        (lambda p: perturbed_density(np.eye(2), np.eye(2), np.ones(2), "linear", p, starts=np.ones((1, 2))), "starts"),
        (lambda p: perturbed_density(np.eye(3), np.eye(3), np.ones(3), "linear", p), "log_density has dimension 2"),
    ],
)
def test_bad_input_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        call(Gaussian(np.zeros(2), np.diag([4.0, 0.25])))  # type: ignore[operator]
