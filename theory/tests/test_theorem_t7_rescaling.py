from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis.strategies import SearchStrategy

from theory.claims import theorem_t7_rescaling as module
from theory.claims.theorem_t7_rescaling import (
    HESSIAN_FACTOR,
    RADIUS_FACTOR,
    RELATIVE_RISE,
    RISE_FACTOR,
    STATEMENT,
    check_columns,
    check_layer,
    check_rescaling,
    check_whole_layer,
    layers,
    per_neuron,
    rescalings,
)
from theory.model.perturbations import flat_radius
from theory.model.random_features import feature_second_moment
from theory.proof.notation import G, Norm, theta
from theory.proof.statement import Evidence, InstanceCheck, fails_without
from theory.proof.testing import every_evidence, finds_violation, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


def test_exact_moments_scale_for_relu() -> None:
    """G under p = N(0, I), exactly: a^2 for ReLU, and not for tanh."""
    rng = np.random.default_rng(0)
    W, b = 0.3 * rng.standard_normal((3, 5)), rng.standard_normal(5)
    for name, scales in (("relu", True), ("leaky_relu", True), ("tanh", False)):
        before, after = (feature_second_moment(a * W, a * b, name) for a in (1, 3))
        assert np.allclose(after, 9 * before, rtol=1e-9) is scales, name  # rounding of bivariate integrals
    assert flat_radius(9 * np.eye(2), 0.5) == pytest.approx(flat_radius(np.eye(2), 0.5) / 3, rel=1e-14)


def test_invariant_means_under_every_neuron_s_factor() -> None:
    """What is called invariant on the page: column-relative noise, and not that relative to a layer."""
    assert not finds_violation(per_neuron(), check_columns)
    assert finds_violation(per_neuron(), check_whole_layer)


def test_relative_to_the_layer_it_moves_without_bound() -> None:
    """theta = (1, 1), G = I, one neuron's factor a: (1 + 1/a^2)(1 + a^2)/4 of the rise before."""
    rises = []
    for a in (1.0, 10.0, 100.0):
        theta_value, moment = np.array([[1 / a, 1.0]]), np.diag([a**2, 1.0])
        rises.append(float((theta_value**2).sum() * np.trace(moment)))
    assert [rise / rises[0] for rise in rises] == pytest.approx([1, 25.5025, 2500.50025])


@pytest.mark.parametrize(
    ("name", "mutant", "check", "instances"),
    [
        ("RISE_FACTOR", 1 / RISE_FACTOR, check_rescaling, rescalings()),
        ("RADIUS_FACTOR", 1 / RADIUS_FACTOR, check_rescaling, rescalings()),
        ("RELATIVE_RISE", RELATIVE_RISE / Norm(theta), check_rescaling, rescalings()),
        ("RELATIVE_RISE", RELATIVE_RISE * sympy.Trace(G), check_rescaling, rescalings()),
        ("HESSIAN_FACTOR", sympy.sqrt(HESSIAN_FACTOR), check_layer, layers()),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str, mutant: sympy.Expr, check: InstanceCheck, instances: SearchStrategy[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, mutant)
    assert fails_without(f"the right {name}", instances, check).run().holds
