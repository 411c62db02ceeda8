"""A two-layer ReLU network under Gaussian noise on all of its weights: its expected loss in closed form (Theorem T13).

For z ~ N(mu, tau^2) the means of max(z, 0) and of its square are mu Phi(h) + tau phi(h) and (mu^2 + tau^2) Phi(h) + mu
tau phi(h), h = mu / tau. Noise of deviation s on the column w_j makes the pre-activation at x normal with tau = s |x|,
and independent from neuron to neuron.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import special

from theory.model import arguments


class Smoothed(NamedTuple):
    """The means of max(z, 0) and of its square, P(z > 0), and the mean of u^2 over z > 0, for z = mean + deviation u.

    Without deviation z is its mean, and the last is P(z > 0), its limit.
    """

    first: Float[ndarray, "*n"]
    second: Float[ndarray, "*n"]
    active: Float[ndarray, "*n"]
    spread: Float[ndarray, "*n"]

    @classmethod
    def of(cls, mean: Float[ndarray, "*n"], deviation: Float[ndarray, "*n"]) -> Smoothed:
        """Of arguments that have been checked."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            scaled = mean / np.where(deviation > 0, deviation, 1.0)
            h = np.where(deviation > 0, scaled, np.where(mean > 0, np.inf, -np.inf))
        h = np.clip(h, -1e8, 1e8)  # beyond, ReLU is linear, or zero, to rounding
        active, density = special.ndtr(h), np.exp(-(h**2) / 2) / np.sqrt(2 * np.pi)
        first = mean * active + deviation * density
        second = (mean**2 + deviation**2) * active + mean * deviation * density
        return cls(np.maximum(first, 0.0), np.maximum(second, 0.0), active, np.maximum(active - h * density, 0.0))


def smoothed_relu(mean: Float[ndarray, "*n"], deviation: Float[ndarray, "*n"]) -> Smoothed:
    """E max(z, 0), E max(z, 0)^2 and what else goes over z > 0 for z ~ N(mean, deviation^2), elementwise.

    Args:
        mean, deviation: of shapes that fit each other; deviations at least 0.

    Raises:
        ValueError: an argument is not as above.
    """
    mean = arguments.numbers("mean", mean)
    deviation = arguments.numbers("deviation", deviation, at_least=0)
    try:
        mean, deviation = np.broadcast_arrays(mean, deviation)
    except ValueError as error:
        shapes = f"{mean.shape} and {deviation.shape}"
        raise ValueError(f"mean and deviation have shapes {shapes}; allowed: shapes that fit each other") from error
    return Smoothed.of(mean, deviation)


class NoisyLoss(NamedTuple):
    """The low-pass-filter measure of a two-layer network, in closed form.

    Attributes:
        value: E|s - y|^2 under the noise.
        loss: the same without noise.
    """

    value: float
    loss: float

    @property
    def rise(self) -> float:
        """Value less loss."""
        return self.value - self.loss


def two_layer_low_pass_filter(
    theta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    x: Float[ndarray, "n d"],
    y: Float[ndarray, "n d"],
    theta_noise: float,
    W_noise: float,
    extra: float = 0.0,
) -> NoisyLoss:
    """E_z E|s(x) - y|^2 of s = theta max(W^T x + b, 0) / m, exact at any noise; losses are sums over coordinates.

    Args:
        theta, W: (d, m).
        b: (m,).
        x, y: (n, d), equally likely points and targets.
        theta_noise, W_noise: standard deviations of independent noise on every entry of theta and of W, at least 0.
        extra: |e|^2 where U, which reads the embedding e, gets W's noise too.

    Raises:
        ValueError: an argument is not as above.
    """
    W = arguments.matrix("W", W)
    theta, b = arguments.matrix("theta", theta, *W.shape), arguments.vector("b", b, W.shape[1])
    x = arguments.matrix("x", x, columns=W.shape[0])
    y = arguments.matrix("y", y, *x.shape)
    theta_noise = arguments.scalar("theta_noise", theta_noise, at_least=0)
    W_noise = arguments.scalar("W_noise", W_noise, at_least=0)
    sizes = np.sqrt((x**2).sum(axis=1) + arguments.scalar("extra", extra, at_least=0))
    d, m = theta.shape
    z = x @ W + b
    first, second, _, _ = Smoothed.of(z, W_noise * sizes[:, None])
    bias = ((first @ theta.T / m - y) ** 2).sum(axis=1)
    spread = (np.maximum(second - first**2, 0.0) @ (theta**2).sum(axis=0)) / m**2
    noise = theta_noise**2 * d / m**2 * second.sum(axis=1)
    plain = ((np.maximum(z, 0) @ theta.T / m - y) ** 2).sum(axis=1)
    return NoisyLoss(float((bias + spread + noise).mean()), float(plain.mean()))
