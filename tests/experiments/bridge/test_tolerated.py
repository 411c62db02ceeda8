"""Tolerated divergences where they are known: an exact predictor, one that predicts nothing, and Theorem T4."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

from experiments.bridge import b6_tolerance
from experiments.bridge.b6_tolerance import RESCORED, SAMPLED, least, loss, resampled, rescored, sampled
from experiments.measures.noise_tolerance import divergence_of, measured_tolerance
from tests.experiments.measures.linear_networks import DIMENSION, LinearFeatures, exact, linear_subject
from tests.experiments.measures.small_rows import subject
from tests.experiments.measures.test_tolerance import Zero
from theory.model.perturbations import gap_radius, loss_rise, perturbation_divergence

T = 300
LEVELS = (0.01, 0.05, 0.25, 1.25, 6.25)
KAPPA = 0.16
INTERPOLATION = 1e-6
"""A rescored law's rise is a polynomial, so that nothing is interpolated."""
ROUNDING = 2e-3
"""The network's residual in float32, some 1e-6 of the noise, against a rise of .16 of d = 4."""


def base(images: int) -> np.ndarray:
    return np.arange(images)[None]


def kept_exact() -> dict[str, Any]:
    """Of the network that is Eq. (9) with a linear activation at the exact score."""
    network = LinearFeatures()
    of = linear_subject(network)
    exact(network, of, T)
    return measured_tolerance(of, T, 8, LEVELS)


def theory_of(law: str, kappa: float, d: int = DIMENSION) -> float:
    """T4's divergences for J = kappa: A = tau I, A = tau e e^T, or A = 0."""
    if law.startswith("shift"):
        return kappa / 2
    many = d if law.startswith("scale") else 1
    size = math.sqrt(kappa / many)
    # scale+ is a larger deviation, so a smaller precision; single+ a larger one
    tau = -size if law == "scale+" or law == "single-" else size
    return many / 2 * (tau - math.log1p(tau))


def check_t4(stored: dict[str, Any]) -> None:
    kappa = np.array([KAPPA])
    radii = {law: float(rescored(stored, law, kappa, base(8))[0]) for law in RESCORED}
    for law, value in radii.items():
        assert value == pytest.approx(theory_of(law, KAPPA), rel=ROUNDING)
    assert radii["single+"] == pytest.approx(gap_radius(KAPPA), rel=ROUNDING)
    assert min(radii.values()) == radii["single+"]


def test_a_linear_network_at_the_exact_score_has_theorem_t4s_numbers() -> None:
    check_t4(kept_exact())


def test_they_are_the_theorys_own_for_the_same_perturbations() -> None:
    """The law's A and c as a delta of a linear model: its J is kappa, its divergence what is found."""
    W, b = np.hstack([np.eye(DIMENSION), np.zeros((DIMENSION, 1))]), np.append(np.zeros(DIMENSION), 1.0)
    m = W.shape[1]
    e = np.full(DIMENSION, 1 / math.sqrt(DIMENSION))
    size = math.sqrt(KAPPA)
    deltas = {
        "shift+": m * np.hstack([np.zeros((DIMENSION, DIMENSION)), size * e[:, None]]),
        "scale-": m * size / math.sqrt(DIMENSION) * W,
        "single+": m * size * np.outer(e, e @ W),
    }
    for law, delta in deltas.items():
        assert loss_rise(delta, W, b) == pytest.approx(KAPPA)
        assert perturbation_divergence(delta, W, b) == pytest.approx(theory_of(law, KAPPA))


def test_the_numbers_do_not_depend_on_how_the_features_are_scaled() -> None:
    """T4's invariance: W and b times 3, theta over 3, and a flat radius of a third."""
    one, other = LinearFeatures(), LinearFeatures()
    of = linear_subject(one)
    exact(one, of, T)
    for source, target in zip(one.parameters(), other.parameters(), strict=True):
        target.data.copy_(source.data)
    other.first.weight.data.mul_(3.0)
    other.first.bias.data.mul_(3.0)
    other.last.weight.data.div_(3.0)
    ours, theirs = (measured_tolerance(linear_subject(network), T, 8, LEVELS) for network in (one, other))
    for law in RESCORED:
        a, b = (float(rescored(stored, law, np.array([KAPPA]), base(8))[0]) for stored in (ours, theirs))
        assert a == pytest.approx(b, rel=ROUNDING)
    check_t4(theirs)


@pytest.mark.parametrize("change", [0.0, -1.0, 2.0])
def test_mutants_of_the_divergence_are_found(change: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = b6_tolerance._excess
    monkeypatch.setattr(b6_tolerance, "_excess", lambda tau: right(change * tau))
    with pytest.raises(AssertionError):
        check_t4(kept_exact())


def test_a_linear_part_of_the_residual_makes_the_tolerated_divergence_smaller() -> None:
    """At the best predictor of noise E r.eps = -E|r|^2: one sign of tau lowers the loss at first, the other raises."""
    stored = kept_exact()
    stored["moments"] = {name: [0.0] * 8 for name in stored["moments"]} | {"re": [-0.5] * 8}
    up, down = (float(rescored(stored, law, np.array([KAPPA]), base(8))[0]) for law in ("scale-", "scale+"))
    d, tau = DIMENSION, 0.0
    tau = brentq(lambda value: 2 * value * 0.5 + d * value**2 - KAPPA, 1e-9, 1.0)
    assert up == pytest.approx(d / 2 * (tau - math.log1p(tau)), rel=INTERPOLATION)
    assert up < theory_of("scale-", KAPPA) < down


def test_sampled_divergences_of_a_network_that_predicts_nothing() -> None:
    """The loss is |eps'|^2 itself: its rise under u and a is known, and so is where it reaches kappa."""
    stored = measured_tolerance(subject(Zero()), T, 8, LEVELS)
    d, ee, e1 = stored["dimension"], np.mean(stored["moments"]["ee"]), np.mean(stored["moments"]["e1"])
    kappa = 1.0
    u = brentq(lambda value: d * value**2 + 2 * value * e1 - kappa, max(0.0, -2 * e1 / d) + 1e-9, 2.0)
    a = brentq(lambda value: ((1 + value) ** 2 - 1) * ee - kappa, 0.0, 1.0)
    expected = {"shift+": divergence_of(u, 0.0, d), "scale+": divergence_of(0.0, a, d)}
    for law, value in expected.items():
        divergence = float(sampled(stored, law, np.array([kappa]), base(8))[0])
        assert divergence == pytest.approx(value, rel=0.05)  # levels are a factor of 5 apart
    assert sampled(stored, "scale-", np.array([kappa]), base(8))[0] == math.inf
    assert sampled(stored, "scale+", np.array([1e9]), base(8))[0] == math.inf


def test_an_exact_score_tolerates_every_level_of_sampled_noise() -> None:
    stored = kept_exact()
    assert all(sampled(stored, law, np.array([0.01]), base(8))[0] == math.inf for law in SAMPLED)


def test_resamples_begin_with_the_images_themselves_and_scatter() -> None:
    places = resampled(8, 50)
    assert places.shape == (51, 8)
    assert (places[0] == np.arange(8)).all()
    stored = measured_tolerance(subject(Zero()), T, 8, LEVELS)
    losses = loss(stored, places)
    assert losses[0] == pytest.approx(stored["loss"]["value"], rel=1e-6)
    assert 0.4 < losses[1:].std() / stored["loss"]["standard_error"] < 1.6
    divergences = [sampled(stored, law, 0.1 * losses, places) for law in ("shift+", "shift-")]
    assert (least(divergences) == np.minimum(*divergences)).all()


def test_what_is_not_a_law_is_said() -> None:
    with pytest.raises(ValueError, match="law is 'single\\+'"):
        sampled({}, "single+", np.array([0.1]), base(2))
    with pytest.raises(ValueError, match="law is 'twist'"):
        rescored({}, "twist", np.array([0.1]), base(2))
