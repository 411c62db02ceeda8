"""The rise of a diffusion model's loss under weight noise, timestep by timestep, and what each share of them costs.

One run of the low-pass filter: samples are drawn over all steps alike and their rises sorted into bins of neighbouring
steps. A bin's rise is in the loss's own unit; its nats are what it adds to the rise of the variational bound
(`flatness.diffusion.likelihood`), so that they sum to the whole.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.diffusion.likelihood import likelihood_loss
from flatness.diffusion.losses import Batch, DiffusionLoss, completed
from flatness.diffusion.noise_paths import DiscretePath, GivenTimes
from flatness.measuring.base import Estimate, Measurement, measuring, settings_of, standard_error
from flatness.modules import Selection
from flatness.progress import Progress, reporter, tracked
from flatness.weights import NOISE_SCALES, GaussianNoise, derived_seed

UNKNOWN = Estimate(math.nan, math.nan, math.nan)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Neighbouring timesteps.

    Attributes:
        first, last: of the steps, numbered from 0, the one of least noise.
        times: of these two, as the network is told them.
        samples: how many were drawn there.
        loss, rise: in the loss's own unit, means over the bin's samples.
        nats: what the bin adds to the rise of the bound; nats of all bins sum to the whole rise.
    """

    first: int
    last: int
    times: tuple[float, float]
    samples: int
    loss: Estimate
    rise: Estimate
    nats: Estimate


@dataclass(frozen=True, kw_only=True)
class RiseByTimestep(Measurement):
    """The rise under weight noise as a curve over timesteps.

    Attributes:
        loss: over all steps alike, in the loss's own unit.
        rise: the same of the rise.
        bins: in order of rising noise.
        nats: the rise of the variational bound, of a sample; NaN where it was not asked for.
        bits_per_dimension: the same in bits for each entry of a sample.
    """

    rise: Estimate
    bins: tuple[Bin, ...]
    nats: Estimate
    bits_per_dimension: Estimate


@dataclass(frozen=True)
class StepLosses:
    """Losses of single samples and draws, of which `RiseByTimestep` is made.

    Attributes:
        values: (draws + 1, N), float64: the losses without noise, and those of each draw.
        steps: (N,), the samples' steps.
        times: of all steps, as the network is told them.
        factors: (N,), nats that 1 of a sample's loss counts; None where they were not asked for.
        dimension: entries of a sample.
        settings: all that they were computed with.
    """

    values: Tensor
    steps: Tensor
    times: tuple[float, ...]
    factors: Tensor | None
    dimension: int
    settings: dict[str, Any]

    @property
    def rises(self) -> Tensor:
        """The losses of each draw less those without noise, (draws, N)."""
        return self.values[1:] - self.values[:1]

    def members(self, bins: int) -> list[Tensor]:
        """For each bin which samples lie in it, (N,).

        Raises:
            ValueError: bins is no count from 1 to the number of steps, or a bin has no sample.
        """
        total = len(self.times)
        bins = arguments.count("bins", bins, at_least=1)
        if bins > total:
            raise arguments.refuse("bins", bins, f"at most the number of steps, {total}")
        places = self.steps * bins // total
        edges = self.edges(bins)
        masks = [places == place for place in range(bins)]
        for place, inside in enumerate(masks):
            if not bool(inside.any()):
                reason = f"no sample lies at the steps {edges[place]} to {edges[place + 1] - 1}"
                raise ValueError(f"bins is {bins}, and {reason}; allowed: fewer bins, or more samples")
        return masks

    def edges(self, bins: int) -> list[int]:
        """The first step of each bin, and the number of steps."""
        return [math.ceil(place * len(self.times) / bins) for place in range(bins + 1)]

    def binned(self, bins: int) -> RiseByTimestep:
        """Sorted into bins of neighbouring steps.

        Raises:
            ValueError: as `members`.
        """
        members, edges, rises = self.members(bins), self.edges(bins), self.rises
        nats = None if self.factors is None else rises * self.factors
        curve = tuple(
            Bin(
                first=edges[place],
                last=edges[place + 1] - 1,
                times=(self.times[edges[place]], self.times[edges[place + 1] - 1]),
                samples=int(inside.sum()),
                loss=_unmoved(self.values[0, inside]),
                rise=_mean(rises[:, inside]),
                nats=UNKNOWN if nats is None else _mean(nats * inside),
            )
            for place, inside in enumerate(members)
        )
        whole = UNKNOWN if nats is None else _mean(nats)
        per_bit = self.dimension * math.log(2.0)
        return RiseByTimestep(
            loss=_unmoved(self.values[0]),
            rise=_mean(rises),
            bins=curve,
            nats=whole,
            bits_per_dimension=Estimate(*(value / per_bit for value in dataclasses.astuple(whole))),
            settings=self.settings | {"bins": bins},
        )


def _mean(rises: Tensor) -> Estimate:
    """Of (draws, N), with its errors."""
    return Estimate(float(rises.mean()), standard_error(rises.mean(1)), standard_error(rises.mean(0)))


def _unmoved(losses: Tensor) -> Estimate:
    return Estimate(float(losses.mean()), 0.0, standard_error(losses))


def rise_by_timestep(
    model: nn.Module,
    loss: DiffusionLoss,
    batches: Iterable[Any],
    *,
    bins: int = 10,
    sigma: float = 0.01,
    draws: int = 100,
    scale: str = "absolute",
    variance: str | None = "small",
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> RiseByTimestep:
    """The low-pass filter's rise in bins of timesteps, and in nats; draws + 1 passes over the batches.

    Args:
        model: the network.
        loss: one of this package's; its times are replaced by all steps alike. Without a weight of its own, unless
            variance is None.
        batches: as the loss takes them, `fixed_batches` of data at best, whose times are spread evenly.
        bins: of equally many steps, at most as many as there are steps.
        sigma, draws, scale, parameters, seed, eval_mode, progress: as `low_pass_filter` takes them.
        variance: of the sampler whose bound is meant, "small" or "large"; None leaves nats out (NaN), for losses and
            processes that have no such bound.

    Raises:
        ValueError: an argument is not as above, a bin has no sample, or a loss is not finite. The weights are as before
            then.
    """
    arguments.count("bins", bins, at_least=1)
    return step_losses(
        model, loss, batches, sigma=sigma, draws=draws, scale=scale, variance=variance, parameters=parameters,
        seed=seed, eval_mode=eval_mode, progress=progress,
    ).binned(bins)  # fmt: skip


def step_losses(
    model: nn.Module,
    loss: DiffusionLoss,
    batches: Iterable[Any],
    *,
    sigma: float = 0.01,
    draws: int = 100,
    scale: str = "absolute",
    variance: str | None = "small",
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> StepLosses:
    """Every loss that `rise_by_timestep` sorts; arguments and errors are its."""
    arguments.instance("loss", loss, DiffusionLoss)
    in_nats = None if variance is None else likelihood_loss(loss, variance=variance)
    grid = loss.path.grid()
    times = [int(t) if isinstance(loss.path, DiscretePath) else float(t) for t in grid]
    evenly = dataclasses.replace(loss, times=GivenTimes(times))
    sigma = arguments.number("sigma", sigma, at_least=0.0)
    draws = arguments.count("draws", draws, at_least=1)
    arguments.choice("scale", scale, NOISE_SCALES)
    report = reporter("rise by timestep", draws, progress)
    seen: list[tuple[Tensor, int]] = []

    def watched(network: nn.Module, batch: Any) -> Tensor:
        whole = Batch(*completed(batch))
        assert whole.u is not None
        if watching:
            seen.append((whole.u.cpu(), whole.x_0[0].numel()))
        return evenly(network, whole)

    with measuring(model, watched, batches, parameters, seed, eval_mode) as (weights, losses):
        watching = True
        values = [losses()]
        watching = False
        for draw in tracked(range(draws), report, draws):
            weights.move(GaussianNoise(weights.saved, derived_seed("draw", seed, draw), scale), sigma)
            values.append(losses(f"noise draw {draw} of sigma {sigma:g} ({scale})"))
        dimension = seen[0][1]
        settings = settings_of(
            "rise_by_timestep", weights.named, losses, eval_mode, sigma=sigma, draws=draws, scale=scale,
            variance=variance, steps=len(times), dimension=dimension,
        )  # fmt: skip
    factors = None if in_nats is None else torch.cat([in_nats.of_samples(u, size) for u, size in seen])
    steps = torch.cat([(u * len(times)).long().clamp(max=len(times) - 1) for u, _ in seen])
    return StepLosses(torch.stack(values), steps, tuple(times), factors, dimension, settings)
