"""Intervals that hold as often as they say, paired differences, and mutants."""

from __future__ import annotations

import math

import pytest
import torch

from flatness.cli import statistics
from flatness.cli.statistics import Part, Uncertain, by_sample, paired_difference, student_quantile
from flatness.measuring.base import Estimate
from tests.flatness import measures_common as common

TRIALS = 2000
DRAWS, SAMPLES = 3, 8


def matrices(seed: int, of_draws: float, of_samples: float) -> torch.Tensor:
    """Many matrices (TRIALS, DRAWS, SAMPLES) of mean 2: a part of each draw, one of each sample, one of each entry."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(TRIALS, *shape, generator=generator, dtype=torch.float64)

    return 2.0 + of_draws * normal(DRAWS, 1) + of_samples * normal(1, SAMPLES) + 0.1 * normal(DRAWS, SAMPLES)


def coverage(of_draws: float, of_samples: float) -> float:
    """The share of intervals that hold the mean."""
    numbers = [Uncertain.of_parts([Part(one)]) for one in matrices(0, of_draws, of_samples)]
    return sum(abs(one.value - 2.0) <= one.half_width for one in numbers) / TRIALS


def check_coverage() -> None:
    """95%, or more where both errors count: quadrature errs on the large side, Welch's degrees are an estimate."""
    error = math.sqrt(0.95 * 0.05 / TRIALS)
    for of_draws, of_samples in ((0.0, 1.0), (1.0, 0.0), (1.0, 1.0)):
        share = coverage(of_draws, of_samples)
        assert share > 0.95 - common.STANDARD_ERRORS * error
        assert share < 0.995


def test_intervals_hold_as_often_as_they_say() -> None:
    check_coverage()


def test_mutants_of_the_interval_fail() -> None:
    mutants = (
        common.patched(statistics, "student_quantile", lambda degrees: 1.96),
        common.patched(Part, "draw_error", 0.0),
        common.patched(statistics, "standard_error", lambda values: 0.5 * float(values.std()) / len(values) ** 0.5),
        common.patched(statistics, "standard_error", lambda values: float(values.std())),
    )
    for mutant in mutants:
        with mutant, pytest.raises(AssertionError):
            check_coverage()


def test_students_quantiles() -> None:
    # Student (1908) and any table since: 12.706, 2.262 and 1.960 at 1, 9 and infinitely many degrees of freedom
    for degrees, expected in ((1, 12.706), (9, 2.262), (math.inf, 1.960)):
        assert student_quantile(degrees) == pytest.approx(expected, abs=5e-4)


def check_pairing() -> None:
    """What two share cancels; a shift of one is the difference; signs of parts count."""
    left, right = matrices(1, 1.0, 1.0)[0], matrices(2, 0.0, 0.0)[0]
    difference = paired_difference([Part(left + right - 2.0), Part(left, -1.0)], [Part(left), Part(left + 3.0, -1.0)])
    assert difference is not None
    assert difference.value == pytest.approx(float(right.mean()) - 2.0 + 3.0, rel=1e-12)
    assert (
        0 < difference.error < 0.2
    )  # of the entries' own .1 over 24 entries, in quadrature twice; the shared parts are 1
    turned = paired_difference([Part(left)], [Part(left + right)])
    assert turned is not None
    assert turned.value == pytest.approx(-float(right.mean()), rel=1e-12)


def test_differences_are_paired() -> None:
    check_pairing()
    values = matrices(1, 1.0, 1.0)[0]
    assert paired_difference([Part(values)], [Part(values[:, :5])]) is None
    assert paired_difference([Part(values)], [Part(values), Part(values)]) is None


def test_mutants_of_pairing_fail() -> None:
    original = Uncertain.of_parts
    mutants = (
        lambda parts: original([Part(-part.values, part.sign) for part in parts]),
        lambda parts: original([Part(part.values) for part in parts]),
        lambda parts: original([Part(part.values + torch.randn(part.values.shape), part.sign) for part in parts]),
    )
    for mutant in mutants:
        with common.patched(Uncertain, "of_parts", mutant), pytest.raises(AssertionError):
            check_pairing()


def test_numbers_without_single_values() -> None:
    one = Uncertain.of_estimate(Estimate(1.0, 0.0, 0.3), 10)
    two = Uncertain.of_estimate(Estimate(3.0, 0.0, 0.4), 10)
    difference = two.minus(one, 10)
    assert difference.value == 2.0
    assert difference.error == pytest.approx(0.5)
    assert difference.half_width > 1.96 * difference.error
    assert math.isnan(Uncertain.of_estimate(Estimate(1.0, 0.0, math.nan), 1).half_width)
    assert by_sample(Part(torch.tensor([[1.23456789, 2.0], [1.23456789, 4.0]]))) == [1.234568, 3.0]
