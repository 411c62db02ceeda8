import numpy as np
import pytest
import sympy

from theory.claims import theorem_t3_equal_flatness as module
from theory.claims.theorem_t3_equal_flatness import (
    FLAT_RADIUS,
    LPF_RISE,
    SECOND_ORDER,
    STATEMENT,
    check_flat_radius,
    check_noise,
    check_rise,
    moved,
)
from theory.model.perturbations import flat_radius
from theory.model.random_features import feature_second_moment
from theory.proof.notation import kappa
from theory.proof.statement import Evidence, InstanceCheck, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_pinned_numbers() -> None:
    """d = m = W = 1, b = 0, ReLU: G = 1/2, so the radius for kappa = 1/2 is 1."""
    G = feature_second_moment(np.ones((1, 1)), np.zeros(1), "relu")
    assert G[0, 0] == pytest.approx(0.5, rel=1e-14)  # a few roundings
    assert flat_radius(G, 0.5) == pytest.approx(1, rel=1e-14)


def test_training_does_not_flatten() -> None:
    """Gradient descent from two starts, with and without weight decay: other theta, other losses, the same rise."""
    rng = np.random.default_rng(0)
    phi = np.maximum(rng.standard_normal((50, 20)), 0)
    g = rng.standard_normal((50, 3))

    def loss(theta: np.ndarray) -> float:
        return float(((phi @ theta.T / 20 - g) ** 2).sum(axis=1).mean())

    rises = []
    for seed, decay in ((1, 0.0), (2, 0.1)):
        theta = np.random.default_rng(seed).standard_normal((3, 20))
        for _ in range(50):
            theta = theta - 5 * (2 / 20 * (phi @ theta.T / 20 - g).T @ phi / 50 + decay * theta)
        steps = 0.3 * np.eye(60).reshape(60, 3, 20)
        losses = [loss(theta + sign * step) for step in steps for sign in (1, -1)]
        rises.append((loss(theta), np.mean(losses) - loss(theta)))
    assert abs(rises[0][0] - rises[1][0]) > 0.01
    assert rises[0][1] == pytest.approx(rises[1][1], rel=1e-9)  # rounding of losses of order 1 over rises of 1e-3


@pytest.mark.parametrize(
    ("name", "mutant", "check"),
    [
        ("SECOND_ORDER", 2 * SECOND_ORDER, check_rise),
        ("LPF_RISE", -LPF_RISE, check_noise),
        ("FLAT_RADIUS", FLAT_RADIUS * kappa, check_flat_radius),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str, mutant: sympy.Expr, check: InstanceCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    module._radius.cache_clear()
    monkeypatch.setattr(module, name, mutant)
    try:
        assert fails_without(f"the right {name}", moved(largest=(2, 3)), check).run().holds
    finally:
        module._radius.cache_clear()
