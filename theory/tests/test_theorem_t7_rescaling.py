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
    check_layer,
    check_rescaling,
    layers,
    rescalings,
)
from theory.model.random_features import feature_second_moment
from theory.model.robustness import flat_radius
from theory.proof.notation import Norm, theta
from theory.proof.statement import Evidence, InstanceCheck, fails_without
from theory.proof.testing import every_evidence, require


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


@pytest.mark.parametrize(
    ("name", "mutant", "check", "instances"),
    [
        ("RISE_FACTOR", 1 / RISE_FACTOR, check_rescaling, rescalings()),
        ("RADIUS_FACTOR", 1 / RADIUS_FACTOR, check_rescaling, rescalings()),
        ("RELATIVE_RISE", RELATIVE_RISE / Norm(theta), check_rescaling, rescalings()),
        ("HESSIAN_FACTOR", sympy.sqrt(HESSIAN_FACTOR), check_layer, layers()),
    ],
)
def test_the_checks_kill_wrong_formulas(
    name: str, mutant: sympy.Expr, check: InstanceCheck, instances: SearchStrategy[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, mutant)
    assert fails_without(f"the right {name}", instances, check).run().holds
