"""E[max(z_1, 0) max(z_2, 0)] for jointly normal z: the entries of G for ReLU features."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import special

DEGENERATE = 1e-9
"""1 - |r| below which two pre-activations are taken as proportional; the moment moves by O(1 - |r|) at most."""


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
