"""Every float32 weight is rounded to the grid point that float64 arithmetic names: numpy's, at any size, and ties."""

from __future__ import annotations

import itertools
from importlib import import_module
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from flatness.measuring.quantization import quantize_tensor
from tests.flatness import measures_common as common

implementation = import_module("flatness.measuring.quantization")
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
LARGEST = float(np.finfo(np.float32).max)
GRIDS = list(itertools.product(range(2, 17), ("symmetric", "minmax")))


def reference(weights: np.ndarray, bits: int, scheme: str) -> tuple[np.ndarray, np.ndarray]:
    """The grid's codes of float32 weights and the values of these, in float64, as `quantize_tensor` documents them."""
    w = weights.astype(np.float64)
    last = 2**bits - 1 if scheme == "minmax" else 2 ** (bits - 1) - 1
    offset = w.min() if scheme == "minmax" else 0.0
    step = w.max() / last - w.min() / last if scheme == "minmax" else np.abs(w).max() / last
    if step == 0:
        return np.zeros_like(w), w
    codes = np.rint((w - offset) / step).clip(0 if scheme == "minmax" else -last, last)
    return codes, offset + codes * step


def check(weights: np.ndarray, bits: int, scheme: str) -> None:
    """Each weight's value is that of its code; the code itself, where codes are further apart than float32 numbers."""
    rounded = quantize_tensor(torch.from_numpy(weights), bits, scheme=scheme).numpy()
    codes, values = reference(weights, bits, scheme)
    if scheme == "symmetric":  # a product of code and step, rounded twice by either
        assert np.array_equal(rounded, values.astype(np.float32))
        return
    # offset + code * step: with or without a rounding of the product, to float64, before the one to float32
    limit = np.abs(values) * 2.0**-23 + float(np.abs(weights).max()) * 2.0**-51 + 2.0**-149
    assert np.all(np.abs(rounded.astype(np.float64) - values) <= limit)
    step = (float(weights.max()) - float(weights.min())) / (2**bits - 1)
    if step > 4 * 2.0**-23 * float(np.abs(weights).max()) + 2.0**-147:
        assert np.array_equal(np.rint((rounded.astype(np.float64) - float(weights.min())) / step), codes)


@settings(max_examples=400, deadline=None)
@given(values=st.lists(FLOATS, min_size=1, max_size=30), grid=st.sampled_from(GRIDS))
@example(values=[LARGEST, -LARGEST, 1.0, -0.0], grid=(16, "minmax"))
@example(values=[LARGEST, -LARGEST, 1.0, -0.0], grid=(2, "symmetric"))
@example(values=[1e-45, -1e-45, 0.0], grid=(16, "symmetric"))
@example(values=[1e-45, 3e-45, 7e-45], grid=(16, "minmax"))
@example(values=[1000.0, 1000.0001, 999.9999], grid=(16, "minmax"))
def test_any_weights(values: list[float], grid: tuple[int, str]) -> None:
    check(np.array(values, dtype=np.float32), *grid)


def halfway(bits: int, scheme: str, exponent: int, mantissa: float, seed: int) -> np.ndarray:
    """Weights halfway between grid points, or one float32 number off.

    Exactly halfway where the mantissa is 1 and so the step a power of two; else as near as float32 numbers come.
    """
    draw = np.random.default_rng(seed)
    last = 2**bits - 1 if scheme == "minmax" else 2 ** (bits - 1) - 1
    low = 0 if scheme == "minmax" else -last
    halves = draw.integers(low, last, 60) + 0.5
    ends = np.array([low, last])
    if mantissa != 1:  # the largest weight decides on the step; the smallest is opposite, or 0
        ends, halves = np.sign(ends) * mantissa, halves * (float(np.float32(mantissa)) / last)
    weights = np.ldexp(np.array([*ends, *halves]), exponent).astype(np.float32)
    aside = np.nextafter(weights, np.where(draw.random(62) < 0.5, -np.inf, np.inf).astype(np.float32))
    weights[2:] = np.where(draw.random(60) < 0.5, weights[2:], aside[2:])
    return weights


@settings(max_examples=200, deadline=None)
@given(
    grid=st.sampled_from(GRIDS),
    exponent=st.integers(-120, 100),
    mantissa=st.one_of(st.just(1.0), st.floats(1, 2, width=32)),
    seed=st.integers(0, 2**31),
)
def test_weights_halfway_between_grid_points(grid: tuple[int, str], exponent: int, mantissa: float, seed: int) -> None:
    check(halfway(*grid, exponent, mantissa, seed), *grid)


def check_some() -> None:
    """Weights of every grid, for the mutants."""
    for index, (bits, scheme) in enumerate(GRIDS):
        for mantissa in (1.0, 1.3, 1.7):
            check(halfway(bits, scheme, index, mantissa, index), bits, scheme)


def test_the_nearest_whole_number_is_torchs() -> None:
    """At every half up to the largest code of 16 bits, and at the float64 numbers beside it."""
    halves = torch.arange(-(2**17), 2**17 + 1, dtype=torch.float64) / 2
    for numbers in (halves, *(torch.nextafter(halves, torch.tensor(end).double()) for end in (-torch.inf, torch.inf))):
        codes = numbers.clone()
        implementation._round(codes)
        assert torch.equal(codes, numbers.round())
    single = halves.float()
    codes = single.clone()
    implementation._round(codes)
    assert torch.equal(codes, single.round())


LAYOUTS: dict[str, Tensor] = {
    "rows": torch.randn(7, 11, generator=torch.Generator().manual_seed(0)),
    "transposed": torch.randn(11, 7, generator=torch.Generator().manual_seed(1)).t(),
    "channels_last": torch.randn(5, 3, 2, 4, generator=torch.Generator().manual_seed(2)).to(
        memory_format=torch.channels_last
    ),
    "every other": torch.randn(6, 10, generator=torch.Generator().manual_seed(3))[:, ::2],
    "long": torch.randn(53, generator=torch.Generator().manual_seed(4)),
    "one row": torch.randn(1, 40, generator=torch.Generator().manual_seed(5)),
    "bfloat16": torch.randn(6, 9, generator=torch.Generator().manual_seed(6)).bfloat16(),
    "rows alike": torch.cat([torch.randn(3, 8, generator=torch.Generator().manual_seed(7)), torch.zeros(4, 8)]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_parts_and_layouts_do_not_change_what_comes_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor the random numbers that each weight gets; and the layout is kept."""
    tensor = LAYOUTS[name]
    for granularity, scheme, rounding in itertools.product(
        ("tensor", "channel"), ("symmetric", "minmax"), ("nearest", "stochastic")
    ):
        own: Any = {"granularity": granularity, "scheme": scheme, "rounding": rounding}

        def rounded(tensor: Tensor, own: Any = own) -> Tensor:
            return quantize_tensor(tensor, 3, generator=torch.Generator().manual_seed(9), **own)

        monkeypatch.setattr(implementation, "AT_ONCE", 10**9)
        whole = rounded(tensor)
        straight = rounded(tensor.contiguous())
        assert torch.equal(whole, straight)
        assert whole.dtype == tensor.dtype
        if name in ("transposed", "channels_last"):
            assert whole.stride() == tensor.stride()
        for size in (1, 5, 13, 32):
            monkeypatch.setattr(implementation, "AT_ONCE", size)
            assert torch.equal(rounded(tensor), whole)


def test_mutants_are_found_out() -> None:
    def up(codes: Tensor) -> None:
        """Halves away from zero, as `floor(x + 1/2)` has them above it."""
        codes.copy_((codes + 0.5).floor())

    def single(codes: Tensor) -> None:
        """In float32, which errs beside halves."""
        codes.copy_(codes.float().round())

    for mutant in (up, single, lambda codes: codes.trunc_(), lambda codes: codes.neg_().round_()):
        with common.patched(implementation, "_round", mutant), pytest.raises(AssertionError):
            check_some()
    with common.patched(implementation, "widest", lambda device: torch.float32), pytest.raises(AssertionError):
        check_some()
    check_some()
