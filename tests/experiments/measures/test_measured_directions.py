"""Which way weights are moved: along directions of their own, and along a gradient that memory suffices for."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.measures import weight_noise
from experiments.measures.subject import Subject
from tests.experiments.measures.small_rows import Readout, subject
from tests.experiments.measures.test_measures import FINE, ROUNDING, theta_of


def test_the_curves_directions_are_not_the_low_pass_filters_draws() -> None:
    """Along the same draws the two rises would be in proportion, weight noise of sigma being of norm sigma |draw|."""
    of = subject(Readout(), dataclasses.replace(FINE, curve_draws=8, lpf_draws=8))
    drawn: dict[str, list[Tensor]] = {}

    def recorded(name: str, measure: Callable[[Subject], Any]) -> None:
        before = theta_of(of.network)

        def record(network: Any, *args: Any) -> None:
            moved = (theta_of(network) - before).flatten()
            if float(moved.norm()) > 0:
                drawn.setdefault(name, []).append(moved / moved.norm())

        handle = of.network.register_forward_pre_hook(record)
        measure(of)
        handle.remove()

    recorded("lpf", weight_noise.low_pass("absolute"))
    recorded("curve", weight_noise.random_curve)
    cosines = torch.stack(drawn["lpf"]) @ torch.stack(drawn["curve"]).T
    # Of directions in 56 dimensions: 1/sqrt(56) = 0.13 in the root mean square, and 1 where they are the same
    assert float(cosines.abs().max()) < 0.7
    recorded("again", weight_noise.random_curve)
    assert all(torch.equal(a, b) for a, b in zip(drawn["curve"], drawn["again"], strict=True))


def test_the_gradient_is_taken_in_parts_that_fit_and_is_the_same() -> None:
    class Watching(Readout):
        largest = 0

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                self.largest = max(self.largest, len(x))
            return super().forward(x, t)

    directions = {}
    for size in (3, 16):
        of = subject(Watching(), FINE, batch_size=7, gradient_batch=size)
        directions[size] = [loss["value"] for loss in weight_noise.gradient_curve(of)["losses"]]
        assert isinstance(of.network, Watching)
        assert of.network.largest == min(size, 7)
    assert directions[3] == pytest.approx(directions[16], rel=ROUNDING)
    with pytest.raises(ValueError, match="gradient_batch is 0"):
        subject(Readout(), gradient_batch=0)
