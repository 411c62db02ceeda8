"""The linearised model where it is known: a network that is linear, and one that is not."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from experiments.measures import linearisation
from experiments.measures.linearisation import measured_linearisation
from experiments.measures.noise_tolerance import batches_at
from experiments.measures.subject import Subject
from tests.experiments.measures.linear_networks import DIMENSION, FEATURES, LinearFeatures, linear_subject, of_noise
from tests.experiments.measures.small_rows import Readout, subject
from theory.model.perturbations import flat_radius
from theory.model.worst_case import worst_case_divergence

T = 300
ROUNDING = 2e-6
"""Relative: what is kept has seven digits, and the network's own weights are float32's."""


def rebuilt(point: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """W and b up to rotations, from what is kept."""
    s, b = np.array(point["singular_values"]), np.array(point["bias"])
    return np.hstack([np.diag(s), np.zeros((len(s), 1))]), b


def check_linear(network: LinearFeatures, of: Subject) -> None:
    measured = measured_linearisation(of, T, 8, 2)
    W, b = (tensor.numpy() for tensor in of_noise(network, of, T))
    assert measured["positions"] == 1
    phi = torch.cat([network.first(batch.x_t.flatten(1)) for batch in batches_at(of, T, 8)]).detach().double()
    largest = float(torch.linalg.eigvalsh(phi.T @ phi / len(phi))[-1])
    assert measured["kernel_curvature"] == pytest.approx(largest, rel=1e-5)
    for point in measured["points"]:
        assert point["features"] == FEATURES
        assert point["linearisation_error"] < 1e-8
        ours, bias = rebuilt(point)
        assert np.linalg.norm(ours, 2) == pytest.approx(np.linalg.norm(W, 2), rel=ROUNDING)
        assert np.linalg.norm(bias) == pytest.approx(np.linalg.norm(b), rel=ROUNDING)
        assert np.linalg.norm(ours @ bias) == pytest.approx(np.linalg.norm(W @ b), rel=ROUNDING)
        # T3 and T2, from what is kept and from the weights; m stands in different sizes and drops out
        G, reduced = W.T @ W + np.outer(b, b), ours.T @ ours + np.outer(bias, bias)
        radius = flat_radius(G, 0.1) / W.shape[1]
        assert flat_radius(reduced, 0.1) / ours.shape[1] == pytest.approx(radius, rel=ROUNDING)
        worst = worst_case_divergence(W, b, radius * W.shape[1])
        again = worst_case_divergence(ours, bias, radius * ours.shape[1])
        assert again.value == pytest.approx(worst.value, rel=1e-5)


def test_a_linear_network_is_found_as_it_is_and_gives_theorem_t2s_number() -> None:
    network = LinearFeatures()
    check_linear(network, linear_subject(network))


@pytest.mark.parametrize(
    "mutant",
    [
        lambda W, b: (W, -0.0 * b),
        lambda W, b: (0.0 * W, b),
        lambda W, b: (-W, b + W.T @ torch.ones(len(W)).double()),
        lambda W, b: (2.0 * W, b),
    ],
)
def test_mutants_of_the_linearisation_are_found(
    mutant: Callable[..., tuple[Tensor, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = linearisation.reduced
    monkeypatch.setattr(linearisation, "reduced", lambda W, b: right(*mutant(W, b)))
    network = LinearFeatures()
    with pytest.raises((AssertionError, ValueError)):
        check_linear(network, linear_subject(network))


def test_a_rotation_of_the_features_that_the_readout_undoes_changes_nothing() -> None:
    network, turned = LinearFeatures(), LinearFeatures()
    rotation, _ = torch.linalg.qr(torch.randn(FEATURES, FEATURES, generator=torch.Generator().manual_seed(3)))
    with torch.no_grad():
        turned.first.weight.copy_(rotation @ network.first.weight)
        turned.first.bias.copy_(rotation @ network.first.bias)
        turned.last.weight.copy_(network.last.weight @ rotation.T)
    one, other = (measured_linearisation(linear_subject(n), T, 8, 1) for n in (network, turned))
    assert one["kernel_curvature"] == pytest.approx(other["kernel_curvature"], rel=1e-4)
    for key in ("singular_values", "bias"):
        ours, theirs = np.abs(one["points"][0][key]), np.abs(other["points"][0][key])
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-5)


def test_a_curved_network_is_not_its_linearisation_and_a_convolutions_curvature_counts_positions() -> None:
    of = subject(Readout())
    measured = measured_linearisation(of, T, 16, 1)
    assert measured["positions"] == 16
    assert measured["points"][0]["features"] == 3 * 16
    assert measured["points"][0]["linearisation_error"] > 0.01
    # A kernel of norm r along the top eigenvector raises the summed loss of the even part by its curvature times r^2
    batches = batches_at(of, T, 16)
    patches = torch.cat(
        [
            nn.functional.unfold(Readout.features(b.x_t, of.process.network_timesteps(b.t)), 3, padding=1)
            for b in batches
        ]
    ).double()
    moment = torch.einsum("nil,njl->ij", patches, patches) / len(patches)
    assert measured["kernel_curvature"] == pytest.approx(float(torch.linalg.eigvalsh(moment)[-1]), rel=1e-5)


def test_points_beyond_the_images_are_refused() -> None:
    with pytest.raises(ValueError, match="points is 9"):
        measured_linearisation(linear_subject(LinearFeatures()), T, 8, 9)
    with pytest.raises(ValueError, match="points is 0"):
        measured_linearisation(linear_subject(LinearFeatures()), T, 8, 0)


def test_the_network_itself_is_left_as_it_is() -> None:
    network = LinearFeatures()
    of = linear_subject(network)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    measured_linearisation(dataclasses.replace(of, batch_size=3), T, 8, 1)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert next(network.parameters()).dtype == torch.float32
    assert DIMENSION == 4
