"""One curve for all flatness."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def data(data_of: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    return data_of("gap_radius")


def test_every_point_lies_on_the_curve(data: dict[str, Any]) -> None:
    for model in data["models"]:
        root = np.sqrt(model["kappa"])
        # where L-BFGS stops, the slope is rounding
        np.testing.assert_allclose(model["gap_found"], (root - np.log1p(root)) / 2, rtol=1e-8)


def test_the_line_is_the_formula(data: dict[str, Any]) -> None:
    for curve in (data["line"], data["shown"]):
        root = np.sqrt(curve["kappa"])
        np.testing.assert_allclose(curve["gap"], (root - np.log1p(root)) / 2, rtol=1e-10)


def test_flatness_spans_orders_of_magnitude(data: dict[str, Any]) -> None:
    shown = len(data["shown"]["kappa"])
    radii = np.array([model["flat_radius"][-shown:] for model in data["models"]])
    assert (radii.max(axis=0) / radii.min(axis=0) > 1000).all()
    for model in data["models"]:
        assert model["kappa"][-shown:] == data["shown"]["kappa"]


def test_no_point_hides_another(data: dict[str, Any]) -> None:
    shown = len(data["shown"]["kappa"])
    kappas = np.sort(np.concatenate([model["kappa"][:-shown] for model in data["models"]]))
    assert (kappas[1:] / kappas[:-1] > 1.5).all()
