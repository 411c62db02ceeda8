"""How the error of a sampler grows from step to step, and the exposure bias it allows (Theorem T10).

A step is x_{t-1} = a_t x_t - k_t eps_theta(x_t, t) + sigma_t z. Arrays over t begin with t = 1, the step of least
noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from theory.model import arguments
from theory.model.likelihood import schedule

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
