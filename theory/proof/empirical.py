"""Fitting problems with p uniform on finitely many points: expected losses are finite sums, exact up to rounding.

Weights on a grid as well: problems to round, every outcome of random rounding with its probability, and rounding noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product

import numpy as np
from hypothesis import strategies as st
from jaxtyping import Float
from numpy import ndarray

from theory.model.random_features import ACTIVATIONS
from theory.proof import strategies


@dataclass(frozen=True)
class Problem(strategies.Model):
    """A model of Eq. (9) to be fitted to scores at points of probability 1/n each.

    Args:
        x, g: (n, d), the points and grad log p there.
        minimum: (d, m), a theta at which the expected loss is least, features frozen.
        activation: its name.
        moving: 0 for frozen features; otherwise they read W + moving theta in place of W.
    """

    x: Float[ndarray, "n d"]
    g: Float[ndarray, "n d"]
    minimum: Float[ndarray, "d m"]
    activation: str
    moving: float = 0.0

    def features(self, theta: Float[ndarray, "d m"]) -> Float[ndarray, "n m"]:
        """phi at every point."""
        return ACTIVATIONS[self.activation](self.x @ (self.W + self.moving * theta) + self.b)

    def residuals(self, theta: Float[ndarray, "d m"]) -> Float[ndarray, "n d"]:
        """r = theta phi / m - g at every point."""
        return self.features(theta) @ theta.T / self.m - self.g

    def loss(self, theta: Float[ndarray, "d m"]) -> float:
        """E_p[L(x; theta, p)] = E|r|^2."""
        return float((self.residuals(theta) ** 2).sum(axis=1).mean())

    def size(self, *thetas: Float[ndarray, "d m"]) -> float:
        """A bound of the losses at these theta without cancellation: what rounding is relative to."""
        weights = np.max(np.abs(thetas), axis=0)
        features = np.max([np.abs(self.features(theta)) for theta in thetas], axis=0)
        return float(((features @ weights.T / self.m + np.abs(self.g)) ** 2).sum(axis=1).mean())

    @cached_property
    def second_moment(self) -> Float[ndarray, "m m"]:
        """G = E_p[phi phi^T] of the frozen features."""
        phi = self.features(np.zeros_like(self.W))
        return phi.T @ phi / len(phi)


@st.composite
def problems(
    draw: st.DrawFn,
    largest: tuple[int, int] = (6, 10),
    names: tuple[str, ...] = tuple(ACTIVATIONS),
    moving: float = 0.0,
) -> Problem:
    """Fewer points than features and more, dead features included, any activation of those named.

    The scores are those of the minimum plus residuals orthogonal to every feature, so that it is one to rounding.
    """
    shapes = st.tuples(st.integers(1, largest[0]), st.integers(1, largest[1]))
    model = draw(strategies.models(shapes))
    rng = np.random.default_rng(draw(strategies.seeds))
    x, residuals = rng.standard_normal((2, draw(st.integers(1, 15)), model.d))
    minimum, name = rng.standard_normal(model.W.shape), draw(st.sampled_from(names))
    phi = ACTIVATIONS[name](x @ model.W + model.b)
    span = np.linalg.qr(phi)[0]
    residuals = residuals - span @ (span.T @ residuals)
    residuals = residuals - span @ (span.T @ residuals)  # once more: the first leaves rounding relative to itself
    g = phi @ minimum.T / model.m - residuals
    return Problem(model.W, model.b, x, g, minimum, name, moving)


@dataclass(frozen=True)
class Quantised:
    """A problem, theta, the step of the grid, and whether every weight draws its own randomness."""

    problem: Problem
    theta: ndarray
    step: float
    independent: bool

    @property
    def fractions(self) -> ndarray:
        """f, how far every weight lies above the grid point below, over the step."""
        return self.theta / self.step - np.floor(self.theta / self.step)

    def mean_rise(self, outcomes: Iterable[tuple[float, ndarray]]) -> float:
        """What the loss rises by, averaged over errors with their probabilities."""
        mean = sum(weight * self.problem.loss(self.theta + error) for weight, error in outcomes)
        return mean - self.problem.loss(self.theta)


@st.composite
def quantised(draw: st.DrawFn, independent: bool = True, shape: tuple[int, int] = (2, 3)) -> Quantised:
    """Any theta or a minimum, steps from coarse to fine."""
    problem = draw(problems(shape))
    rng = np.random.default_rng(draw(strategies.seeds))
    weights = problem.minimum if draw(st.booleans()) else rng.standard_normal(problem.W.shape)
    return Quantised(problem, weights, draw(st.sampled_from([2.0, 0.3, 0.01])), independent)


def dither_errors(instance: Quantised) -> Iterable[tuple[float, ndarray]]:
    """Outcomes with probabilities: two Gauss nodes for each uniform error, exact for a loss quadratic in theta."""
    size = instance.theta.size if instance.independent else 1
    for signs in product((-1.0, 1.0), repeat=size):
        errors = np.resize(signs, instance.theta.shape) * instance.step / np.sqrt(12)
        yield 0.5**size, errors


def stochastic_errors(instance: Quantised) -> Iterable[tuple[float, ndarray]]:
    """Every outcome with its probability; with one draw for all weights, up where it lies below f."""
    f = instance.fractions
    if instance.independent:
        for ups in product((False, True), repeat=f.size):
            up = np.reshape(ups, f.shape)
            yield float(np.where(up, f, 1 - f).prod()), np.where(up, 1 - f, -f) * instance.step
    else:
        cuts = np.concatenate([[0.0], np.sort(f.ravel()), [1.0]])
        for low, high in pairwise(cuts):
            yield float(high - low), np.where(f > (low + high) / 2, 1 - f, -f) * instance.step


@st.composite
def rounding_errors(draw: st.DrawFn, rows: tuple[int, int] = (2, 6)) -> strategies.Perturbed:
    """Independent uniform errors, W not 0."""
    shapes = st.tuples(st.integers(*rows), st.integers(1, 8))
    model = draw(strategies.models(shapes).filter(lambda model: model.norm > 0))
    errors = np.random.default_rng(draw(strategies.seeds)).uniform(-0.5, 0.5, model.W.shape)
    return strategies.Perturbed(model.W, model.b, errors)


@dataclass(frozen=True)
class Isotropic(strategies.Model):
    """A model, and the standard deviations (d,) of the rows of delta."""

    deviations: ndarray


@st.composite
def isotropic(draw: st.DrawFn, equal_rows: bool = True) -> Isotropic:
    """W not 0, and noise of the same size in every weight, or in the weights of each row."""
    model = draw(
        strategies.models(st.tuples(st.integers(1, 6), st.integers(1, 8))).filter(lambda model: model.norm > 0)
    )
    sizes = np.random.default_rng(draw(strategies.seeds)).uniform(0.1, 1, model.d)
    return Isotropic(model.W, model.b, np.ones(model.d) if equal_rows else sizes)
