"""ADM's diffusion process: noising, the hybrid loss with a learned variance, the reverse step's mean and variance.

Noise schedules and tables are computed in float64 and moved to a device and type once. Sources: Ho et al. (2020,
"DDPM"), Nichol and Dhariwal (2021, "Improved DDPM").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from flatness import arguments
from flatness.diffusion.sampling import reverse_steps

COSINE_OFFSET = 0.008
LARGEST_BETA = 0.999
HALF_BIN = 1.0 / 255.0
LEAST_PROBABILITY = 1e-12


def cosine_betas(steps: int) -> Tensor:
    """beta_t (steps,) of the cosine schedule, at most 0.999 (Nichol and Dhariwal, 2021, Eq. 17).

    Raises:
        ValueError: fewer than one step.
    """
    steps = arguments.count("steps", steps, at_least=1)
    times = [(step / steps + COSINE_OFFSET) / (1.0 + COSINE_OFFSET) for step in range(steps + 1)]
    bars = [math.cos(time * math.pi / 2.0) ** 2 for time in times]
    betas = [min(1.0 - after / before, LARGEST_BETA) for before, after in pairwise(bars)]
    return torch.tensor(betas, dtype=torch.float64)


def linear_betas(steps: int) -> Tensor:
    """beta_t (steps,), evenly spaced from 1e-4 to 0.02 for 1000 steps (Ho et al., 2020, Section 4).

    For another number of steps both ends are scaled by 1000 / steps, so that the noise at the end is about the same.

    Raises:
        ValueError: so few steps that a beta would not be below 1 (20 or fewer).
    """
    steps = arguments.count("steps", steps, at_least=1)
    if steps <= 20:
        raise arguments.refuse("steps", steps, "more than 20 with the linear schedule, or its last beta reaches 1")
    scale = 1000.0 / steps
    return torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64)


SCHEDULES = {"cosine": cosine_betas, "linear": linear_betas}


@dataclass(frozen=True)
class ProcessOptions:
    """The options of a diffusion process.

    Raises:
        ValueError: an option is not as its line says.
    """

    schedule: Literal["cosine", "linear"] = "cosine"
    """The noise schedule."""
    steps: int = 1000
    """T, the number of timesteps."""
    learn_sigma: bool = True
    """The network returns channels that the reverse variance is computed from, trained by the variational bound."""

    def __post_init__(self) -> None:
        """Check every option."""
        arguments.choice("schedule", self.schedule, tuple(SCHEDULES))
        arguments.count("steps", self.steps, at_least=2)
        arguments.flag("learn_sigma", self.learn_sigma)


class Losses(NamedTuple):
    """Per image (N,), float32: `loss` = `mse` + `vb`."""

    loss: Tensor
    mse: Tensor
    vb: Tensor


class PMeanVariance(NamedTuple):
    """The reverse step p(x_previous | x): all of x's shape."""

    mean: Tensor
    log_variance: Tensor
    x_start: Tensor


class _Coefficients(NamedTuple):
    """Columns of the table, each indexed by the step."""

    signal: Tensor  # sqrt(alpha_bar)
    noise: Tensor  # sqrt(1 - alpha_bar)
    recip_signal: Tensor  # 1 / sqrt(alpha_bar)
    recip_noise: Tensor  # sqrt(1 / alpha_bar - 1)
    mean_of_start: Tensor  # the posterior mean's weight of x_0 (DDPM, Eq. 7)
    mean_of_x: Tensor  # and of x_t
    posterior_log_variance: Tensor  # log of DDPM's beta tilde; at step 0, where that is 0, as at step 1
    log_beta: Tensor
    large_log_variance: Tensor  # log beta; at step 0 as the posterior's at step 1
    posterior_variance: Tensor  # DDPM's beta tilde, 0 at step 0
    previous_signal: Tensor  # sqrt(alpha_bar) of the step before, 1 before step 0
    previous_noise_variance: Tensor  # 1 - alpha_bar of the step before


class Process:
    """A diffusion process over all timesteps, or over some of them (`respaced`).

    A step `t` is the index within this process, from 0; `timesteps[t]` is its number in the original process, which is
    what the network is given.

    Args:
        options: see `ProcessOptions`.
        timesteps: original steps to keep, ascending; all by default.

    Attributes:
        options: as given.
        timesteps: the kept original steps, a tuple.
        alphas_cumprod: (len(process),), float64, CPU.
    """

    def __init__(self, options: ProcessOptions, timesteps: Sequence[int] | None = None) -> None:
        """Compute the tables.

        Raises:
            ValueError: timesteps do not ascend within 0 to options.steps - 1.
        """
        self.options = arguments.instance("options", options, ProcessOptions)
        bars = (1.0 - SCHEDULES[options.schedule](options.steps)).cumprod(0)
        original = list(range(options.steps)) if timesteps is None else timesteps
        reverse = reverse_steps(bars, original)
        self.timesteps: tuple[int, ...] = tuple(step.t for step in reverse)
        self.alphas_cumprod: Tensor = bars[list(self.timesteps)]
        self._columns = torch.stack(_table(bars[list(self.timesteps)]), dim=1)
        self._placed: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self._placed_timesteps: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        """The number of steps."""
        return len(self.timesteps)

    def respaced(self, count: int) -> Process:
        """The process over `count` of these steps, evenly spaced from the first to the last and rounded; 0 for one.

        ADM adds the stride up in floating point, so that halves are rounded as the sums' errors fall. For the counts in
        use (10, 20, 50, 100) this is the same as exact arithmetic, for a quarter of all counts a step differs by one.

        Raises:
            ValueError: fewer than one step, or more than there are.
        """
        count = arguments.count("count", count, at_least=1)
        if count > len(self):
            raise arguments.refuse("count", count, f"at most the {len(self)} steps of this process")
        stride = (len(self) - 1) / max(count - 1, 1)
        positions = accumulate([stride] * (count - 1), initial=0.0)
        return Process(self.options, [self.timesteps[round(position)] for position in positions])

    def network_timesteps(self, t: Tensor) -> Tensor:
        """The original steps (N,) that the network is given for this process's steps t (N,)."""
        if t.device not in self._placed_timesteps:
            self._placed_timesteps[t.device] = torch.tensor(self.timesteps, device=t.device)
        return self._placed_timesteps[t.device][t]

    def at(self, t: Tensor, like: Tensor) -> _Coefficients:
        """The coefficients of steps t (N,), shaped to broadcast over `like` (N, ...), on its device and in its type."""
        key = (like.device, like.dtype)
        if key not in self._placed:
            self._placed[key] = self._columns.to(like.device, like.dtype)
        columns = self._placed[key][t].unbind(1)
        return _Coefficients(*(column.view(-1, *[1] * (like.dim() - 1)) for column in columns))

    def q_sample(self, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of the given images, steps (N,) and standard normal noise (DDPM, Eq. 4)."""
        c = self.at(t, x_0)
        return c.signal * x_0 + c.noise * noise

    def losses(self, output: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor) -> Losses:
        """The hybrid loss of each image, L_simple + (T / 1000) L_vlb (Improved DDPM, Section 3.1).

        L_vlb is in bits per dimension and sees the predicted noise detached, so it trains the variance alone; without a
        learned variance it is 0.

        Args:
            output: the network's, (N, C or 2C, H, W).
            x_0, x_t: (N, C, H, W), clean images in [-1, 1] and noisy ones.
            t: (N,), this process's steps.
            noise: (N, C, H, W), what the network is to predict.

        Raises:
            ValueError: shapes do not fit.
        """
        epsilon, v = self._split(output, x_0)
        mse = (noise - epsilon).square().flatten(1).mean(1)
        if v is None:
            return Losses(mse, mse, torch.zeros_like(mse))
        vb = self._bound(epsilon.detach(), v, x_0, x_t, t) * (len(self) / 1000.0)
        return Losses(mse + vb, mse, vb)

    def p_mean_variance(self, output: Tensor, x: Tensor, t: Tensor, clip: bool = True) -> PMeanVariance:
        """Mean and log-variance of the reverse step from x at this process's steps t, and the predicted x_0.

        The learned log-variance interpolates those of DDPM's posterior and of beta by (v + 1) / 2 (Improved DDPM,
        Eq. 15); without it the variance is beta. With `clip` the predicted x_0 is clamped to [-1, 1] first.

        Raises:
            ValueError: shapes do not fit.
        """
        epsilon, v = self._split(output, x)
        c = self.at(t, x)
        x_start = c.recip_signal * x - c.recip_noise * epsilon
        if clip:
            x_start = x_start.clamp(-1.0, 1.0)
        mean = c.mean_of_start * x_start + c.mean_of_x * x
        if v is None:
            return PMeanVariance(mean, c.large_log_variance.expand_as(x), x_start)
        return PMeanVariance(mean, _learned_log_variance(v, c), x_start)

    def _split(self, output: Tensor, like: Tensor) -> tuple[Tensor, Tensor | None]:
        """The predicted noise and v, in the images' type."""
        channels = like.shape[1] * (2 if self.options.learn_sigma else 1)
        expected = (like.shape[0], channels, *like.shape[2:])
        if tuple(output.shape) != expected:
            allowed = f"shape {expected}, as learn_sigma is {self.options.learn_sigma}"
            raise arguments.refuse("output", output, allowed)
        output = output.to(like.dtype)
        if not self.options.learn_sigma:
            return output, None
        epsilon, v = output.chunk(2, dim=1)
        return epsilon, v

    def _bound(self, epsilon: Tensor, v: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The term of the variational bound (N,), bits per dimension: a KL divergence, at step 0 the likelihood."""
        c = self.at(t, x_0)
        x_start = c.recip_signal * x_t - c.recip_noise * epsilon
        log_variance = _learned_log_variance(v, c)
        # Both means weigh x_t alike, so they differ by their x_0 alone.
        distance = c.mean_of_start * (x_start - x_0)
        gap = c.posterior_log_variance - log_variance
        kl = 0.5 * (gap.exp() - 1.0 - gap + distance.square() * torch.exp(-log_variance))
        mean = c.mean_of_start * x_start + c.mean_of_x * x_t
        first = (t == 0).view(-1, *[1] * (x_0.dim() - 1))
        nats = torch.where(first, _negative_log_likelihood(x_0, mean, 0.5 * log_variance), kl)
        return nats.flatten(1).mean(1) / math.log(2.0)


def _table(bars: Tensor) -> list[Tensor]:
    """The columns of `_Coefficients` for the given alpha_bar (steps,), float64."""
    previous = torch.cat([torch.ones(1, dtype=torch.float64), bars[:-1]])
    betas = 1.0 - bars / previous
    variance = betas * (1.0 - previous) / (1.0 - bars)
    # With a single step there is no later one to borrow from: beta stands in.
    second = variance[1:2] if len(bars) > 1 else betas
    columns = _Coefficients(
        signal=bars.sqrt(),
        noise=(1.0 - bars).sqrt(),
        recip_signal=bars.rsqrt(),
        recip_noise=(1.0 / bars - 1.0).sqrt(),
        mean_of_start=betas * previous.sqrt() / (1.0 - bars),
        mean_of_x=(1.0 - betas).sqrt() * (1.0 - previous) / (1.0 - bars),
        posterior_log_variance=torch.cat([second, variance[1:]]).log(),
        log_beta=betas.log(),
        large_log_variance=torch.cat([second, betas[1:]]).log(),
        posterior_variance=variance,
        previous_signal=previous.sqrt(),
        previous_noise_variance=1.0 - previous,
    )
    return list(columns)


def _learned_log_variance(v: Tensor, c: _Coefficients) -> Tensor:
    return torch.lerp(c.posterior_log_variance, c.log_beta, (v + 1.0) / 2.0)


def _cdf(x: Tensor) -> Tensor:
    """The standard normal distribution function by the tanh approximation that the published losses use."""
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _negative_log_likelihood(x_0: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """-log of a Gaussian's mass on the bin of each 8-bit value scaled to [-1, 1]; the end bins are open (DDPM, 3.3)."""
    inverse_scale = torch.exp(-log_scale)
    above = _cdf(inverse_scale * (x_0 - mean + HALF_BIN))
    below = _cdf(inverse_scale * (x_0 - mean - HALF_BIN))
    mass = torch.where(x_0 < -0.999, above, torch.where(x_0 > 0.999, 1.0 - below, above - below))
    return -mass.clamp(min=LEAST_PROBABILITY).log()
