"""The jackknife of the Frechet distance, held against many draws from laws whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.distances.frechet import Estimate, Moments, _estimate, frechet_distance, jackknife
from findings.estimates import Replicates
from tests.experiments.distances.gaussian_cases import moments

REPEATS = 200
NUMBER = 155
GROUPS = 10
SCALES = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
SHIFT = torch.tensor([0.5, 0.0, 1.0], dtype=torch.float64)


def _reference() -> Moments:
    return moments(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))


def _estimates(shift: torch.Tensor, scales: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, standard error and bias for each of many draws; the groups have 15 or 16 samples."""
    rows = []
    for seed in range(REPEATS):
        generator = torch.Generator().manual_seed(seed)
        draws = shift + scales * torch.randn(NUMBER, 3, generator=generator, dtype=torch.float64)
        rows.append(jackknife(draws, _reference(), GROUPS)[:3])
    value, error, bias = np.array(rows).T
    return value, error, bias


def _known_bias(scales: torch.Tensor) -> float:
    """c/n against N(0, I): the mean's tr S / n, and the root's from the second derivative of tr S^(1/2).

    Along the axes of S, with s = SCALES and Var S_ij = s_i^2 s_j^2 (1 + [i = j]) / n, the latter is
    sum_ij s_i s_j (1 + [i = j]) / (s_i + s_j) / (2 n).
    """
    pairs = torch.outer(scales, scales) * (1 + torch.eye(len(scales))) / (scales[:, None] + scales)
    return ((scales.square().sum() + pairs.sum() / 2) / NUMBER).item()


def _mean_error(values: np.ndarray) -> float:
    return values.std(ddof=1) / REPEATS**0.5


SECOND_ORDER = 0.05
"""Relative; of the bias, the next order in 1/n: a few parts in 155."""


@pytest.mark.parametrize(
    ("shift", "scales"), [(SHIFT, SCALES), (torch.zeros(3), torch.ones(3, dtype=torch.float64))], ids=["apart", "equal"]
)
def test_bias_is_the_known_one(shift: torch.Tensor, scales: torch.Tensor) -> None:
    value, _, bias = _estimates(shift, scales)
    known, truth = _known_bias(scales), (shift.square().sum() + (scales - 1).square().sum()).item()
    assert bias.mean() > 4 * _mean_error(bias)
    assert bias.mean() == pytest.approx(known, rel=SECOND_ORDER, abs=3 * _mean_error(bias))
    assert (value - bias).mean() == pytest.approx(truth, rel=0, abs=3 * _mean_error(value - bias))


@pytest.mark.parametrize(
    ("shift", "scales", "factor"),
    [(SHIFT, SCALES, 1.0), (torch.zeros(3), torch.ones(3, dtype=torch.float64), 2**0.5)],
    ids=["apart", "equal"],
)
def test_standard_error_is_the_spread_of_many_draws(shift: torch.Tensor, scales: torch.Tensor, factor: float) -> None:
    """And sqrt(2) times that for a quadratic form in the samples' errors, which the distance of equal laws is."""
    value, error, _ = _estimates(shift, scales)
    # the spread over 200 draws is known to 1/sqrt(2 * 199) = 5%: three of these, and 5% for orders beyond the leading
    assert np.sqrt((error**2).mean()) == pytest.approx(factor * value.std(ddof=1), rel=0.2)


def _pair(seed: int) -> tuple[Estimate, Estimate]:
    """Of paired samples: the second ones are the first, a little larger, with a little noise of their own."""
    generator = torch.Generator().manual_seed(seed)
    first = SHIFT + SCALES * torch.randn(NUMBER, 3, generator=generator, dtype=torch.float64)
    second = 1.03 * first + 0.05 * torch.randn(NUMBER, 3, generator=generator, dtype=torch.float64)
    return jackknife(first, _reference(), GROUPS), jackknife(second, _reference(), GROUPS)


def test_the_error_of_paired_samples_difference_is_its_spread_and_far_below_quadrature() -> None:
    differences, errors, quadrature = [], [], []
    for seed in range(REPEATS):
        a, b = _pair(seed)
        both = [Replicates(of.pseudo_values, of.group_sizes) for of in (a, b)]
        differences.append(b.value - a.value)
        errors.append(both[1].less(both[0]).cell(0.0).error or 0.0)
        quadrature.append(np.hypot(a.standard_error, b.standard_error))
    spread = np.std(differences, ddof=1)
    # as above: three times the 5% to which a spread over 200 draws is known, and 5% for higher orders
    assert np.sqrt(np.square(errors).mean()) == pytest.approx(spread, rel=0.2)
    assert np.mean(quadrature) > 5 * spread


def test_pseudo_values_give_the_estimate_back() -> None:
    estimate, _ = _pair(0)
    assert sum(estimate.group_sizes) == NUMBER
    assert set(estimate.group_sizes) == {15, 16}
    cell = Replicates(estimate.pseudo_values, estimate.group_sizes).cell(estimate.value)
    assert cell.error == pytest.approx(estimate.standard_error, rel=1e-12)
    middle = sum(p * m for p, m in zip(estimate.pseudo_values, estimate.group_sizes, strict=True)) / NUMBER
    assert middle == pytest.approx(estimate.extrapolated, rel=1e-12)


def test_equal_laws_are_at_a_distance_until_it_is_extrapolated() -> None:
    value, _, bias = _estimates(torch.zeros(3), torch.ones(3, dtype=torch.float64))
    assert value.min() > 0
    assert (value - bias).min() < 0


def test_groups_of_any_size_leave_a_mean_unbiased_with_its_standard_error() -> None:
    """Of a mean the jackknife's bias is 0, and its error the usual one where groups are single samples."""
    samples = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sizes in ([1] * 40, [1, 2, 3, 14, 20]):
        left_out, position = [], 0
        for size in sizes:
            left_out.append(torch.cat([samples[:position], samples[position + size :]]).mean())
            position += size
        ratios = 40 / torch.tensor(sizes, dtype=torch.float64)
        estimate = _estimate(samples.mean().item(), torch.stack(left_out), ratios, 40)
        assert abs(estimate.bias) < 1e-14  # a few roundings
        if len(sizes) == 40:
            assert estimate.standard_error == pytest.approx(samples.std().item() / 40**0.5, rel=1e-12)


def test_a_function_of_seed_and_samples_alone_and_the_value_is_the_distance() -> None:
    features = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    reference, everything = Moments(4), Moments(4)
    reference.update(features + torch.arange(4))
    everything.update(features)
    state = torch.get_rng_state()
    first, again, other = (jackknife(features, reference, 7, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.value == other.value == frechet_distance(everything, reference)
    assert first.samples == 60
    assert torch.equal(torch.get_rng_state(), state)


def test_refusals_name_the_argument() -> None:
    with pytest.raises(ValueError, match="groups is 1"):
        jackknife(torch.randn(30, 3), _reference(), groups=1)
    with pytest.raises(ValueError, match="at least 20 feature vectors"):
        jackknife(torch.randn(19, 3), _reference())
    with pytest.raises(ValueError, match="features"):
        jackknife(torch.randn(30, 2), _reference())
    with pytest.raises(ValueError, match="reference"):
        jackknife(torch.randn(30, 3), torch.randn(30, 3))  # type: ignore[arg-type]
