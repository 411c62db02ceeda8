"""The curves of the figure of Eq. (18) are what they are called."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sympy
from numpy import ndarray
from scipy import optimize

from paper_figs.figures import bound
from theory.claims.corollary_3_9_gaussian_gap import CORRECTED_BOUND, PRINTED_BOUND, numeric_bound
from theory.model import perturbations

ROUNDING = 1e-9
"""Relative: eps / (1 - rho)^2 with 1 - rho >= 0.02, and the second grid of the searches (1e-13)."""


@pytest.fixture
def models(data_of: Callable[[str], dict[str, Any]]) -> list[dict[str, ndarray]]:
    """The curves of every model, as arrays."""
    shown = data_of("bound")["models"]
    return [{name: np.array(value) for name, value in model.items() if name != "name"} for model in shown]


def test_brute_force_agrees_with_the_exact_worst_case(models: list[dict[str, ndarray]]) -> None:
    for model in models:
        places = [int(np.flatnonzero(model["rho"] == rho)[0]) for rho in model["rho_brute_force"]]
        # where L-BFGS stops, the slope is rounding
        np.testing.assert_allclose(model["brute_force"], model["exact"][places], rtol=1e-8)


def test_both_corrected_bounds_hold(models: list[dict[str, ndarray]]) -> None:
    for model in models:
        assert (model["exact"] <= model["corrected"] * (1 + ROUNDING)).all()
        assert (model["exact"] <= model["upper"] * (1 + ROUNDING)).all()
        assert (model["exact"] >= model["lower"] * (1 - ROUNDING)).all()


def test_the_printed_bound_crosses_below_the_truth(models: list[dict[str, ndarray]]) -> None:
    scalar, *random = models
    assert (scalar["printed"] < scalar["exact"]).all()
    for model in random:
        excess = model["printed"] - model["exact"]
        assert excess[0] > 0
        assert excess[-1] < 0
        assert (np.diff(np.sign(excess)) != 0).sum() == 1
    for model in models:
        assert (model["printed_at_worst"] <= model["printed"] * (1 + ROUNDING)).all()


def test_every_curve_says_what_it_is(data_of: Callable[[str], dict[str, Any]]) -> None:
    data = data_of("bound")
    for model in data["models"]:
        assert set(data["curves"]) == set(model) - {"name", "W", "b", "rho", "rho_brute_force"}


def test_printed_maxima_known_in_closed_form() -> None:
    # d = m = W = b = 1, Delta = 1/2: the convex right side is largest at delta = 1/2, sigma_d = 3/2
    known = (0.5 - np.log(1.5) + 1.5 * 0.25) / 2
    assert bound.largest_printed(np.ones((1, 1)), np.ones(1), 0.5) == pytest.approx(known, rel=1e-14)
    # without b the right side is h, largest at tau = -rho in every dimension: h(1/2) / 2
    known = (np.log(2) - 0.5) / 2
    assert bound.largest_printed(np.eye(3), np.zeros(3), 1.5) == pytest.approx(known, rel=1e-12)


def _value(bound_: sympy.Expr, delta: ndarray, W: ndarray, b: ndarray, radius: float) -> float:
    d, m = W.shape
    sigma = np.concatenate([[np.nan], 1 + perturbations.spectrum(delta, W, b).tau])
    return float(numeric_bound(bound_)(sigma, d, m, radius, b @ b))


@pytest.mark.parametrize(
    ("expression", "largest"),
    [(PRINTED_BOUND, bound.largest_printed), (CORRECTED_BOUND, bound.largest_corrected)],
    ids=["printed", "corrected"],
)
@pytest.mark.parametrize(("d", "m", "size"), [(1, 3, 1.0), (2, 2, 3.0), (3, 2, 0.3), (3, 3, 1.0), (2, 4, 0.0)])
def test_maxima_over_the_ball_are_reached_and_not_exceeded(
    expression: sympy.Expr, largest: Callable[[ndarray, ndarray, float], float], d: int, m: int, size: float
) -> None:
    rng = np.random.default_rng((d, m))
    W, b = rng.standard_normal((d, m)), size * rng.standard_normal(m)
    radius = 0.7 * m / float(np.linalg.norm(W, 2))
    basis = perturbations.admissible_basis(W)

    def cost(z: ndarray) -> float:
        delta = radius * np.tensordot(z / np.linalg.norm(z), basis, 1)
        return -_value(expression, delta, W, b, radius)

    starts: list[Any] = list(rng.standard_normal((20, len(basis))))
    best = -min(optimize.minimize(cost, start, method="BFGS", options={"maxiter": 60}).fun for start in starts)
    claimed = largest(W, b, radius)
    assert best <= claimed * (1 + ROUNDING)
    # differences for slopes, and a kink where eigenvalues meet, stop the climb early
    assert best == pytest.approx(claimed, rel=2e-3)
