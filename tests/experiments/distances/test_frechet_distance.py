"""The Frechet distance where its value is known, its invariances, and the mutants that the checks must catch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from experiments.distances.frechet import Moments, factor, frechet_distance
from tests.experiments.distances.gaussian_cases import EPS, gaussians, means, moments, rotation, spectra, traces

Distance = Callable[[Moments, Moments], float]
quick = settings(max_examples=60, deadline=None, derandomize=True)
unshrunk = settings(quick, phases=[Phase.generate])  # a mutant's smallest counterexample is of no interest

WIDTHS = st.integers(1, 6)
REGULAR = 1e3 * EPS
"""Rounding where no variance is 0, relative to the traces: a few hundred operations on matrices of width 6."""
SINGULAR = 12 * (6 * EPS) ** 0.5
"""With variances of 0: up to D eps of the largest counts as 0, and its root enters, twice for each of 6 directions."""


def check_closed_form(distance: Distance, singular: bool = False, profile: settings = quick) -> None:
    """Covariances with common axes: sum of (root of variance - root of variance)^2, and the means."""

    @profile
    @given(st.data(), WIDTHS, st.integers(0, 10_000))
    def check(data: st.DataObject, width: int, seed: int) -> None:
        turn = rotation(width, seed)
        mean_a, mean_b = data.draw(means(width)), data.draw(means(width))
        var_a, var_b = (data.draw(spectra(width, singular=singular)) for _ in range(2))
        a, b = moments(mean_a, (turn * var_a) @ turn.T), moments(mean_b, (turn * var_b) @ turn.T)
        known = (mean_a - mean_b).square().sum() + (var_a.sqrt() - var_b.sqrt()).square().sum()
        assert abs(distance(a, b) - known.item()) <= (SINGULAR if singular else REGULAR) * traces(a, b)

    check()


@pytest.mark.parametrize("singular", [False, True])
def test_gaussians_with_common_axes(singular: bool) -> None:
    check_closed_form(frechet_distance, singular)


def _root(a: Moments, b: Moments) -> float:
    return torch.linalg.svdvals(factor(a.covariance).T @ factor(b.covariance)).sum().item()


MUTANTS: dict[str, Distance] = {
    "no covariance term": lambda a, b: (a.mean - b.mean).square().sum().item(),
    "sign flipped": lambda a, b: frechet_distance(a, b) + 4 * _root(a, b),
    "root once": lambda a, b: frechet_distance(a, b) + _root(a, b),
    "no mean": lambda a, b: frechet_distance(moments(b.mean, a.covariance), b),
    "diagonals only": lambda a, b: frechet_distance(
        moments(a.mean, a.covariance.diagonal().diag()), moments(b.mean, b.covariance.diagonal().diag())
    ),
    "divided by the width": lambda a, b: frechet_distance(a, b) / a.width,
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_caught(mutant: str) -> None:
    with pytest.raises(AssertionError):
        check_closed_form(MUTANTS[mutant], profile=unshrunk)


@quick
@given(gaussians(2), gaussians(2))
def test_two_by_two(a: Moments, b: Moments) -> None:
    """The trace of the root of a 2 x 2 matrix from its trace and determinant; axes differ."""
    product = a.covariance @ b.covariance
    root = (product.trace() + 2 * torch.linalg.det(product).sqrt()).sqrt()
    known = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * root
    # the determinant's rounding, relative to the product's trace, is up to its condition number, 1e8, times eps
    assert frechet_distance(a, b) == pytest.approx(known.item(), abs=1e-7 * traces(a, b))


@quick
@given(st.data(), WIDTHS, st.booleans())
def test_symmetric_zero_on_itself_and_a_metric_squared(data: st.DataObject, width: int, singular: bool) -> None:
    a, b, c = (data.draw(gaussians(width, singular)) for _ in range(3))
    tolerance = (SINGULAR if singular else REGULAR) * (traces(a, b) + traces(b, c))
    assert frechet_distance(a, a) <= REGULAR * traces(a, a)
    ab, bc, ac = frechet_distance(a, b), frechet_distance(b, c), frechet_distance(a, c)
    assert frechet_distance(b, a) == pytest.approx(ab, abs=tolerance)
    assert ac <= (ab**0.5 + bc**0.5) ** 2 + 2 * tolerance + 2 * (tolerance * (ab + bc)) ** 0.5


@quick
@given(st.data(), WIDTHS, st.booleans(), st.integers(0, 10_000))
def test_invariant_under_rotation_and_shift(data: st.DataObject, width: int, singular: bool, seed: int) -> None:
    a, b = (data.draw(gaussians(width, singular)) for _ in range(2))
    turn, shift = rotation(width, seed), data.draw(means(width))
    turned = [moments(turn @ m.mean + shift, turn @ m.covariance @ turn.T) for m in (a, b)]
    tolerance = (SINGULAR if singular else REGULAR) * (traces(a, b) + traces(*turned))
    assert frechet_distance(*turned) == pytest.approx(frechet_distance(a, b), abs=tolerance)


@quick
@given(gaussians(1), gaussians(1))
def test_width_one(a: Moments, b: Moments) -> None:
    spread = (a.covariance.sqrt() - b.covariance.sqrt()).square().item()
    known = (a.mean - b.mean).square().item() + spread
    assert frechet_distance(a, b) == pytest.approx(known, abs=REGULAR * traces(a, b))


def _features(seed: int, number: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=generator, dtype=torch.float64)
    return torch.randn(number, width, generator=generator, dtype=torch.float64) @ mix + seed


def _moments_of(features: torch.Tensor) -> Moments:
    moments = Moments(features.shape[1])
    moments.update(features)
    return moments


def test_agrees_with_the_matrix_square_root() -> None:
    """scipy's root of the non-symmetric product, where that is well conditioned."""
    a, b = _features(0, 400, 30), _features(1, 500, 30)
    mean, covariance = [x.mean(0).numpy() for x in (a, b)], [np.cov(x.numpy(), rowvar=False) for x in (a, b)]
    root = scipy.linalg.sqrtm(covariance[0] @ covariance[1])
    known = ((mean[0] - mean[1]) ** 2).sum() + np.trace(covariance[0] + covariance[1] - 2 * root.real)
    # condition number of the product up to 1e7
    assert frechet_distance(_moments_of(a), _moments_of(b)) == pytest.approx(known, rel=1e-8)


def test_features_in_orthogonal_subspaces() -> None:
    """Of rank 3 and 4 in width 9: the root is 0, the distance the means' and the traces."""
    a, b = torch.zeros(10, 9, dtype=torch.float64), torch.zeros(12, 9, dtype=torch.float64)
    a[:, :3], b[:, 3:7] = _features(4, 10, 3), _features(5, 12, 4)
    turn = rotation(9, 0)
    a, b = a @ turn, b @ turn
    known = (a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum()
    assert frechet_distance(_moments_of(a), _moments_of(b)) == pytest.approx(known.item(), rel=1e-7)


def test_tiny_negative_eigenvalues_count_as_zero() -> None:
    turn = rotation(5, 1)
    variances = torch.tensor([4.0, 1.0, 1e-17, -1e-16, -3e-16], dtype=torch.float64)
    zero = torch.zeros(5, dtype=torch.float64)
    rough, clean = moments(zero, (turn * variances) @ turn.T), moments(zero, (turn * variances.clamp(min=0)) @ turn.T)
    other = moments(zero, torch.eye(5, dtype=torch.float64))
    assert factor(rough.covariance).shape == (5, 2)
    assert frechet_distance(rough, rough) <= REGULAR
    assert frechet_distance(rough, other) == pytest.approx(1 + 3, abs=1e-7)  # (2 - 1)^2, (1 - 1)^2, and 1 three times
    assert frechet_distance(rough, other) == pytest.approx(frechet_distance(clean, other), abs=1e-7)


def test_small_variances_are_not_lost() -> None:
    """Squaring would drown roots below 1e-8 of the largest; here the distance consists of such."""
    scales = torch.tensor([1.0] + [1e-10] * 7, dtype=torch.float64)
    zero, turn = torch.zeros(8, dtype=torch.float64), rotation(8, 2)
    a = moments(zero, (turn * scales) @ turn.T)
    assert frechet_distance(a, a) <= REGULAR


def test_constant_features() -> None:
    a, b = torch.ones(4, 3), torch.zeros(5, 3)
    assert frechet_distance(_moments_of(a), _moments_of(b)) == 3.0


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="width 4; allowed: 3"):
        frechet_distance(Moments(3), Moments(4))
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(Moments(3), Moments(3))
