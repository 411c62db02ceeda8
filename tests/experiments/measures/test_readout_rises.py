"""The last layer's closed forms against draws, on a network that is its last layer and on a small ADM."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from experiments.measures import last_layer
from experiments.measures.last_layer import measured_readout
from experiments.measures.subject import Subject
from flatness.measuring.base import PairedRises
from tests.experiments.measures.small_rows import OPTIONS, Readout, subject
from tests.experiments.measures.test_layers import randomised

STANDARD_ERRORS = 5.0
SETTINGS = dataclasses.replace(OPTIONS, images=16, rise_bits=(8, 3))
DRAWS = 150


def check(of: Subject) -> None:
    readout = measured_readout(of, DRAWS)
    energy = readout["feature_energy"]["value"]
    assert list(readout["rises"]) == [
        "noise-absolute",
        "noise-layer",
        "dither-8",
        "rounding-8",
        "dither-3",
        "rounding-3",
    ]
    assert readout["rises"]["noise-absolute"]["predicted"] == pytest.approx(SETTINGS.sigma**2 * (energy + 1.0))
    for name, rise in readout["rises"].items():
        measured = rise["measured"]
        assert measured["value"] == pytest.approx(sum(rise["by_image"]) / SETTINGS.images, rel=1e-5)
        if name.startswith("rounding"):
            assert measured["draw_standard_error"] == 0.0
            # Within T5's range over weights, 5% to 95%, with room: (.42, 1.85)
            assert 0.2 < measured["value"] / rise["predicted"] < 4.0
        else:
            error = measured["draw_standard_error"]
            assert error < 0.12 * rise["predicted"]
            assert abs(measured["value"] - rise["predicted"]) < STANDARD_ERRORS * error


@pytest.mark.parametrize("network", [Readout, randomised])
def test_measured_rises_are_the_closed_forms(network: Callable[[], nn.Module]) -> None:
    check(subject(network(), SETTINGS, batch_size=16))


@pytest.mark.parametrize("factor", [0.0, -1.0, 2.0])
def test_mutants_of_the_rise_are_found(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = PairedRises.add

    def add(self: PairedRises, losses: Tensor) -> None:
        right(self, self.unmoved + factor * (losses - self.unmoved))

    monkeypatch.setattr(PairedRises, "add", add)
    with pytest.raises(AssertionError):
        check(subject(Readout(), SETTINGS, batch_size=16))


def test_mutants_of_the_noise_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Constant:
        def __init__(self, weights: Any, seed: int, scale: str) -> None:
            self.weights = weights

        def __iter__(self) -> Any:
            return iter([torch.ones_like(weight) for weight in self.weights])

    monkeypatch.setattr(last_layer, "GaussianNoise", Constant)
    with pytest.raises(AssertionError):
        check(subject(Readout(), SETTINGS, batch_size=16))


def test_a_network_that_returns_something_else_is_refused() -> None:
    class Changed(Readout):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return 2.0 * super().forward(x, t)

    with pytest.raises(ValueError, match="does not return the output of 'last'"):
        measured_readout(subject(Changed(), SETTINGS), 2)
