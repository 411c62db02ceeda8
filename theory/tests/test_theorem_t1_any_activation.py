import numpy as np
import pytest
import sympy

from theory.claims import theorem_t1_any_activation as module
from theory.claims.theorem_t1_any_activation import (
    BOUND,
    LINEAR_DIMENSION,
    STATEMENT,
    Coefficients,
    check_bound,
    check_normalisable,
    lipschitz,
    rank,
)
from theory.model.perturbations import admissible_basis
from theory.proof import gradient_fields
from theory.proof.gradient_fields import gradient_dimension, growth_at, least_growth, separating_points
from theory.proof.notation import d, m
from theory.proof.statement import Evidence, fails_without
from theory.proof.testing import every_evidence, require


@every_evidence(STATEMENT)
def test_evidence(evidence: Evidence) -> None:
    require(evidence)


@pytest.mark.parametrize(("rows", "columns", "of_W"), [(2, 3, 2), (3, 2, 2), (4, 4, 1), (3, 5, 0)])
def test_linear_dimension_is_that_of_the_basis(rows: int, columns: int, of_W: int) -> None:
    rng = np.random.default_rng(0)
    W = rng.standard_normal((rows, of_W)) @ rng.standard_normal((of_W, columns))
    assert LINEAR_DIMENSION.subs({d: rows, m: columns, rank: of_W}) == len(admissible_basis(W))


def test_dimension_of_the_degenerate_example() -> None:
    W, b = np.array([[1.0, -1, 0, 0], [0, 0, 1, -1]]), np.zeros(4)
    points = separating_points(W, b, np.random.default_rng(0))
    assert gradient_dimension(W, b, "relu", points) == 5  # one more than m


@pytest.mark.parametrize(("c", "least"), [([1.0, 1.0], 1.0), ([-1.0, 0.0], 0.5), ([-3.0, -3.0], -0.5)])
def test_least_growth_for_the_identity(c: list[float], least: float) -> None:
    """W = I: Q(u) = 1 + sum c_j max(u_j, 0)^2 / 2."""
    instance = Coefficients(np.eye(2), np.zeros(2), np.array(c), "relu")
    assert least_growth(instance) == pytest.approx(least, abs=1e-12)
    angles = np.linspace(0, 2 * np.pi, 1001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    assert growth_at(circle, instance.c).min() == pytest.approx(least, abs=1e-4)  # the grid's step, squared


@pytest.mark.parametrize(("factor", "name"), [(sympy.Rational(1, 2), "halved"), (-1, "flipped")])
def test_the_check_kills_a_wrong_bound(factor: sympy.Rational, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BOUND", BOUND * factor)
    assert fails_without(f"the bound, {name}", lipschitz(), check_bound).run().holds


def test_the_check_kills_a_growth_without_its_division_by_m(monkeypatch: pytest.MonkeyPatch) -> None:
    gradient_fields._growth.cache_clear()
    monkeypatch.setattr(gradient_fields, "RELU_GROWTH", 1 + m * (gradient_fields.RELU_GROWTH - 1))
    try:
        assert fails_without("the factor 1/m", gradient_fields.RELU_MODELS, check_normalisable).run().holds
    finally:
        gradient_fields._growth.cache_clear()
