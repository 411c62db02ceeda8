"""Gaussians whose Frechet distance is known, and what the tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from experiments.distances.frechet import Moments

EPS = torch.finfo(torch.float64).eps
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def moments(mean: Tensor, covariance: Tensor) -> Moments:
    """Moments with exactly this mean and covariance."""
    made = Moments(len(mean))
    made.count, made.mean, made.scatter = 2, mean, covariance
    return made


def rotation(width: int, seed: int) -> Tensor:
    """An orthogonal matrix."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]


def spectra(width: int, *, singular: bool = False) -> st.SearchStrategy[Tensor]:
    """Variances, some of them 0 where singular ones are asked for."""
    positive = st.floats(1e-2, 1e2)
    each = st.one_of(st.just(0.0), positive) if singular else positive
    return st.lists(each, min_size=width, max_size=width).map(lambda v: torch.tensor(v, dtype=torch.float64))


def means(width: int) -> st.SearchStrategy[Tensor]:
    """Mean vectors."""
    entries = st.floats(-10, 10)
    return st.lists(entries, min_size=width, max_size=width).map(lambda v: torch.tensor(v, dtype=torch.float64))


@st.composite
def gaussians(draw: st.DrawFn, width: int, singular: bool = False) -> Moments:
    """Moments with any covariance: variances along axes turned at random."""
    turn = rotation(width, draw(st.integers(0, 10_000)))
    return moments(draw(means(width)), (turn * draw(spectra(width, singular=singular))) @ turn.T)


def traces(a: Moments, b: Moments) -> float:
    """The size that rounding is relative to."""
    return (a.covariance.trace() + b.covariance.trace() + a.mean.square().sum() + b.mean.square().sum()).item()


def need_fashion_mnist() -> None:
    """Skip where the real images are not installed; in CI, which installs them, fail."""
    if not FASHION_MNIST.is_dir():
        reason = f"no real images at {FASHION_MNIST}: install Debian's dataset-fashion-mnist"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
