"""The instruments' nats against the theory's: the weights, and an exact Gaussian chain's variational gap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import flatness
from flatness.diffusion.losses import Batch
from theory import kl_divergence, likelihood_weights
from theory.claims.theorem_t8_likelihood import Chain
from theory.model.likelihood import reverse_variances

SCHEDULES = {
    "linear": torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0),
    "cosine": torch.cos(torch.linspace(0.05, 1.55, 50, dtype=torch.float64)) ** 2,
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("variance", ["small", "large"])
def test_both_rooms_have_the_same_weights(schedule: str, variance: str) -> None:
    bars = SCHEDULES[schedule]
    expected = likelihood_weights(bars.numpy(), variance)
    # differences of alpha_bar near 1, rounded twice
    assert flatness.likelihood_weights(bars, variance).numpy() == pytest.approx(expected, rel=1e-9)


class Line(nn.Module):
    """A slope and a shift for every step: the noise prediction of a Gaussian chain."""

    def __init__(self, slopes: np.ndarray, shifts: np.ndarray) -> None:
        """Both (T,)."""
        super().__init__()
        self.slopes, self.shifts = nn.Parameter(torch.tensor(slopes)), nn.Parameter(torch.tensor(shifts))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Of x's shape (n, 1)."""
        return self.slopes[t][:, None] * x + self.shifts[t][:, None]


def test_a_rise_in_nats_is_the_rise_of_an_exact_gap() -> None:
    """Data N(1/2, 1/4), six steps, two models: KL of whole paths by the theory, the same data's losses by the tool."""
    bars = np.array([0.95, 0.8, 0.6, 0.4, 0.2, 0.05])
    rng = np.random.default_rng(0)
    variance = bars / 4 + 1 - bars
    slopes = np.sqrt(1 - bars) / variance
    shifts = -slopes * np.sqrt(bars) / 2
    models = [(slopes, shifts), (slopes + 0.2 * rng.standard_normal(6), shifts + 0.1 * rng.standard_normal(6))]
    sampler = reverse_variances(bars, "small")
    chain = Chain(
        np.array([0.5]), np.array([[0.25]]), bars, sampler, np.array([m[0] for m in models])[..., None, None],
        np.array([m[1] for m in models])[..., None], np.ones(1), np.tile(sampler, (2, 1)),
    )  # fmt: skip
    gaps = [kl_divergence(chain.data_path, chain.path(model)) for model in range(2)]
    loss = flatness.likelihood_loss(flatness.epsilon_loss(torch.tensor(bars)))
    count = 120_000
    x_0 = torch.tensor(0.5 + 0.5 * rng.standard_normal((count, 1)))
    noise = torch.tensor(rng.standard_normal((count, 1)))
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    batch = Batch(x_0, None, noise, u)
    with torch.no_grad():
        losses = [loss(Line(*model), batch) for model in models]
    rises = losses[1] - losses[0]
    error = float(rises.std()) / count**0.5
    assert error < 0.05 * (gaps[1] - gaps[0])  # so that the next line says something
    assert float(rises.mean()) == pytest.approx(gaps[1] - gaps[0], abs=4 * error)
