"""The three divergences between N(0, I) and a perturbed Gaussian, eigenvalue by eigenvalue.

With A = delta W^T / m = sum_i tau_i u_i u_i^T and c = delta b / m, the perturbed Gaussian is N(-(I+A)^-1 c, (I+A)^-1),
and each divergence is scale * sum_i [term(tau_i) + (u_i^T c)^2 * weight(tau_i)].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sympy
from jaxtyping import Float
from numpy import ndarray

from theory.model import arguments

TAU = sympy.Symbol("tau", real=True)
"""An eigenvalue of delta W^T / m; above -1 where the perturbed density can be normalised."""

_SERIES_BELOW = 1e-2


def excess(t: Float[ndarray, "*n"]) -> Float[ndarray, "*n"]:
    """t - log(1 + t), without the cancellation near 0 (there by its series, to rounding); infinite at -1.

    Args:
        t: numbers of at least -1, of any shape.

    Raises:
        ValueError: numbers below -1 or that are not finite.
    """
    return _excess(arguments.numbers("t", t, at_least=-1))


def _excess(t: ndarray) -> ndarray:
    small = np.where(np.abs(t) < _SERIES_BELOW, t, 0.0)
    series = np.zeros_like(small)
    for power in range(10, 1, -1):
        series = (-1) ** power / power + small * series
    direct = np.where(np.abs(t) < _SERIES_BELOW, 0.0, t)
    with np.errstate(divide="ignore"):
        return np.where(np.abs(t) < _SERIES_BELOW, small**2 * series, direct - np.log1p(direct))


@dataclass(frozen=True)
class Divergence:
    """One divergence as scale * sum [term(tau) + c^2 weight(tau)].

    Args:
        name: what the functions of this package call it.
        title: what it is.
        scale: 1/2 for the Kullback-Leibler divergences, 1 for the squared distance.
        term, weight: stable numerical forms.
        term_formula, weight_formula: the same as sympy expressions in TAU.
    """

    name: str
    title: str
    scale: float
    term: Callable[[ndarray], ndarray]
    weight: Callable[[ndarray], ndarray]
    term_formula: sympy.Expr
    weight_formula: sympy.Expr


DIVERGENCES: dict[str, Divergence] = {
    divergence.name: divergence
    for divergence in (
        Divergence(
            "kl",
            "KL(p || p_hat)",
            0.5,
            _excess,
            lambda tau: 1 / (1 + tau),
            TAU - sympy.log(1 + TAU),
            1 / (1 + TAU),
        ),
        Divergence(
            "reverse_kl",
            "KL(p_hat || p)",
            0.5,
            lambda tau: _excess(-tau / (1 + tau)),
            lambda tau: 1 / (1 + tau) ** 2,
            1 / (1 + TAU) - 1 + sympy.log(1 + TAU),
            1 / (1 + TAU) ** 2,
        ),
        Divergence(
            "w2",
            "squared 2-Wasserstein distance",
            1.0,
            lambda tau: np.expm1(-np.log1p(tau) / 2) ** 2,
            lambda tau: 1 / (1 + tau) ** 2,
            (1 / sympy.sqrt(1 + TAU) - 1) ** 2,
            1 / (1 + TAU) ** 2,
        ),
    )
}


def divergence_of(divergence: str | Divergence) -> Divergence:
    """The divergence of that name, "kl", "reverse_kl" or "w2", or the one given.

    Raises:
        ValueError: any other name.
    """
    if isinstance(divergence, Divergence):
        return divergence
    return DIVERGENCES[arguments.choice("divergence", divergence, DIVERGENCES)]
