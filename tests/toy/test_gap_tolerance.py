"""How far the density may move: the search must find what T2 and T4 say, and not what they forbid."""

import numpy as np
import pytest

from theory.model.perturbations import gap_radius, is_admissible, loss_rise, perturbation_divergence
from toy.gap_tolerance import SCALES, Setting, curve, least_direction, measured_rise, random_directions, tolerance

SETTING = Setting(directions=10, points=4000)


def model(seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((2, 6)), generator.standard_normal(6), generator


@pytest.mark.parametrize("seed", range(4))
def test_the_least_direction_attains_e_kappa_and_no_other_is_nearer(seed: int) -> None:
    W, b, generator = model(seed)
    kappa = 0.16
    least = least_direction(W, b, kappa)
    assert is_admissible(least, W)
    assert loss_rise(least, W, b) == pytest.approx(kappa, rel=1e-9)  # a least-squares solution of six unknowns
    assert perturbation_divergence(least, W, b) == pytest.approx(gap_radius(kappa), rel=1e-9)
    others = random_directions(W, b, kappa, 50, generator)
    assert len(others) > 10
    assert min(perturbation_divergence(other, W, b) for other in others) > gap_radius(kappa)


def test_the_measured_rise_is_j() -> None:
    """Within 5 standard errors; |A x + c|^2 scatters by at most 2 J for A of rank 2 and moderate c."""
    W, b, generator = model(0)
    x = generator.standard_normal((20_000, 2))
    for delta in random_directions(W, b, 0.1, 10, generator):
        assert measured_rise(delta, W, b, x) == pytest.approx(0.1, abs=5 * 2 * 0.1 / 20_000**0.5)


def test_flat_radii_scale_and_gap_radii_do_not() -> None:
    tolerances = [tolerance(3, scale, SETTING) for scale in SCALES]
    radii = [one["flat_radius"] * scale for one, scale in zip(tolerances, SCALES, strict=True)]
    np.testing.assert_allclose(radii, radii[0], rtol=1e-9)
    np.testing.assert_allclose([one["gap_radius"] for one in tolerances], tolerances[0]["gap_radius_t4"], rtol=1e-9)
    for one in tolerances:
        assert one["attained_share_of_t2"] == pytest.approx(1.0, rel=1e-6)
        assert one["largest_share_of_t2"] < 1.0


def test_the_curve_rises() -> None:
    points = curve(0, 1.0, SETTING)
    assert [p["kappa"] for p in points] == sorted(p["kappa"] for p in points)
    for point in points:
        assert point["least_divergence"] == pytest.approx(point["gap_radius_t4"], rel=1e-9)
        assert point["median_random_divergence"] > point["gap_radius_t4"]
