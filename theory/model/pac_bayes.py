"""A PAC-Bayes bound whose empirical term is the low-pass filter of the training loss (Theorem T14).

Q = N(w, sigma^2 I) is the law of the noisy weights, P = N(w_0, tau^2 I) a prior fixed before the data are seen. The
losses lie in [0, clip], one a training sample, and samples are independent.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import optimize

from theory.model import arguments


def gaussian_divergence(squared_distance: float, weights: int, deviation: float, prior_deviation: float = 1.0) -> float:
    """KL(Q || P) = (k / 2) (r^2 - 1 - log r^2) + |w - w_0|^2 / (2 tau^2) with r = sigma / tau, in nats.

    Args:
        squared_distance: |w - w_0|^2, at least 0.
        weights: k, their number.
        deviation, prior_deviation: sigma and tau, above 0.

    Raises:
        ValueError: an argument is not as above.
    """
    distance = arguments.scalar("squared_distance", squared_distance, at_least=0)
    count = arguments.count("weights", weights)
    own = arguments.scalar("deviation", deviation, above=0)
    prior = arguments.scalar("prior_deviation", prior_deviation, above=0)
    logarithm = np.log(own) - np.log(prior)
    with np.errstate(over="ignore"):
        divergence = count / 2 * (np.expm1(2 * logarithm) - 2 * logarithm) + (np.sqrt(distance) / prior) ** 2 / 2
    if not np.isfinite(divergence):
        raise ValueError(f"prior_deviation is {prior:g}; allowed: one at which the divergence is a finite float")
    return float(max(divergence, 0.0))


def binary_divergence(q: float, p: float) -> float:
    """kl(q || p) between the laws of two coins, in nats.

    Args:
        q, p: from 0 to 1.

    Raises:
        ValueError: an argument is not as above.
    """
    for name, value in (("q", q), ("p", p)):
        if not 0 <= arguments.scalar(name, value) <= 1:
            raise ValueError(f"{name} is {value}; allowed: from 0 to 1")
    if (p == 0 and q > 0) or (p == 1 and q < 1):
        return float("inf")
    total = 0.0
    for one, other in ((float(q), float(p)), (1 - float(q), 1 - float(p))):
        if one > 0:
            total += one * (np.log(one) - np.log(other))
    return float(max(total, 0.0))


class Bound(NamedTuple):
    """What the loss under weight noise is at most, with the confidence asked for.

    Attributes:
        value: by the inverse of kl; the tighter.
        linear: empirical term plus clip sqrt(budget / 2), by Pinsker's inequality.
        budget: (KL(Q || P) + log(2 sqrt(n) / alpha)) / n, nats a sample.
    """

    value: float
    linear: float
    budget: float


def pac_bayes_bound(empirical: float, divergence: float, samples: int, clip: float, failure: float = 0.05) -> Bound:
    """The bound of Maurer (2004, Theorem 5) on E_Q of the expected clipped loss.

    Args:
        empirical: E_Q of the mean clipped training loss: the low-pass filter's value, from 0 to clip.
        divergence: KL(Q || P), in nats (`gaussian_divergence`).
        samples: n, independent training samples.
        clip: the largest loss, above 0.
        failure: alpha, the probability with which the bound may fail, above 0 and below 1.

    Raises:
        ValueError: an argument is not as above.
    """
    clip = arguments.scalar("clip", clip, above=0)
    share = arguments.scalar("empirical", empirical, at_least=0) / clip
    divergence = arguments.scalar("divergence", divergence, at_least=0)
    samples = arguments.count("samples", samples)
    failure = arguments.scalar("failure", failure, above=0)
    if not (share <= 1 and failure < 1):
        raise ValueError(f"empirical is {empirical} and failure {failure}; allowed: at most clip, and below 1")
    budget = (divergence + float(np.log(2 * np.sqrt(samples)) - np.log(failure))) / samples
    linear = clip * (share + float(np.sqrt(budget / 2)))
    # kl(q || p) rises with p from 0 at q; near p = 1 it is (1 - q) log 1/(1 - p) and more
    if share == 1 or binary_divergence(share, 1 - 1e-15) <= budget:
        return Bound(clip, linear, budget)
    root = optimize.brentq(lambda p: binary_divergence(share, p) - budget, share, 1 - 1e-15, xtol=1e-16)
    return Bound(clip * float(root), linear, budget)


def least_noise_share(weights: int, samples: int, budget: float) -> float:
    """The least sigma / tau at which KL(Q || P) / n is within a budget, even for a w that is the prior's own w_0.

    Args:
        weights: k.
        samples: n.
        budget: nats a sample, above 0.

    Raises:
        ValueError: an argument is not as above.
    """
    weights, samples = arguments.count("weights", weights), arguments.count("samples", samples)
    allowed = 2 * arguments.scalar("budget", budget, above=0) * samples / weights

    def excess(logarithm: float) -> float:
        return float(np.expm1(2 * logarithm) - 2 * logarithm - allowed)

    low = -(allowed + 1) / 2 - 1  # there -2 l - 1 is above what is allowed
    return float(np.exp(optimize.brentq(excess, low, 0.0, xtol=1e-14)))
