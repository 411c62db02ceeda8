"""Smoothness and invariant flatness of a two-layer ReLU network s(x) = theta max(W^T x + b, 0) / m (Theorem T9).

All measures here are means over p, of points or of N(0, I). The path norm and the path flatness are the same for every
rescaling of a neuron (theta_j / a, a w_j, a b_j), which leaves the function as it is; the trace of the Gauss-Newton
matrix is not, and the path flatness is the least that rescaling can make of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from theory.model import arguments
from theory.model.smoothed_relu import Smoothed


class Moments(NamedTuple):
    """Of every neuron, over p: energy (m,), E phi_j^2; reach (m,), E 1_j |x|^2, where 1_j says that it is active."""

    energy: Float[ndarray, " m"]
    reach: Float[ndarray, " m"]


def _network(theta: object, W: object, b: object) -> tuple[ndarray, ndarray, ndarray]:
    W = arguments.matrix("W", W)
    return arguments.matrix("theta", theta, *W.shape), W, arguments.vector("b", b, W.shape[1])


def relu_moments(
    W: Float[ndarray, "d m"], b: Float[ndarray, " m"], x: Float[ndarray, "n d"] | None = None, extra: float = 0.0
) -> Moments:
    """E phi_j^2 and E 1_j |x|^2, over equally likely points, or exactly under N(0, I).

    Args:
        W: (d, m).
        b: (m,).
        x: (n, d); None for N(0, I).
        extra: what stands beside |x|^2: |e|^2 where U, which reads the embedding e, gets noise too.

    Raises:
        ValueError: an argument is not as above.
    """
    W = arguments.matrix("W", W)
    b = arguments.vector("b", b, W.shape[1])
    extra = arguments.scalar("extra", extra, at_least=0)
    if x is not None:
        points = arguments.matrix("x", x, columns=W.shape[0])
        z = points @ W + b
        sizes = (points**2).sum(axis=1) + extra
        return Moments((np.maximum(z, 0) ** 2).mean(axis=0), ((z > 0) * sizes[:, None]).mean(axis=0))
    deviation = np.linalg.norm(W, axis=0)
    smoothed = Smoothed.of(b, deviation)
    # |x|^2 is u^2 along W's column and 1 in the mean in every direction across it, which z does not see
    return Moments(smoothed.second, (W.shape[0] - 1 + extra) * smoothed.active + smoothed.spread)


def path_norm(theta: Float[ndarray, "d m"], W: Float[ndarray, "d m"]) -> float:
    """(1/m) sum_j |theta_j| |w_j|: a Lipschitz constant of s, the same for every rescaling of neurons.

    Raises:
        ValueError: wrong shapes or entries that are not finite.
    """
    W = arguments.matrix("W", W)
    theta = arguments.matrix("theta", theta, *W.shape)
    return float((np.linalg.norm(theta, axis=0) * np.linalg.norm(W, axis=0)).mean())


def gauss_newton_trace(
    theta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    x: Float[ndarray, "n d"] | None = None,
    extra: float = 0.0,
) -> float:
    """tr H_GN in theta and W (and U) of E|s - y|^2: (2/m^2) sum_j (d E phi_j^2 + |theta_j|^2 E 1_j |x|^2).

    Half of it times s^2 is, to second order, the loss's rise under noise of deviation s on these weights, where s is
    Bayes-optimal.

    Args:
        theta, W: (d, m).
        b: (m,).
        x, extra: as `relu_moments` takes them.

    Raises:
        ValueError: an argument is not as above.
    """
    theta, W, b = _network(theta, W, b)
    energy, reach = relu_moments(W, b, x, extra)
    d, m = theta.shape
    return float(2 / m**2 * (d * energy + (theta**2).sum(axis=0) * reach).sum())


def path_flatness(
    theta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    x: Float[ndarray, "n d"] | None = None,
    extra: float = 0.0,
) -> float:
    """(4 sqrt(d) / m^2) sum_j |theta_j| sqrt(E phi_j^2 E 1_j |x|^2): tr H_GN's infimum over rescalings of neurons.

    Raises:
        ValueError: an argument is not as `gauss_newton_trace` says.
    """
    theta, W, b = _network(theta, W, b)
    energy, reach = relu_moments(W, b, x, extra)
    d, m = theta.shape
    sizes = np.linalg.norm(theta, axis=0)
    return float(4 * np.sqrt(d) / m**2 * (sizes * np.sqrt(energy) * np.sqrt(reach)).sum())


class Network(NamedTuple):
    """The weights of a two-layer network."""

    theta: Float[ndarray, "d m"]
    W: Float[ndarray, "d m"]
    b: Float[ndarray, " m"]


def balanced(
    theta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    x: Float[ndarray, "n d"] | None = None,
    extra: float = 0.0,
) -> Network:
    """The same function with every neuron rescaled to where tr H_GN is least: a_j^4 = |theta_j|^2 reach / (d energy).

    A neuron without output or without energy has no such scale (its part falls towards 0 at the end of a range) and is
    left as it is.

    Raises:
        ValueError: an argument is not as `gauss_newton_trace` says.
    """
    theta, W, b = _network(theta, W, b)
    energy, reach = relu_moments(W, b, x, extra)
    sizes = np.linalg.norm(theta, axis=0)
    numerator, denominator = np.sqrt(sizes) * reach**0.25, (theta.shape[0] * energy) ** 0.25
    usable = (numerator > 0) & (denominator > 0)
    scale = np.where(usable, numerator, 1.0) / np.where(usable, denominator, 1.0)
    return Network(theta / scale, W * scale, b * scale)


def lipschitz_from_flatness(
    theta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    x: Float[ndarray, "n d"] | None = None,
) -> float:
    """m tr H_GN / (4 sqrt(d) c), c = min_j sqrt(E phi_j^2 E 1_j |x|^2) / |w_j|: at least the path norm.

    Infinite where a neuron that has output and weights is never active over p: p then says nothing of its slope.

    Raises:
        ValueError: an argument is not as `gauss_newton_trace` says.
    """
    theta, W, b = _network(theta, W, b)
    energy, reach = relu_moments(W, b, x)
    d, m = theta.shape
    lengths = np.linalg.norm(W, axis=0)
    counted = (np.linalg.norm(theta, axis=0) > 0) & (lengths > 0)
    if not counted.any():
        return 0.0
    least = float((np.sqrt(energy[counted]) * np.sqrt(reach[counted]) / lengths[counted]).min())
    return float("inf") if least == 0 else m * gauss_newton_trace(theta, W, b, x) / (4 * float(np.sqrt(d)) * least)
