"""Means over draws and samples with two standard errors, their intervals, and paired differences.

A measured number is a sum of means of matrices (draws, samples), each with a sign: a rise is one matrix, a gap between
two independent sets of images two. What two networks' numbers differ by is computed from the differences of the
matrices, entry by entry, as both were measured with the same samples, noise and weight noise.

The error of a matrix's mean adds in quadrature the error over draws, from the means of its rows, and the one over
samples, from those of its columns. Both hold the share that belongs to single entries, so the sum errs on the large
side. Intervals are Student's at 95%, with the degrees of freedom of Welch and Satterthwaite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flatness.measuring.base import Estimate, standard_error

LEVEL = 0.95


def student_quantile(degrees: float) -> float:
    """The half-width, in standard errors, of Student's interval at LEVEL; the normal one's for infinitely many."""
    from scipy.special import ndtri, stdtrit  # at the call: importing it takes longer than all of this package

    tail = 0.5 + LEVEL / 2
    return float(ndtri(tail) if math.isinf(degrees) else stdtrit(degrees, tail))


@dataclass(frozen=True)
class Part:
    """One matrix of a number.

    Attributes:
        values: (draws, samples), float64; one row where nothing is drawn.
        sign: 1 or -1.
    """

    values: Tensor
    sign: float = 1.0

    @property
    def mean(self) -> float:
        """With its sign."""
        return self.sign * float(self.values.mean())

    @property
    def draw_error(self) -> float:
        """Over draws, the samples held fixed; 0 where nothing is drawn."""
        return standard_error(self.values.mean(1)) if len(self.values) > 1 else 0.0

    @property
    def data_error(self) -> float:
        """Over samples, each one's mean over the draws."""
        return standard_error(self.values.mean(0))

    @property
    def variances(self) -> list[tuple[float, int]]:
        """Squared errors with their degrees of freedom."""
        terms = [(self.data_error**2, self.values.shape[1] - 1)]
        return [*terms, (self.draw_error**2, len(self.values) - 1)] if len(self.values) > 1 else terms


@dataclass(frozen=True)
class Uncertain:
    """A number with its standard errors and the half-width of its 95% interval.

    Attributes:
        value: the number.
        draw_error, data_error: standard errors over draws of the weights' noise and over samples.
        error: both in quadrature.
        half_width: of the interval; NaN where there is no error.
    """

    value: float
    draw_error: float
    data_error: float
    error: float
    half_width: float

    @classmethod
    def of_parts(cls, parts: Sequence[Part]) -> Uncertain:
        """The sum of the parts' means, which are independent of one another."""
        variances = [pair for part in parts for pair in part.variances]
        draws, data = (math.hypot(*(getattr(part, name) for part in parts)) for name in ("draw_error", "data_error"))
        return cls(math.fsum(part.mean for part in parts), draws, data, *_spread(variances))

    @classmethod
    def without_error(cls, value: float) -> Uncertain:
        """A number whose errors are not known."""
        return cls(value, math.nan, math.nan, math.nan, math.nan)

    @classmethod
    def of_estimate(cls, estimate: Estimate, samples: int) -> Uncertain:
        """A mean over so many samples, of which no single values are known."""
        draws, data = estimate.draw_standard_error, estimate.data_standard_error
        return cls(estimate.value, draws, data, *_spread([(data**2, samples - 1), (draws**2, samples - 1)]))

    def minus(self, other: Uncertain, samples: int) -> Uncertain:
        """The difference of two such numbers, taken as independent, which errs on the large side where they are not."""
        draws, data = math.hypot(self.draw_error, other.draw_error), math.hypot(self.data_error, other.data_error)
        variances = [(self.error**2, samples - 1), (other.error**2, samples - 1)]
        return Uncertain(self.value - other.value, draws, data, *_spread(variances))


def _spread(variances: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """The error of a sum of independent terms, and its interval's half-width."""
    total = math.fsum(variance for variance, _ in variances)
    if not math.isfinite(total):
        return math.nan, math.nan
    below = math.fsum(variance**2 / degrees for variance, degrees in variances if degrees > 0)
    degrees = total**2 / below if below > 0 else math.inf
    error = math.sqrt(total)
    return error, error * student_quantile(degrees) if error else 0.0


def paired_difference(left: Sequence[Part], right: Sequence[Part]) -> Uncertain | None:
    """left - right, entry by entry; None where the matrices are of different shapes.

    Draws are paired by their number. Where weights have other shapes the noise of one network says nothing of the
    other's, and pairing them is neither a gain nor a loss.
    """
    if len(left) != len(right):
        return None
    pairs = list(zip(left, right, strict=True))
    if any(a.values.shape != b.values.shape or a.sign != b.sign for a, b in pairs):
        return None
    return Uncertain.of_parts([Part(a.values - b.values, a.sign) for a, b in pairs])


def by_sample(part: Part) -> list[float]:
    """The mean over draws of each sample, to as many digits as float32 holds."""
    means: list[float] = part.values.mean(0).tolist()
    return [float(f"{value:.7g}") for value in means]


def stacked(passes: Sequence[Sequence[Tensor]]) -> Tensor:
    """The losses of several passes over the batches as a matrix (passes, samples), float64 on the CPU."""
    return torch.stack([torch.cat([values.detach().cpu().double() for values in one]) for one in passes])
