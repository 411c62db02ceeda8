"""The loss along the straight line between two sets of weights of one network, and the barrier on it.

    l(t) = L((1 - t) w + t w')
    barrier = max over t of l(t) - ((1 - t) l(0) + t l(1))                       (Entezari et al., 2022, Definition 2.1)

Two solutions without a barrier lie in one valley, as fine-tunings of one network and averages of its weights do
(Frankle et al., 2020); where there is one, their average is worse than both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.measuring.base import Estimate, Loss, Measurement, PairedRises, measuring, settings_of
from flatness.modules import Selection, plain_name
from flatness.progress import Progress, reporter
from flatness.weights import at_least_float32, direction_norm

TENTHS = tuple(tenth / 10 for tenth in range(11))


@dataclass(frozen=True, kw_only=True)
class LossPath(Measurement):
    """The loss along a line; nothing is drawn, so errors are over samples alone.

    Attributes:
        fractions: t, 0 the model's own weights and 1 the other ones.
        losses: at each t.
        excess: at each t, the loss less what lies on the line between both ends, paired sample by sample.
        barrier: the largest excess, or 0 where none is positive. Its error takes the place as given, so it does not
            say that the place was sought on the same samples.
        barrier_at: its t; None where there is no barrier.
        distance: |w' - w|, over all weights that differ.
    """

    fractions: tuple[float, ...]
    losses: tuple[Estimate, ...]
    excess: tuple[Estimate, ...]
    barrier: Estimate
    barrier_at: float | None
    distance: float


def loss_path(
    model: nn.Module,
    end: nn.Module | Mapping[str, Tensor],
    loss: Loss,
    batches: Iterable[Any],
    fractions: Sequence[float] = TENTHS,
    *,
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> LossPath:
    """The loss along the line from a model's weights to others, and the barrier; buffers stay those of the model.

    Costs a pass over the batches for each fraction and for both ends, and two copies of the weights.

    Args:
        model: the module at the beginning of the line.
        end: a module of the same architecture, or its weights by name; neither is changed.
        loss: `loss(model, batch)`, as `flatness.measuring.base` describes it.
        batches: the data; read once into a list where it is not a sequence.
        fractions: t, at least one of them between 0 and 1; below 0 and above 1 the line goes on beyond its ends, where
            there is no barrier to speak of.
        parameters: which weights move (`selected_parameters`); others stay those of the model.
        seed: the loss's own random numbers are functions of it.
        eval_mode: False leaves the submodules in the modes they are in. Modes and buffers are put back either way.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, weights of the end are missing or of another shape or not finite, or a
            loss is not finite. The weights are as before then.
    """
    places = _fractions(fractions)
    report = reporter("loss path", len(places) + 2, progress)
    with measuring(model, loss, batches, parameters, seed, eval_mode) as (weights, losses):
        target = matching_weights("end", end, weights.named)
        ends = []
        for index, t in enumerate((0.0, 1.0)):
            weights.write(_between(weights.saved, target, t))
            ends.append(losses(f"the {'end' if index else 'beginning'} of the path"))
            report(index + 1, len(places) + 2)
        levels, excesses = [], []
        for index, t in enumerate(places):
            line = PairedRises((1.0 - t) * ends[0] + t * ends[1])
            weights.write(_between(weights.saved, target, t))
            values = losses(f"the fraction {t:g} of the path")
            line.add(values)
            levels.append(PairedRises(values).unmoved_loss())
            excesses.append(line.rise(drawn=False))
            report(index + 3, len(places) + 2)
        weights.write(target)
        distance = direction_norm(weights.change())
        settings = settings_of("loss_path", weights.named, losses, eval_mode)
    within = [(excess, t) for excess, t in zip(excesses, places, strict=True) if 0.0 < t < 1.0]
    highest, at = max(within, key=lambda pair: pair[0].value)
    return LossPath(
        loss=PairedRises(ends[0]).unmoved_loss(),
        fractions=places,
        losses=tuple(levels),
        excess=tuple(excesses),
        barrier=highest if highest.value > 0 else Estimate(0.0, 0.0, 0.0),
        barrier_at=at if highest.value > 0 else None,
        distance=distance,
        settings=settings,
    )


def matching_weights(name: str, given: object, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """Others' weights in the order of a model's, on its devices.

    Args:
        name: of the argument, for messages.
        given: a module, or tensors by name; more than are needed are passed over.
        weights: the model's, by name.

    Raises:
        ValueError: it is neither, lacks a weight, or one has another shape or is not finite.
    """
    if isinstance(given, nn.Module):
        there: dict[str, Any] = {plain_name(key): p for key, p in given.named_parameters(remove_duplicate=False)}
    elif isinstance(given, Mapping):
        there = {plain_name(str(key)): value for key, value in given.items()}
    else:
        raise arguments.refuse(name, given, "a module, or tensors by name")
    missing = [key for key in weights if key not in there]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(f"{name} lacks {len(missing)} of {len(weights)} weights ({shown}); allowed: the model's own")
    pairs = []
    for key, own in weights.items():
        value = there[key]
        if not isinstance(value, Tensor) or value.shape != own.shape:
            raise arguments.refuse(f"{name}'s {key}", value, f"a tensor of shape {tuple(own.shape)}")
        if not bool(value.detach().isfinite().all()):
            raise arguments.refuse(f"{name}'s {key}", value, "finite entries")
        pairs.append(value.detach().to(own.device, own.dtype, copy=True))
    return pairs


def _between(start: Sequence[Tensor], end: Sequence[Tensor], t: float) -> Iterator[Tensor]:
    """(1 - t) start + t end, in float32 at least; the ends themselves bit for bit."""
    for own, other in zip(start, end, strict=True):
        wide = at_least_float32(own.dtype)
        yield own if t == 0.0 else other if t == 1.0 else torch.lerp(own.to(wide), other.to(wide), t)


def _fractions(given: object) -> tuple[float, ...]:
    if isinstance(given, str | Tensor) or not isinstance(given, Iterable):
        raise arguments.refuse("fractions", given, "a list of finite numbers")
    fractions = tuple(arguments.number("fractions", value) for value in given)
    if not any(0.0 < value < 1.0 for value in fractions):
        raise arguments.refuse(
            "fractions", fractions, "at least one number between 0 and 1, where the barrier is sought"
        )
    return fractions
