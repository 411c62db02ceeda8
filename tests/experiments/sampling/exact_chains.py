"""A Gaussian data set, the network that is its exact posterior mean, and the law of every state of sampling with it.

Each pixel is N(mean, deviation^2) on its own. Then E[x_0 | x_t] is affine in x_t, so is every step of DDPM and DDIM,
and each pixel of each state is Gaussian: x -> A x + B + sigma z moves the mean m to A m + B and the variance w to
A^2 w + sigma^2. All in float64, from the papers' formulas, with nothing of the code that is tested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

T = 1000
TWENTY = (0, 53, 105, 158, 210, 263, 315, 368, 421, 473, 526, 578, 631, 684, 736, 789, 841, 894, 946, 999)
SHAPE = (1, 2, 4)


def cosine_bars() -> Tensor:
    """alpha_bar of the cosine schedule (Nichol and Dhariwal, 2021, Eq. 17), beta at most .999."""
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - (1 - f[1:] / f[:-1]).clamp(max=0.999)).cumprod(0)


def hundred() -> tuple[int, ...]:
    """999 i / 99 rounded, in whole numbers; no half occurs, as 99 is odd."""
    return tuple((2 * 999 * i + 99) // 198 for i in range(100))


class PosteriorMean(nn.Module):
    """(x, t) -> the noise that E[x_0 | x_t] leaves, and a constant v where one is asked for; as ADM is called.

    In float64 within, as the noise at t = 999 is told from x by one part in 20,000.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, v: float | None) -> None:
        """Mean and deviation (C, H, W) of the data set."""
        super().__init__()
        self.mean, self.deviation, self.v = mean.double(), deviation.double(), v
        self.bars = cosine_bars()
        self.eval()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(N, C, H, W), (N,) -> (N, C or 2C, H, W)."""
        bar = self.bars[t].view(-1, 1, 1, 1)
        gain = self.deviation**2 * bar.sqrt() / (bar * self.deviation**2 + 1 - bar)
        x_0 = self.mean + gain * (x - bar.sqrt() * self.mean)
        epsilon = (x - bar.sqrt() * x_0) / (1 - bar).sqrt()
        parts = [epsilon] if self.v is None else [epsilon, torch.full_like(epsilon, self.v)]
        return torch.cat(parts, 1).to(x.dtype)


def data() -> tuple[Tensor, Tensor]:
    """Mean and deviation of each pixel; E[x_0 | x_t] is 6 deviations and more from where clipping would begin."""
    number = math.prod(SHAPE)
    mean = torch.linspace(-0.35, 0.25, number, dtype=torch.float64).view(SHAPE)
    return mean, torch.linspace(0.02, 0.1, number, dtype=torch.float64).flip(0).view(SHAPE)


@dataclass(frozen=True)
class Law:
    """Of the state after a step: mean and variance (C, H, W), and the factor sigma of the noise that entered it."""

    mean: Tensor
    variance: Tensor
    sigma: float


def exact_laws(steps: tuple[int, ...], v: float | None, eta: float | None) -> list[Law]:
    """The law after each step, from the noisiest to step 0.

    Args:
        steps: of the original process, ascending.
        v: DDPM's variance: learned, at this v (Nichol and Dhariwal, 2021, Eq. 15), or None for beta.
        eta: None for DDPM (Ho et al., 2020, Eqs. 6 and 7); otherwise DDIM's (Song et al., 2021, Eqs. 12 and 16).
    """
    mean, deviation = data()
    bars = [float(bar) for bar in cosine_bars()[list(steps)]]
    m, w = torch.zeros_like(mean), torch.ones_like(mean)
    laws = []
    for step in reversed(range(len(steps))):
        bar, before = bars[step], bars[step - 1] if step else 1.0
        gain = deviation**2 * bar**0.5 / (bar * deviation**2 + 1 - bar)
        offset = mean - gain * bar**0.5 * mean
        beta = 1 - bar / before
        small = beta * (1 - before) / (1 - bar)
        if eta is None:
            of_x_0, of_x = before**0.5 * beta / (1 - bar), (1 - beta) ** 0.5 * (1 - before) / (1 - bar)
            share = 1.0 if v is None else (v + 1) / 2
            variance = beta**share * small ** (1 - share) if step else 0.0
        else:
            variance = eta**2 * small
            direction = (1 - before - variance) ** 0.5 / (1 - bar) ** 0.5
            of_x_0, of_x = before**0.5 - direction * bar**0.5, direction
        A, B = of_x_0 * gain + of_x, of_x_0 * offset
        m, w = A * m + B, A**2 * w + variance
        laws.append(Law(m, w, variance**0.5))
    return laws
