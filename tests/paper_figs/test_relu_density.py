"""The true density's gradient, mass and divergence, against closed forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def data(data_of: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return data_of("relu_density")


def test_one_dimension_in_closed_form(data: dict[str, Any]) -> None:
    line = data["line"]
    x = np.array(line["x"])
    Z = (1 + 2**-0.5) / 2
    known = np.exp(-(x**2) / 2 - np.maximum(x, 0) ** 2 / 2) / np.sqrt(2 * np.pi) / Z
    np.testing.assert_allclose(line["true"], known, rtol=1e-9)  # the quadrature's relative tolerance is 1e-10
    assert line["kl_true"] == pytest.approx(1 / 4 + np.log(Z), abs=1e-9)
    np.testing.assert_allclose(line["printed"], np.exp(-(x**2)) / np.sqrt(np.pi), rtol=1e-12)
    assert line["kl_printed"] == pytest.approx((1 - np.log(2)) / 2, rel=1e-12)


def test_two_dimensions_by_the_gradient_of_the_log_ratio(data: dict[str, Any]) -> None:
    """log p - log p_hat is quadratic between ReLU's kinks, so that central differences are exact there."""
    case = data["square"]
    x = np.array(case["x"])
    W, b, delta = (np.array(case[name]) for name in ("W", "b", "delta"))
    points = np.stack(np.meshgrid(x, x), axis=-1)
    potential = -(points**2).sum(axis=-1) / 2 - np.log(case["true"])
    step = x[1] - x[0]
    slopes = np.stack([potential[1:-1, 2:] - potential[1:-1, :-2], potential[2:, 1:-1] - potential[:-2, 1:-1]], axis=-1)
    slopes /= 2 * step
    z = points[1:-1, 1:-1] @ W + b
    expected = np.maximum(z, 0) @ delta.T / W.shape[1]
    smooth = (np.abs(z) > step * np.abs(W).max(axis=0)).all(axis=-1)
    assert smooth.mean() > 0.7
    # differences of logarithms of order 10, over 2 * step
    np.testing.assert_allclose(slopes[smooth], expected[smooth], atol=1e-12 * 10 / step)


def test_the_densities_have_mass_one_up_to_the_tails(data: dict[str, Any]) -> None:
    for case, d in ((data["line"], 1), (data["square"], 2)):
        cell = (case["x"][1] - case["x"][0]) ** d
        for name in ("true", "printed"):
            # 2 % for what lies beyond the window, towards negative x_2 above all; above 1 only by the rule's own error
            assert 0.98 < np.sum(case[name]) * cell < 1 + 1e-4


def test_they_differ_and_so_do_their_divergences(data: dict[str, Any]) -> None:
    for case in (data["line"], data["square"]):
        assert abs(case["kl_true"] - case["kl_printed"]) > 0.05
        assert case["kl_true_error"] < 5e-4  # half of the last digit shown
        assert np.abs(np.array(case["true"]) - np.array(case["printed"])).max() > 0.05


def test_the_perturbation_meets_the_theorems_condition(data: dict[str, Any]) -> None:
    case = data["square"]
    product = np.array(case["delta"]) @ np.array(case["W"]).T
    np.testing.assert_allclose(product, product.T, atol=1e-14)
