"""Gaussian data, for which the best network of every parametrisation is known: a gain at each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from flatness.diffusion.losses import DiffusionLoss, edm_loss, epsilon_loss, flow_loss, v_loss, x_0_loss
from flatness.diffusion.noise_paths import GivenTimes

SPREAD = 0.7
"""The data's standard deviation: not 1, where the best v is 0."""
BARS = torch.tensor([0.9, 0.6, 0.2, 0.05], dtype=torch.float64)
NAMES = ("epsilon", "x_0", "v", "flow, discrete", "flow", "v, continuous", "edm", "edm, preconditioned")


class Gains(nn.Module):
    """x times a gain of its own for each of the times that the network may be given."""

    def __init__(self, times: Tensor, gains: Tensor) -> None:
        """Times (K,) and gains (K,)."""
        super().__init__()
        self.times = times.double()
        self.gains = nn.Parameter(gains.clone())

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Of x's shape."""
        index = (t.double()[:, None] - self.times).abs().argmin(1)
        return self.gains[index].view(-1, *[1] * (x.dim() - 1)) * x


@dataclass(frozen=True)
class Case:
    """A loss, the times it is taken at, and the best network: what it is given as time, its gains, its losses (K,)."""

    loss: DiffusionLoss
    times: Sequence[float]
    network_times: Tensor
    gains: Tensor
    minima: Tensor

    def model(self) -> Gains:
        """The best network."""
        return Gains(self.network_times, self.gains)


def case(name: str) -> Case:
    """By name; all have the signal-to-noise ratios of BARS."""
    if name.startswith("edm"):
        return _edm(preconditioned=name != "edm")
    alpha, sigma = BARS.sqrt(), (1 - BARS).sqrt()
    times: Sequence[float] = range(len(BARS))
    if name == "flow":
        t = sigma / (alpha + sigma)
        alpha, sigma, times = 1 - t, t, t.tolist()
        loss = flow_loss()
    elif name == "v, continuous":
        # the variance-preserving path of angles (Salimans and Ho, 2022)
        from flatness.diffusion.noise_paths import ContinuousPath

        t = torch.atan2(sigma, alpha)
        times = t.tolist()
        loss = v_loss(ContinuousPath(torch.cos, torch.sin, high=1.57), time_scale=2.0)
    else:
        factory = {"epsilon": epsilon_loss, "x_0": x_0_loss, "v": v_loss, "flow, discrete": flow_loss}[name]
        loss = factory(BARS)
    s2 = SPREAD**2
    # of the target with x_t, and the target's own variance, from x_0 and epsilon independent
    covariance, variance = {
        "epsilon": (sigma, torch.ones(4, dtype=torch.float64)),
        "x_0": (alpha * s2, torch.full((4,), s2, dtype=torch.float64)),
        "v": (alpha * sigma * (1 - s2), alpha**2 + sigma**2 * s2),
        "flow": (sigma - alpha * s2, torch.full((4,), 1 + s2, dtype=torch.float64)),
    }[name.split(",")[0]]
    power = alpha**2 * s2 + sigma**2
    given = torch.tensor(list(times), dtype=torch.float64) * (2.0 if name == "v, continuous" else 1.0)
    return Case(
        replace(loss, times=GivenTimes(list(times))),
        times,
        given,
        covariance / power,
        variance - covariance**2 / power,
    )


def _edm(preconditioned: bool) -> Case:
    """The denoiser's minimum is s^2 sigma^2 / (s^2 + sigma^2), its weight as printed by Karras et al."""
    s2, data2, sigma = SPREAD**2, 0.5**2, ((1 - BARS) / BARS).sqrt()
    gains = s2 / (s2 + sigma**2)
    minima = (sigma**2 + data2) / (sigma**2 * data2) * gains * sigma**2
    given = sigma
    if not preconditioned:
        c_in, c_out = 1 / (sigma**2 + data2).sqrt(), sigma * 0.5 / (sigma**2 + data2).sqrt()
        gains, given = (gains - data2 / (sigma**2 + data2)) / c_out / c_in, sigma.log() / 4
    loss = edm_loss(preconditioned=preconditioned, times=GivenTimes(sigma.tolist()))
    return Case(loss, sigma.tolist(), given, gains, minima)


def data(count: int = 4000, seed: int = 5) -> Tensor:
    """x_0 (count, 2, 2, 4), float64, independent N(0, SPREAD^2)."""
    generator = torch.Generator().manual_seed(seed)
    return SPREAD * torch.randn(count, 2, 2, 4, generator=generator, dtype=torch.float64)
