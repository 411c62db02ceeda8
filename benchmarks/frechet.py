"""The Frechet distance of 10,000 by 10,000 features of width 2048, ours against the root that scipy takes.

Operations, D = 2048, n = 10,000: the moments of both sets, 4 n D^2 (168 GFLOP), are the same for either. Ours then: two
Cholesky factors, 2 D^3 / 3, a product, 2 D^3, and singular values, 8 D^3 / 3: 5.3 D^3 (46 GFLOP). scipy's: a product,
2 D^3, the Schur form of a matrix that is not symmetric, about 25 D^3, the root of a triangle and two products back,
4 D^3: 31 D^3 (270 GFLOP).
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import torch
from numpy import ndarray
from torch import Tensor

from benchmarks.timing import Row, alone, interleaved
from experiments.distances.frechet import Moments, frechet_distance

NUMBER = 10_000
WIDTH = 2048
BATCH = 1000
ROUNDS = 3


def features(seed: int) -> Tensor:
    """Features with variances that fall as 1/j along axes of their own, (NUMBER, WIDTH), float64."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, WIDTH + 1, dtype=torch.float64).rsqrt()
    mix = torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64) / WIDTH**0.5
    return (torch.randn(NUMBER, WIDTH, generator=generator, dtype=torch.float64) * scales) @ mix + 0.01 * seed


def moments(seed: int) -> Moments:
    """Of features, taken in as batches."""
    moments = Moments(WIDTH)
    for part in features(seed).split(BATCH):
        moments.update(part)
    return moments


def by_scipy(mean_a: ndarray, covariance_a: ndarray, mean_b: ndarray, covariance_b: ndarray) -> float:
    """The formula as written, with scipy's root of the product of covariances."""
    root = scipy.linalg.sqrtm(covariance_a @ covariance_b)
    spread = np.trace(covariance_a) + np.trace(covariance_b) - 2 * np.trace(root).real
    return float(((mean_a - mean_b) ** 2).sum() + spread)


def _nothing() -> None:
    """What a process needs before it has any features."""


def _ours(inputs: int) -> float:
    """Both moments from scratch, and as many distances as asked for: 0 for the peak of the moments alone."""
    pair = moments(0), moments(1)
    return frechet_distance(*pair) if inputs else 0.0


def distance() -> list[Row]:
    """Time of moments and distance, agreement, peak memory of a process that does nothing else."""
    # first: on Linux a process starts with the peak of the one that made it, which must still be small
    _, _, idle = alone(_nothing)
    _, _, before = alone(_ours, 0)
    _, _, peak = alone(_ours, 1)
    a, b = moments(0), moments(1)
    arrays = [x.numpy() for m in (a, b) for x in (m.mean, m.covariance)]
    distances: dict[str, float] = {}
    given = features(0).split(BATCH)

    def taken_in() -> None:
        collected = Moments(WIDTH)
        for part in given:
            collected.update(part)

    def ours() -> None:
        distances["ours"] = frechet_distance(a, b)

    def scipys() -> None:
        distances["scipy"] = by_scipy(*arrays)

    seconds = interleaved({"moments": taken_in, "ours": ours, "scipy": scipys}, ROUNDS)
    apart = abs(distances["ours"] / distances["scipy"] - 1)
    rate = 16 / 3 * WIDTH**3 / seconds["ours"] / 1e9
    what = f"Frechet distance, {NUMBER} by {NUMBER} features of width {WIDTH}"
    return [
        (f"{what}: ours", f"{seconds['ours']:.1f} s, {rate:.0f} GFLOP/s", "16/3 D^3 operations"),
        (
            f"{what}: scipy's root",
            f"{seconds['scipy'] / seconds['ours']:.1f} times as long",
            f"{apart:.1e} apart, relative",
        ),
        (f"{what}: moments of one set", f"{seconds['moments']:.1f} s", "2 n D^2 operations"),
        (
            f"{what}: peak memory",
            f"{(peak - idle) / 2**20:.0f} MiB",
            f"{(before - idle) / 2**20:.0f} MiB before the distance, of which one set of features is "
            f"{NUMBER * WIDTH * 8 / 2**20:.0f}; a covariance is {WIDTH**2 * 8 / 2**20:.0f}",
        ),
    ]


PARTS = (distance,)
