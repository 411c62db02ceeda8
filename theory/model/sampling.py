"""Samplers whose model is off: how the error grows and what exposure bias it allows (T10), the law of samples (T11).

T10: a step is x_{t-1} = a_t x_t - k_t eps_theta(x_t, t) + sigma_t z. Arrays over t begin with t = 1, the step of least
noise.

T11, where the score is off by a constant admissible perturbation: the data are p = N(0, I), noised by a
variance-preserving process, so that the exact score is -x at every time; the model's is -x + A x + c with A = delta W^T
/ m symmetric and c = delta b / m. Time tau = int beta dt = -log alpha_bar runs from the noise on. The reverse SDE is dx
= (-x/2 + A x + c) dtau + dw, the probability-flow ODE dx = (A x + c)/2 dtau.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import linalg, special

from theory.model import arguments
from theory.model.gaussians import Gaussian, standard_normal
from theory.model.likelihood import schedule
from theory.model.perturbations import NotNormalizableError, is_admissible

SAMPLERS = ("ancestral", "ddim")


class Steps(NamedTuple):
    """The coefficients of a sampler's steps, each (T,): a_t of x_t and k_t, at least 0, of the predicted noise."""

    a: Float[ndarray, " T"]
    k: Float[ndarray, " T"]


def sampler_steps(alpha_bar: Float[ndarray, " T"], sampler: str = "ancestral") -> Steps:
    """a_t and k_t of DDPM's ancestral steps, or of DDIM's without noise.

    Args:
        alpha_bar: (T,), falling strictly within (0, 1).
        sampler: "ancestral" (Ho et al., 2020, Algorithm 2) or "ddim" (Song et al., 2021, Eq. 12 with sigma = 0).

    Raises:
        ValueError: an argument is not as above.
    """
    bars, betas = schedule(alpha_bar)
    before = np.concatenate([[1.0], bars[:-1]])
    a = np.sqrt(before) / np.sqrt(bars)  # 1 / sqrt(1 - beta), also where beta is rounded to 1
    if arguments.choice("sampler", sampler, SAMPLERS) == "ancestral":
        return Steps(a, a * betas / np.sqrt(1 - bars))
    return Steps(a, a * np.sqrt(1 - bars) - np.sqrt(1 - before))


def exposure_bound(
    slopes: Float[ndarray, " T"],
    k: Float[ndarray, " T"],
    errors: Float[ndarray, " T"],
    drifts: Float[ndarray, " T"] | None = None,
    start: float = 0.0,
) -> Float[ndarray, " T+1"]:
    """Bounds of e_t = W_2(sampled, reference), t = 0, ..., T: e_{t-1} = slopes_t e_t + k_t errors_t + drifts_t.

    Args:
        slopes: (T,), Lipschitz constants of x -> a_t x - k_t eps_theta(x, t); a_t + k_t Lip(eps_theta) is one.
        k: (T,), of the predicted noise (`sampler_steps`).
        errors: (T,), root mean square of |eps_theta - eps*| under the reference law at t.
        drifts: (T,), W_2 of the reference law at t - 1 from one step with eps* at t; 0 by default, where the reference
            is the chain of eps*.
        start: e_T.

    Raises:
        ValueError: an argument is not as above, or a bound is beyond what is held.
    """
    slopes = arguments.vector("slopes", slopes)
    parts = [arguments.vector(name, v, len(slopes)) for name, v in (("k", k), ("errors", errors))]
    added = arguments.vector("drifts", np.zeros(len(slopes)) if drifts is None else drifts, len(slopes))
    for name, value in (("slopes", slopes), ("k", parts[0]), ("errors", parts[1]), ("drifts", added)):
        if value.min() < 0:
            raise ValueError(f"{name} has the entry {value.min():g}; allowed: numbers of at least 0")
    bounds = np.empty(len(slopes) + 1)
    bounds[-1] = arguments.scalar("start", start, at_least=0)
    with np.errstate(over="ignore"):
        for index in range(len(slopes) - 1, -1, -1):
            bounds[index] = slopes[index] * bounds[index + 1] + parts[0][index] * parts[1][index] + added[index]
    if not np.isfinite(bounds).all():
        raise ValueError("slopes multiply the bound beyond the largest float; allowed: smaller slopes or fewer steps")
    return bounds


def norm_gap_bound(lipschitz: Float[ndarray, "*T"], distance: Float[ndarray, "*T"]) -> Float[ndarray, "*T"]:
    """Lip(eps_theta) e_t: how far the root mean square of |eps_theta| in sampling may be from that in training.

    Args:
        lipschitz: of eps_theta(., t), at least 0, one number or one a step.
        distance: e_t, at least 0 (`exposure_bound`).

    Raises:
        ValueError: an argument is not as above.
    """
    slopes = arguments.numbers("lipschitz", lipschitz, at_least=0)
    distances = arguments.numbers("distance", distance, at_least=0)
    if slopes.ndim and distances.ndim and slopes.shape != distances.shape:
        raise ValueError(f"lipschitz and distance have shapes {slopes.shape}, {distances.shape}; allowed: one shape")
    return np.asarray(slopes * distances)


LONGEST = 500.0
"""Largest |exponent| accepted; beyond it a variance would leave the numbers that are held."""


def _field(
    delta: object, W: object, b: object, time: object, start: Gaussian | None
) -> tuple[ndarray, ndarray, ndarray, float, Gaussian]:
    """A's eigenvalues and eigenvectors, c in their basis, the time and the start, checked."""
    W = arguments.matrix("W", W)
    delta = arguments.matrix("delta", delta, *W.shape)
    b = arguments.vector("b", b, W.shape[1])
    infinite = isinstance(time, float) and time == np.inf
    duration = np.inf if infinite else arguments.scalar("time", time, at_least=0)
    if not is_admissible(delta, W):
        product = delta @ W.T
        gap = linalg.norm(product - product.T)
        raise ValueError(f"delta is not admissible: |delta W^T - W delta^T| is {gap:.6g}; allowed: 0, up to rounding")
    start = standard_normal(W.shape[0]) if start is None else start
    if not isinstance(start, Gaussian) or start.dimension != W.shape[0]:
        raise ValueError(f"start is {start!r}; allowed: a Gaussian of dimension {W.shape[0]}, or None for N(0, I)")
    A = delta @ W.T / W.shape[1]
    values, vectors = linalg.eigh((A + A.T) / 2)
    return values, vectors, vectors.T @ (delta @ b) / W.shape[1], duration, start


def _evolved(rates: ndarray, pull: ndarray, spread: float, time: float, vectors: ndarray, start: Gaussian) -> Gaussian:
    """dx = (-rates x + pull) dtau + sqrt(spread) dw in the basis of vectors, from start for a time."""
    if np.abs(rates).max() * time > LONGEST and not np.isinf(time) and rates.min() * time < -LONGEST:
        raise ValueError(f"time is {time:g}, in which variances grow beyond e^{LONGEST:g}; allowed: shorter times")
    decay = np.exp(-rates * time) if not np.isinf(time) else np.zeros_like(rates)
    if np.isinf(time):
        held, noise = 1 / rates, 1 / (2 * rates)
    else:  # (1 - e^(-r tau)) / r without its cancellation at r = 0
        held, noise = time * special.exprel(-rates * time), time * special.exprel(-2 * rates * time)
    mean = decay * (vectors.T @ start.mean) + held * pull
    covariance = decay[:, None] * (vectors.T @ start.covariance @ vectors) * decay + np.diag(spread * noise)
    return Gaussian(vectors @ mean, vectors @ covariance @ vectors.T)


def sde_law(
    delta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    time: float = np.inf,
    start: Gaussian | None = None,
) -> Gaussian:
    """The law of the reverse SDE's samples (ancestral sampling) after a time; its limit is e^(2I) p, normalised.

    Args:
        delta: (d, m), admissible (`theory.model.perturbations`).
        W: (d, m).
        b: (m,).
        time: tau, at least 0, or infinite for the limit.
        start: the law at time 0; N(0, I) by default.

    Raises:
        ValueError: an argument is not as above.
        NotNormalizableError: an infinite time, and I - 2 delta W^T / m is not positive definite (a ValueError).
    """
    values, vectors, c, duration, begin = _field(delta, W, b, time, start)
    if np.isinf(duration) and not values[-1] < 0.5:
        raise NotNormalizableError(
            f"not normalisable: smallest eigenvalue of I - 2 delta W^T/m is {1 - 2 * values[-1]:.6g}; allowed: above 0"
        )
    return _evolved(0.5 - values, c, 1.0, duration, vectors, begin)


def ode_law(
    delta: Float[ndarray, "d m"],
    W: Float[ndarray, "d m"],
    b: Float[ndarray, " m"],
    time: float,
    start: Gaussian | None = None,
) -> Gaussian:
    """The law of the probability-flow ODE's samples (DDIM) after a finite time; it has no limit but for A = 0.

    Args:
        delta, W, b, start: as `sde_law` takes them.
        time: tau = -log alpha_bar_T, at least 0.

    Raises:
        ValueError: an argument is not as above.
    """
    values, vectors, c, duration, begin = _field(delta, W, b, time, start)
    if np.isinf(duration):
        raise ValueError("time is inf; allowed: finite times, since the ODE's law does not converge")
    return _evolved(-values / 2, c / 2, 0.0, duration, vectors, begin)
