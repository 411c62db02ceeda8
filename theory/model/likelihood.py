"""What an error of the predicted noise costs in likelihood, step by step of a DDPM sampler (Theorem T8).

x_{t-1} = (x_t - beta_t eps_theta(x_t, t) / sqrt(1 - alpha_bar_t)) / sqrt(alpha_t) + sigma_t z, t = T, ..., 1, with
fixed variances sigma_t^2. A squared error |eps_theta - eps|^2 at step t counts w_t nats, w_t = beta_t^2 / (2 sigma_t^2
alpha_t (1 - alpha_bar_t)). Arrays over t begin with t = 1, the step of least noise. Squared errors are sums over the d
coordinates, not means.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from theory.model import arguments

VARIANCES = ("small", "large")


def schedule(alpha_bar: object) -> tuple[ndarray, ndarray]:
    """alpha_bar (T,) and beta (T,), checked: alpha_bar has to fall strictly within (0, 1).

    Raises:
        ValueError: it does not.
    """
    bars = arguments.vector("alpha_bar", alpha_bar)
    if not (bars[-1] > 0 and bars[0] < 1 and (np.diff(bars) < 0).all()):
        raise ValueError(f"alpha_bar is {bars}; allowed: numbers that fall strictly, within (0, 1)")
    return bars, 1 - bars / np.concatenate([[1.0], bars[:-1]])


def reverse_variances(alpha_bar: Float[ndarray, " T"], variances: str = "small") -> Float[ndarray, " T"]:
    """sigma_t^2 of DDPM's two choices.

    Args:
        alpha_bar: (T,), falling strictly within (0, 1).
        variances: "large" for beta_t; "small" for the posterior's, beta_t (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t),
            whose first, which is 0 and has no likelihood, is replaced by its second, as public samplers do.

    Raises:
        ValueError: an argument is not as above; "small" with a single step.
    """
    bars, betas = schedule(alpha_bar)
    if arguments.choice("variances", variances, VARIANCES) == "large":
        return betas
    if len(bars) < 2:
        raise ValueError("alpha_bar has one step, whose small variance is 0; allowed with 'small': at least two")
    posterior = betas[1:] * (1 - bars[:-1]) / (1 - bars[1:])
    return np.concatenate([posterior[:1], posterior])


def likelihood_weights(
    alpha_bar: Float[ndarray, " T"], variances: str | Float[ndarray, " T"] = "small"
) -> Float[ndarray, " T"]:
    """w_t, in nats for a squared error of 1 of the predicted noise at step t.

    Args:
        alpha_bar: (T,), falling strictly within (0, 1).
        variances: (T,), sigma_t^2 above 0, or "small" or "large" (`reverse_variances`).

    Raises:
        ValueError: an argument is not as above.
    """
    bars, betas = schedule(alpha_bar)
    if isinstance(variances, str):
        chosen = reverse_variances(bars, variances)
    else:
        chosen = arguments.vector("variances", variances, len(bars))
        if not chosen.min() > 0:
            raise ValueError(f"variances has the entry {chosen.min():g}; allowed: numbers above 0")
    with np.errstate(over="ignore", divide="ignore"):
        weights = betas**2 / (2 * chosen * (1 - betas) * (1 - bars))
    if not np.isfinite(weights).all():
        raise ValueError(
            f"variances has the entry {chosen.min():g} and alpha_bar falls to {bars.min():g}; allowed: variances, and "
            "falls of alpha_bar at a step, whose weights are finite"
        )
    return weights


def likelihood_rise(rises: Float[ndarray, " T"], weights: Float[ndarray, " T"]) -> float:
    """Nats by which the variational gap rises where the squared error at step t rises by rises[t - 1].

    So it bounds how much KL(data, samples) may exceed the present gap; of a rounded or a noisy model alike.

    Args:
        rises: (T,), of E|eps - eps_theta|^2, sums over coordinates; mean rises of a random perturbation are allowed.
        weights: (T,), `likelihood_weights`.

    Raises:
        ValueError: an argument is not as above.
    """
    rises = arguments.vector("rises", rises)
    return float(rises @ arguments.vector("weights", weights, len(rises)))


def readout_rise(
    variance: float, energies: Float[ndarray, " T"], weights: Float[ndarray, " T"], d: int, m: int
) -> float:
    """Nats that independent noise of this variance on theta costs, eps_theta = theta phi / m: exact, at any theta.

    Args:
        variance: s^2; q^2 / 12 for rounding with dither of step q.
        energies: (T,), E|phi|^2 at every step.
        weights: (T,), `likelihood_weights`.
        d, m: theta's shape.

    Raises:
        ValueError: an argument is not as above.
    """
    variance = arguments.scalar("variance", variance, at_least=0)
    d, m = arguments.count("d", d), arguments.count("m", m)
    energies = arguments.vector("energies", energies)
    if energies.min() < 0:
        raise ValueError(f"energies has the entry {energies.min():g}; allowed: numbers of at least 0")
    return variance * d / m**2 * likelihood_rise(energies, weights)


def rounding_bound(
    step: float,
    second_moments: Float[ndarray, "T m m"],
    weights: Float[ndarray, " T"],
    d: int,
    loss: float = 0.0,
) -> float:
    """Nats that rounding theta costs at most, for any errors up to step / 2: certified for every single rounding.

    With J = (q^2 / 4) (d / m) lambda_max(sum_t w_t G_t) and L the weighted loss sum_t w_t E|eps - eps_theta|^2 the rise
    is at most 2 sqrt(L J) + J; and at most J where theta is a minimum of the weighted loss (leave loss at 0 then).

    Args:
        step: q, at least 0.
        second_moments: (T, m, m), G_t = E phi phi^T at every step, symmetric.
        weights: (T,), `likelihood_weights`.
        d: rows of theta.
        loss: L at theta; 0 says that theta is a minimum.

    Raises:
        ValueError: an argument is not as above.
    """
    step = arguments.scalar("step", step, at_least=0)
    loss = arguments.scalar("loss", loss, at_least=0)
    d, weights = arguments.count("d", d), arguments.vector("weights", weights)
    width = np.shape(second_moments)[-1] if np.ndim(second_moments) == 3 else 0
    stack = arguments.points("second_moments", second_moments, width)
    if stack.shape != (len(weights), width, width) or weights.min() < 0:
        raise ValueError(
            f"second_moments and weights have shapes {stack.shape} and {weights.shape}; "
            "allowed: (T, m, m) and (T,), weights at least 0"
        )
    weighted = np.einsum("t,tij->ij", weights, stack)
    top = max(float(np.linalg.eigvalsh((weighted + weighted.T) / 2)[-1]), 0.0)
    worst = step**2 / 4 * d / width * top
    return float(2 * np.sqrt(loss) * np.sqrt(worst) + worst)


def bits_per_dimension(nats: float, d: int) -> float:
    """Nats of a sample of d coordinates, as bits for each coordinate.

    Raises:
        ValueError: nats are not finite, or d is not a whole number of at least 1.
    """
    return arguments.scalar("nats", nats) / (arguments.count("d", d) * float(np.log(2)))
