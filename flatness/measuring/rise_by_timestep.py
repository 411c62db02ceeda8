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
from flatness.measuring.base import Estimate, Measurement, PairedRises, measuring, settings_of
from flatness.progress import Progress, reporter, tracked
from flatness.weights import NOISE_SCALES, GaussianNoise, Selection, derived_seed


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Neighbouring timesteps.

    Attributes:
        first, last: of the steps, numbered from 0, the one of least noise.
        samples: how many were drawn there.
        loss, rise: in the loss's own unit, means over the bin's samples.
        nats: what the bin adds to the rise of the bound; nats of all bins sum to the whole rise.
    """

    first: int
    last: int
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
        nats: the rise of the variational bound, of a sample.
        bits_per_dimension: the same in bits for each entry of a sample.
    """

    rise: Estimate
    bins: tuple[Bin, ...]
    nats: Estimate
    bits_per_dimension: Estimate


def rise_by_timestep(
    model: nn.Module,
    loss: DiffusionLoss,
    batches: Iterable[Any],
    *,
    bins: int = 10,
    sigma: float = 0.01,
    draws: int = 100,
    scale: str = "absolute",
    variance: str = "small",
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> RiseByTimestep:
    """The low-pass filter's rise in bins of timesteps, and in nats; draws + 1 passes over the batches.

    Args:
        model: the network.
        loss: one of this package's, without a weight of its own; its times are replaced by all steps alike.
        batches: as the loss takes them, `fixed_batches` of data at best, whose times are spread evenly.
        bins: of equally many steps, at most as many as there are steps.
        sigma, draws, scale, parameters, seed, eval_mode, progress: as `low_pass_filter` takes them.
        variance: of the sampler whose bound is meant, "small" or "large".

    Raises:
        ValueError: an argument is not as above, a bin has no sample, or a loss is not finite. The weights are as before
            then.
    """
    in_nats = likelihood_loss(loss, variance=variance)
    total = len(in_nats.factors)
    bins = arguments.count("bins", bins, at_least=1)
    if bins > total:
        raise arguments.refuse("bins", bins, f"at most the number of steps, {total}")
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
        return in_nats.loss(network, whole)

    with measuring(model, watched, batches, parameters, seed, eval_mode) as (weights, losses):
        watching = True
        unmoved = losses()
        watching = False
        steps = torch.cat([in_nats.steps(u) for u, _ in seen])
        factors = torch.cat([in_nats.of_samples(u, dimension) for u, dimension in seen])
        dimension = seen[0][1]
        places = steps * bins // total
        members = [places == place for place in range(bins)]
        edges = [math.ceil(place * total / bins) for place in range(bins + 1)]
        for place, inside in enumerate(members):
            if not bool(inside.any()):
                told = f"no sample lies at the steps {edges[place]} to {edges[place + 1] - 1}"
                raise ValueError(f"bins is {bins}, and {told}; allowed: fewer bins, or more samples")
        own = [PairedRises(unmoved[inside]) for inside in members]
        nats = [PairedRises(unmoved * factors * inside) for inside in members]
        whole, whole_nats = PairedRises(unmoved), PairedRises(unmoved * factors)
        for draw in tracked(range(draws), report, draws):
            weights.move(GaussianNoise(weights.saved, derived_seed("draw", seed, draw), scale), sigma)
            values = losses(f"noise draw {draw} of sigma {sigma:g} ({scale})")
            whole.add(values)
            whole_nats.add(values * factors)
            for inside, plain, weighted in zip(members, own, nats, strict=True):
                plain.add(values[inside])
                weighted.add(values * factors * inside)
        settings = settings_of(
            "rise_by_timestep", weights.named, losses, eval_mode, sigma=sigma, draws=draws, scale=scale, bins=bins,
            variance=variance, steps=total, dimension=dimension,
        )  # fmt: skip
    curve = tuple(
        Bin(
            first=edges[place],
            last=edges[place + 1] - 1,
            samples=int(inside.sum()),
            loss=plain.unmoved_loss(),
            rise=plain.rise(),
            nats=weighted.rise(),
        )
        for place, (inside, plain, weighted) in enumerate(zip(members, own, nats, strict=True))
    )
    found = whole_nats.rise()
    per_bit = dimension * math.log(2.0)
    bits = Estimate(*(value / per_bit for value in dataclasses.astuple(found)))
    return RiseByTimestep(
        loss=whole.unmoved_loss(), rise=whole.rise(), bins=curve, nats=found, bits_per_dimension=bits, settings=settings
    )
