"""The score model of Eq. (9), its activations, and the second moment of its features.

s(x) = theta sigma(W^T x + U^T e) / m. Everything that the theory says of a loss at a minimum goes through
G = E_p[phi phi^T] with phi(x) = sigma(W^T x + b), b = U^T e: the Hessian in theta is (2/m^2) G kron I_d.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import special

from theory.model import arguments

Elementwise = Callable[[ndarray], ndarray]

QUADRATURE_NODES = 80
"""Gauss-Hermite nodes a dimension, for the moments of smooth activations. The error is below 1e-10 for |w_j| <= 1, and
grows with |w_j| as the activation steepens: tanh, the worst, has about 2e-5 at |w_j| = 2."""
LEAK = 0.2
"""Slope of the leaky ReLU below zero."""
# gelu' = Phi(z) + z phi(z) is largest where its derivative phi(z) (2 - z^2) vanishes, at sqrt(2).
_GELU_LIPSCHITZ = float(special.ndtr(np.sqrt(2)) + np.exp(-1) / np.sqrt(np.pi))
DEGENERATE = 1e-9
"""1 - |r| below which two pre-activations are taken as proportional; the moment moves by O(1 - |r|) at most."""


@dataclass(frozen=True)
class Activation:
    """A scalar activation sigma with what the theorems need of it.

    Args:
        name: what it is called.
        function: sigma, elementwise.
        derivative: sigma', elementwise (for ReLU the left derivative at 0).
        antiderivative: a Phi with Phi' = sigma, elementwise (Theorem T1).
        lipschitz: the smallest L with |sigma(a) - sigma(b)| <= L |a - b|.
    """

    name: str
    function: Elementwise
    derivative: Elementwise
    antiderivative: Elementwise
    lipschitz: float

    def __call__(self, z: ndarray) -> ndarray:
        """sigma(z), elementwise."""
        return self.function(z)


def _softplus(z: ndarray) -> ndarray:
    return np.logaddexp(0.0, z)


def _softplus_antiderivative(z: ndarray) -> ndarray:
    # -Li2(-e^z), and by the dilogarithm's inversion formula for z > 0, where e^z overflows.
    negative = -special.spence(1 + np.exp(-np.abs(z)))
    return np.where(z <= 0, negative, z**2 / 2 + np.pi**2 / 6 - negative)


def _log_cosh(z: ndarray) -> ndarray:
    return np.logaddexp(z, -z) - np.log(2)


def _normal_density(z: ndarray) -> ndarray:
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


ACTIVATIONS: dict[str, Activation] = {
    activation.name: activation
    for activation in (
        Activation("linear", lambda z: z, np.ones_like, lambda z: z**2 / 2, 1.0),
        Activation(
            "relu", lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, lambda z: np.maximum(z, 0) ** 2 / 2, 1.0
        ),
        Activation(
            "leaky_relu",
            lambda z: np.where(z > 0, z, LEAK * z),
            lambda z: np.where(z > 0, 1.0, LEAK),
            lambda z: np.where(z > 0, 1.0, LEAK) * z**2 / 2,
            1.0,
        ),
        Activation("tanh", np.tanh, lambda z: 1 - np.tanh(z) ** 2, _log_cosh, 1.0),
        Activation("sigmoid", special.expit, lambda z: special.expit(z) * special.expit(-z), _softplus, 0.25),
        Activation("softplus", _softplus, special.expit, _softplus_antiderivative, 1.0),
        Activation(
            "gelu",
            lambda z: z * special.ndtr(z),
            lambda z: special.ndtr(z) + z * _normal_density(z),
            lambda z: ((z**2 - 1) * special.ndtr(z) + z * _normal_density(z)) / 2,
            _GELU_LIPSCHITZ,
        ),
        Activation(
            "erf",
            special.erf,
            lambda z: 2 / np.sqrt(np.pi) * np.exp(-(z**2)),
            lambda z: z * special.erf(z) + np.exp(-(z**2)) / np.sqrt(np.pi),
            float(2 / np.sqrt(np.pi)),
        ),
    )
}


def activation_of(value: str | Activation) -> Activation:
    """The activation of that name, or the one given.

    Raises:
        ValueError: a name that is not known.
    """
    if isinstance(value, Activation):
        return value
    return ACTIVATIONS[arguments.choice("activation", value, ACTIVATIONS)]


@dataclass(frozen=True, eq=False)
class RandomFeatureScore:
    """The score model of Eq. (9), s(x, e) = theta sigma(W^T x + U^T e) / m.

    Args:
        theta: (d, m), the weights that are learnt.
        W: (d, m), frozen; its columns w_j read x.
        U: (k, m), frozen; reads the time embedding e of length k.
        activation: its name, or an Activation.

    Raises:
        ValueError: wrong shapes, entries that are not finite, an unknown activation.
    """

    theta: Float[ndarray, "d m"]
    W: Float[ndarray, "d m"]
    U: Float[ndarray, "k m"]
    activation: str | Activation = "relu"

    def __post_init__(self) -> None:
        """Check every argument."""
        theta = arguments.matrix("theta", self.theta)
        object.__setattr__(self, "theta", theta)
        object.__setattr__(self, "W", arguments.matrix("W", self.W, *theta.shape))
        object.__setattr__(self, "U", arguments.matrix("U", self.U, None, theta.shape[1]))
        object.__setattr__(self, "activation", activation_of(self.activation))

    def bias(self, e: Float[ndarray, " k"]) -> Float[ndarray, " m"]:
        """b = U^T e."""
        return arguments.vector("e", e, self.U.shape[0]) @ self.U

    def features(self, x: Float[ndarray, "*n d"], e: Float[ndarray, " k"]) -> Float[ndarray, "*n m"]:
        """phi(x) = sigma(W^T x + U^T e) for points x of shape (..., d)."""
        x = arguments.points("x", x, self.W.shape[0])
        return activation_of(self.activation)(x @ self.W + self.bias(e))

    def __call__(self, x: Float[ndarray, "*n d"], e: Float[ndarray, " k"]) -> Float[ndarray, "*n d"]:
        """s(x, e) for points x of shape (..., d)."""
        return self.features(x, e) @ self.theta.T / self.W.shape[1]


def feature_second_moment(
    W: Float[ndarray, "d m"], b: Float[ndarray, " m"], activation: str | Activation = "relu"
) -> Float[ndarray, "m m"]:
    """G = E[phi phi^T] under x ~ N(0, I), phi = sigma(W^T x + b).

    Exact for linear (W^T W + b b^T), and for ReLU and leaky ReLU, whose entries are bivariate normal integrals; at
    b = 0 those of ReLU are the arc-cosine kernel of degree 1. Otherwise tensor Gauss-Hermite quadrature with
    QUADRATURE_NODES nodes a dimension: the pre-activations are jointly normal, so every entry is a two-dimensional
    integral whatever d is.

    Args:
        W: (d, m).
        b: (m,).
        activation: its name, or an Activation.

    Raises:
        ValueError: wrong shapes, entries that are not finite, an unknown activation.
    """
    W = arguments.matrix("W", W)
    b = arguments.vector("b", b, W.shape[1])
    sigma = activation_of(activation)
    if sigma is ACTIVATIONS["linear"]:
        return W.T @ W + np.outer(b, b)
    deviation = np.linalg.norm(W, axis=0)
    directions = W / np.where(deviation > 0, deviation, 1)
    correlation = np.clip(directions.T @ directions, -1, 1)
    np.fill_diagonal(correlation, 1.0)
    if sigma is ACTIVATIONS["relu"]:
        return relu_product_moment(b, deviation, correlation)
    if sigma is ACTIVATIONS["leaky_relu"]:  # a combination of max(z, 0) and max(-z, 0)
        signs = np.concatenate([np.ones(b.size), -np.ones(b.size)])
        halves = relu_product_moment(
            signs * np.tile(b, 2), np.tile(deviation, 2), np.outer(signs, signs) * np.tile(correlation, (2, 2))
        )
        combine = np.hstack([np.eye(b.size), -LEAK * np.eye(b.size)])
        return combine @ halves @ combine.T
    nodes, weights = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
    weights = weights / weights.sum()
    # z_j = b_j + s_j u and z_k = b_k + s_k (r u + sqrt(1 - r^2) v), one row of G at a time.
    first = sigma(b[:, None] + deviation[:, None] * nodes)
    moment = np.empty((b.size, b.size))
    for j in range(b.size):
        r = correlation[j, j:, None, None]
        z = b[j:, None, None] + deviation[j:, None, None] * (r * nodes[:, None] + np.sqrt(1 - r**2) * nodes)
        moment[j, j:] = np.einsum("u,kuv,u,v->k", first[j], sigma(z), weights, weights, optimize=True)
        moment[j:, j] = moment[j, j:]
    return moment


def _density(h: ndarray) -> ndarray:
    return np.exp(-(h**2) / 2) / np.sqrt(2 * np.pi)


def _bivariate_distribution(h: ndarray, k: ndarray, r: ndarray) -> ndarray:
    """P(u_1 <= h, u_2 <= k) for standard normals of correlation |r| < 1, by Owen's T function."""
    root = np.sqrt((1 - r) * (1 + r))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # an infinite slope is the right limit
        slope_h = (k - r * h) / (h * root)
        slope_k = (h - r * k) / (k * root)
    # At h = 0, T(0, a) = atan(a) / (2 pi) with a = +-inf by the sign of k; at h = k = 0 the limit along h = k is taken.
    both_zero = (h == 0) & (k == 0)
    slope_h = np.where(both_zero, (1 - r) / root, np.where(h == 0, np.copysign(np.inf, k), slope_h))
    slope_k = np.where(both_zero, (1 - r) / root, np.where(k == 0, np.copysign(np.inf, h), slope_k))
    product = h * k
    correction = np.where((product > 0) | ((product == 0) & (h + k >= 0)), 0.0, 0.5)
    halves = (special.ndtr(h) + special.ndtr(k)) / 2
    return halves - special.owens_t(h, slope_h) - special.owens_t(k, slope_k) - correction


def _general(h: ndarray, k: ndarray, r: ndarray) -> ndarray:
    """E[(u_1 + h)_+ (u_2 + k)_+] for correlation |r| < 1."""
    root = np.sqrt((1 - r) * (1 + r))
    exponent = ((h - r * k) / root) ** 2 + k**2
    return (
        (h * k + r) * _bivariate_distribution(h, k, r)
        + k * _density(h) * special.ndtr((k - r * h) / root)
        + h * _density(k) * special.ndtr((h - r * k) / root)
        + root / (2 * np.pi) * np.exp(-exponent / 2)
    )


def _parallel(h: ndarray, k: ndarray) -> ndarray:
    """E[(u + h)_+ (u + k)_+]."""
    low, high = np.minimum(h, k), np.maximum(h, k)
    return (1 + h * k) * special.ndtr(low) + high * _density(low)


def _antiparallel(h: ndarray, k: ndarray) -> ndarray:
    """E[(u + h)_+ (k - u)_+]."""
    value = (h * k - 1) * (special.ndtr(k) - special.ndtr(-h)) + h * _density(k) + k * _density(h)
    return np.where(h + k > 0, value, 0.0)


def relu_product_moment(
    mean: Float[ndarray, " m"], deviation: Float[ndarray, " m"], correlation: Float[ndarray, "m m"]
) -> Float[ndarray, "m m"]:
    """E[max(z_j, 0) max(z_k, 0)] for normal z of these means, standard deviations (zero allowed) and correlations.

    At zero means this is the arc-cosine kernel s_j s_k [sqrt(1 - r^2) + r (pi - arccos r)] / (2 pi).
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        standard = np.where(deviation > 0, mean / deviation, 0.0)
    # Beyond 1e8 deviations ReLU is linear, or zero, to rounding; the clip keeps products finite.
    standard = np.clip(standard, -1e8, 1e8)
    h, k = np.broadcast_arrays(standard[:, None], standard[None, :])
    inner = np.abs(correlation) < 1 - DEGENERATE
    unit = np.where(
        inner,
        _general(h, k, np.where(inner, correlation, 0.0)),
        np.where(correlation > 0, _parallel(h, k), _antiparallel(h, k)),
    )
    moment = deviation[:, None] * deviation[None, :] * np.maximum(unit, 0.0)
    first = deviation * (standard * special.ndtr(standard) + _density(standard))  # E max(z_j, 0)
    first = np.where(deviation > 0, first, np.maximum(mean, 0.0))
    constant = deviation == 0
    moment = np.where(constant[:, None] | constant[None, :], first[:, None] * first[None, :], moment)
    return (moment + moment.T) / 2
