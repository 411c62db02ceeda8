"""The ball and its densities are those of the theory, by formulas written down again here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

ROUNDING = 1e-10
"""Relative: a few eps / (1 - rho)^2, with a wide margin."""


@pytest.fixture
def data(data_of: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return data_of("figure_3")


def test_densities_are_the_perturbed_gaussians(data: dict[str, Any]) -> None:
    W, b = np.array(data["W"]), np.array(data["b"])
    m = W.shape[1]
    for density in data["ring"] + data["spread"]:
        delta = np.array(density["delta"])
        A, c = delta @ W.T / m, delta @ b / m
        covariance = np.linalg.inv(np.eye(len(W)) + A)
        np.testing.assert_allclose(A, A.T, atol=1e-12)  # admissible, up to rounding of numbers of order 1
        np.testing.assert_allclose(density["covariance"], covariance, rtol=ROUNDING, atol=1e-12)
        np.testing.assert_allclose(density["mean"], -covariance @ c, rtol=ROUNDING, atol=1e-12)
        kl = (np.trace(A) - np.linalg.slogdet(np.eye(len(W)) + A)[1] + c @ covariance @ c) / 2
        assert density["kl"] == pytest.approx(kl, rel=ROUNDING, abs=1e-14)


def test_the_worst_is_on_the_ring_and_nothing_exceeds_it(data: dict[str, Any]) -> None:
    worst, *others = data["ring"]
    assert worst["kl"] == pytest.approx(data["worst_kl"], rel=ROUNDING)
    assert worst["place"] == [1, 0]
    assert all(density["kl"] < worst["kl"] for density in others + data["spread"])


def test_all_lies_in_the_ball(data: dict[str, Any]) -> None:
    sizes = [np.linalg.norm(density["delta"]) for density in data["ring"]]
    np.testing.assert_allclose(sizes, data["Delta"], rtol=ROUNDING)
    assert all(np.linalg.norm(density["delta"]) <= data["Delta"] for density in data["spread"])
    plane = np.array(data["plane"]).reshape(2, -1)
    np.testing.assert_allclose(plane @ plane.T, np.eye(2), atol=1e-12)


def test_the_shading_is_the_divergence(data: dict[str, Any]) -> None:
    axis = np.array(data["axis"])
    kl = np.array(data["kl"], dtype=float)
    middle = len(axis) // 2
    assert kl[middle, middle] == pytest.approx(0, abs=1e-15)
    assert kl[middle, -1] == pytest.approx(data["worst_kl"], rel=ROUNDING)
    inside = axis[:, None] ** 2 + axis**2 <= 1
    assert np.isfinite(kl[inside]).all()
    assert kl[inside].max() <= data["worst_kl"] * (1 + ROUNDING)
