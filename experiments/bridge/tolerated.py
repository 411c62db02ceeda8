"""From a row's kept tolerance to the divergence at which its loss has risen by kappa, with its scatter over images.

Along a law (`experiments.measures.noise_tolerance`) the loss starts at its own value. The tolerated divergence is the
smallest KL at which the mean rise over images reaches kappa; infinite where it does not within the levels measured.
`sampled` interpolates the measured rises, monotonically piece by piece, in the root of the divergence, in which the
laws' moments are about linear. `rescored` is computed from the residual's moments. With E|eps|^2 = d and E eps = 0,
which are known and so not estimated, at precision (1 + tau) I and mean u (1, ..., 1):

    rise = -2 tau E r.eps + 2 (1 + tau) u E r.1 + d (tau^2 + (1 + tau)^2 u^2)

and where the precision differs along the one direction e = (1, ..., 1) / sqrt(d) alone ("single"):

    rise = -2 tau E (r.e)(eps.e) + tau^2.

At r = 0 single+ is the least of Theorem T4, KL = (sqrt(kappa) - log(1 + sqrt(kappa))) / 2; a shift costs kappa / 2.
Resamples of the images give the scatter of whatever is computed from several laws or two rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.interpolate import PchipInterpolator

from flatness import arguments

Kept = Mapping[str, Any]
RESAMPLES = 200
SAMPLED = ("shift+", "shift-", "scale+", "scale-")
RESCORED = (*SAMPLED, "single+", "single-")
POINTS = 257
"""Between two levels, on which the interpolated rise is looked for."""


def resampled(images: int, resamples: int = RESAMPLES, seed: int = 0) -> Int[ndarray, "B n"]:
    """Places of the images in each resample, the first of which is the images themselves."""
    drawn = np.random.default_rng(seed).integers(images, size=(arguments.count("resamples", resamples), images))
    return np.vstack([np.arange(images), drawn])


def loss(kept: Kept, places: Int[ndarray, "B n"]) -> Float[ndarray, " B"]:
    """The summed loss of each resample."""
    return np.asarray(kept["loss"]["by_image"])[places].mean(1)


def sampled(kept: Kept, law: str, kappa: Float[ndarray, " B"], places: Int[ndarray, "B n"]) -> Float[ndarray, " B"]:
    """The tolerated divergence of each resample under noise drawn from the law; infinite beyond the levels.

    Args:
        kept: what `measured_tolerance` found at one t.
        law: of `SAMPLED`.
        kappa: the rise of the summed loss, one for each resample.
        places: of the images in each resample.
    """
    arguments.choice("law", law, SAMPLED)
    rises = np.array([rise["by_image"] for rise in kept["laws"][law]["rises"]])
    means = rises[:, places].mean(2)
    roots = np.sqrt([0.0, *kept["levels"]])
    grid = np.unique(np.concatenate([np.linspace(*ends, POINTS) for ends in itertools.pairwise(roots)]))
    curve = PchipInterpolator(roots, np.vstack([np.zeros(len(places)), means]))(grid)
    return _crossings(grid, curve, kappa)


def _crossings(grid: ndarray, curve: ndarray, kappa: ndarray) -> ndarray:
    """The square of where each column of the curve (g, B) first reaches kappa (B,), which it does not at its begin."""
    reached = curve >= kappa
    after = np.maximum(reached.argmax(0), 1)
    columns = np.arange(curve.shape[1])
    low, high = curve[after - 1, columns], curve[after, columns]
    with np.errstate(invalid="ignore", divide="ignore"):
        root = grid[after - 1] + (kappa - low) / (high - low) * (grid[after] - grid[after - 1])
    return np.where(reached.any(0), root**2, np.inf)


def rescored(kept: Kept, law: str, kappa: Float[ndarray, " B"], places: Int[ndarray, "B n"]) -> Float[ndarray, " B"]:
    """The same against the score of the law, for the inputs as they are; infinite where there is no such law.

    The rise is a polynomial of degree 2 in u, or in tau, so that its roots are known.
    """
    arguments.choice("law", law, RESCORED)
    d, sign = kept["dimension"], 1.0 if law.endswith("+") else -1.0
    if law.startswith("shift"):
        r1 = np.asarray(kept["moments"]["r1"])[places].mean(1)
        u = (-r1 + sign * np.sqrt(r1**2 + d * kappa)) / d
        return np.asarray(0.5 * d * u**2)
    if law.startswith("scale"):
        many, linear = d, np.asarray(kept["moments"]["re"])[places].mean(1)
        sign = -sign  # tau = (1 + a)^-2 - 1 falls as a rises
    else:
        many, linear = 1, _along_one(kept, places)
    tau = (linear + sign * np.sqrt(linear**2 + many * kappa)) / many
    there = np.where(tau > -1.0, tau, 0.0)
    return np.where(tau > -1.0, 0.5 * many * _excess(there), np.inf)


def _along_one(kept: Kept, places: ndarray) -> ndarray:
    """E (r.e)(eps.e) of each resample, (B,)."""
    product = np.asarray(kept["moments"]["r1"]) * np.asarray(kept["moments"]["e1"]) / kept["dimension"]
    return np.asarray(product[places].mean(1))


def _excess(tau: ndarray) -> ndarray:
    """tau - log(1 + tau), by its series where the two cancel."""
    series = tau**2 * (0.5 - tau / 3.0 + tau**2 / 4.0)
    return np.where(np.abs(tau) < 1e-4, series, tau - np.log1p(tau))


def least(found: Sequence[Float[ndarray, " B"]]) -> Float[ndarray, " B"]:
    """The smallest of several laws', resample by resample."""
    return np.min(np.stack(list(found)), axis=0)
