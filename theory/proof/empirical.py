"""Fitting problems with p uniform on finitely many points: expected losses are finite sums, exact up to rounding."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
