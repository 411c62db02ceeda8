"""Weights moved in place and always put back, bit for bit; the noise and the directions they are moved along.

Every measure of this package stands on two promises kept here. Whatever happens while weights are moved, they come back
exactly as they were, from one saved copy. And noise is a function of its seed and of the weights' shapes alone, drawn
tensor by tensor when it is needed, so that it costs no second copy and is the same for every model of one architecture
on one kind of device, in whatever precision and memory layout its weights are kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from flatness import arguments
from flatness.modules import Selection, plain_name, selected_parameters
from flatness.passes import whole_norm

Direction = Iterable[Tensor] | Mapping[str, Tensor]
TargetType = TypeVar("TargetType")

NOISE_SCALES = ("absolute", "layer", "filter", "weight")
NORMALIZATIONS = ("none", "whole", "layer", "filter")


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed that is a function of the parts, so that streams with different labels do not share numbers."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class SavedWeights:
    """A saved copy of some weights, from which they are moved in place and to which they are put back.

    Inside an autocast block of the caller's, the cast weights that it keeps are dropped whenever weights change.

    Attributes:
        named: the weights by name.
        live: the weights themselves.
        saved: their copies, never written to.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """Copy them."""
        self.named = dict(weights)
        self.live = list(weights.values())
        self.saved = [tensor.detach().clone() for tensor in self.live]

    @torch.no_grad()
    def move(self, direction: Iterable[Tensor], scale: float = 1.0) -> None:
        """Set the weights to saved + scale * direction."""
        for live, saved, along in zip(self.live, self.saved, direction, strict=True):
            live.copy_(moved_tensor(saved, along, scale))
        torch.clear_autocast_cache()

    @torch.no_grad()
    def write(self, values: Iterable[Tensor]) -> None:
        """Set the weights to the values."""
        for live, value in zip(self.live, values, strict=True):
            live.copy_(value)
        torch.clear_autocast_cache()

    @torch.no_grad()
    def change(self) -> Iterator[Tensor]:
        """By how much each weight differs from its copy, in float32 at least."""
        for live, saved in zip(self.live, self.saved, strict=True):
            precision = at_least_float32(saved.dtype)
            yield live.to(precision) - saved.to(precision)

    @torch.no_grad()
    def put_back(self) -> None:
        """Set the weights to what they were, bit for bit."""
        for live, saved in zip(self.live, self.saved, strict=True):
            live.copy_(saved)
        torch.clear_autocast_cache()

    @contextmanager
    def put_back_after(self) -> Iterator[SavedWeights]:
        """Put the weights back at the end of the block, however it ends."""
        try:
            yield self
        finally:
            self.put_back()


def moved_tensor(saved: Tensor, along: Tensor, scale: float) -> Tensor:
    """saved + scale * along, in float32 at least: a weight in bfloat16 is rounded once, at the end."""
    precision = at_least_float32(saved.dtype)
    if abs(scale) > arguments.LARGEST:  # as rho over the norm of a tiny gradient
        precision = widest(saved.device)
        scale = scale if precision is torch.float64 else math.copysign(arguments.LARGEST, scale)
    return torch.add(saved.to(precision), along.to(precision), alpha=scale)


@contextmanager
def moved(
    target: TargetType, direction: Direction, scale: float = 1.0, *, parameters: Selection = None
) -> Iterator[TargetType]:
    """Weights moved by scale * direction inside the block, and put back bit for bit after it, also when it raises.

    Args:
        target: a module, or tensors, or tensors by name.
        direction: one tensor per selected weight, of its shape: by name, or in the order of the weights.
        scale: what the direction is multiplied by.
        parameters: which weights (`selected_parameters`).

    Raises:
        ValueError: an argument is not as above, or the direction is not finite. No weight has moved then.
    """
    weights = selected_parameters(target, parameters)  # type: ignore[arg-type]
    scale = arguments.number("scale", scale)
    along = matching_direction("direction", direction, weights)
    with SavedWeights(weights).put_back_after() as saved:
        saved.move(along, scale)
        _check_moved("scale", scale, saved)
        yield target


def _check_moved(name: str, value: float, weights: SavedWeights) -> None:
    """Refuse a length that takes finite weights beyond what their type can hold."""
    for live, saved in zip(weights.live, weights.saved, strict=True):
        if not bool(live.isfinite().all()) and bool(saved.isfinite().all()):
            raise arguments.refuse(name, value, f"so small that weights in {live.dtype} stay finite")


@contextmanager
def perturbed_weights(
    target: TargetType, sigma: float, *, seed: int, scale: str = "absolute", parameters: Selection = None
) -> Iterator[TargetType]:
    """Weights with Gaussian noise added inside the block, and put back bit for bit after it, also when it raises.

    Args:
        target: a module, or tensors, or tensors by name.
        sigma: standard deviation of the noise, in the unit that scale names.
        seed: the noise is a function of it.
        scale: "absolute", "layer", "filter" or "weight" (`GaussianNoise`).
        parameters: which weights (`selected_parameters`).

    Raises:
        ValueError: an argument is not as above. No weight has moved then.
    """
    sigma = arguments.number("sigma", sigma, at_least=0.0)
    arguments.count("seed", seed)
    arguments.choice("scale", scale, NOISE_SCALES)
    with SavedWeights(selected_parameters(target, parameters)).put_back_after() as saved:  # type: ignore[arg-type]
        saved.move(GaussianNoise(saved.saved, seed, scale), sigma)
        _check_moved("sigma", sigma, saved)
        yield target


@dataclass(frozen=True, eq=False)
class GaussianNoise:
    """Gaussian noise for weights, drawn tensor by tensor; each pass over it draws the same numbers.

    Independent entries with mean zero and a standard deviation of

    - "absolute": 1 everywhere;
    - "layer": the root mean square of the entries of the tensor, so that the noise's expected squared norm is the
      tensor's own;
    - "filter": the root mean square of each output channel or row (dimension 0) of a tensor with two dimensions or
      more, of the whole tensor where it has fewer;
    - "weight": the magnitude of each weight.

    Weights that are zero get no noise from the last three. All three leave the measures built on them unchanged when a
    rectifier network's layers are rescaled against one another, each by one factor, and when weights grow in front of a
    normalisation. Where every neuron has a factor of its own, on what enters it and off what it enters, "layer" moves,
    and "filter" by the next layer's weights; "weight" alone is invariant: whatever multiplies a weight multiplies its
    noise. Bisla et al. (2022) scale by a filter's norm, which is the square root of its number of entries larger than
    "filter".

    Attributes:
        weights: the tensors to scale by and to take shapes and devices from: saved ones, never ones that move.
        seed: the noise is a function of it, of the shapes and of the kind of device; drawn in float32.
        scale: as above.
    """

    weights: Sequence[Tensor]
    seed: int
    scale: str = "absolute"

    def __iter__(self) -> Iterator[Tensor]:
        """Draw it, tensor by tensor."""
        generators: dict[torch.device, torch.Generator] = {}
        for weight in self.weights:
            if weight.device not in generators:
                generators[weight.device] = torch.Generator(weight.device).manual_seed(derived_seed("noise", self.seed))
            generator = generators[weight.device]
            noise = torch.randn(weight.shape, generator=generator, device=weight.device, dtype=torch.float32)
            yield noise if self.scale == "absolute" else noise.mul_(root_mean_square(weight, self.scale))


def root_mean_square(weight: Tensor, scale: str) -> Tensor:
    """The unit of relative noise, to multiply by: one; with "filter" one a channel, with "weight" one a weight."""
    if scale == "weight":
        return weight.detach().to(at_least_float32(weight.dtype)).abs()
    norms = _norms(weight, by_filter=scale == "filter" and weight.dim() > 1)
    return norms / math.sqrt(max(weight.numel() // max(norms.numel(), 1), 1))


def _norms(tensor: Tensor, by_filter: bool) -> Tensor:
    """L2 norms in float32, shaped to multiply the tensor: one, or one for each index of dimension 0."""
    precision = at_least_float32(tensor.dtype)
    if not by_filter and tensor.device.type == "cpu":  # whose float32 sum errs by a per cent at 20 million entries
        return torch.full([1] * tensor.dim(), whole_norm([tensor.detach()]), dtype=precision)
    wide = tensor.detach().to(precision)
    dims = tuple(range(1, tensor.dim())) if by_filter else tuple(range(tensor.dim()))
    if not dims:
        return wide.abs()
    return torch.linalg.vector_norm(wide, dim=dims, keepdim=True)


@dataclass(frozen=True, eq=False)
class NormalizedDirection:
    """A direction rescaled, tensor by tensor, as it is passed over.

    - "none": as it is.
    - "whole": divided by its L2 norm over all tensors together.
    - "layer": every tensor given the norm of its weight.
    - "filter": every index of dimension 0 given the norm of the same part of the weight, and tensors with fewer than
      two dimensions (biases, gains) set to zero: the filter normalisation of Li et al. (2018).

    Attributes:
        direction: one tensor per weight; passed over anew at each pass.
        weights: saved weights.
        by: as above.
    """

    direction: Iterable[Tensor]
    weights: Sequence[Tensor]
    by: str

    @cached_property
    def _norm(self) -> float:
        return direction_norm(self.direction)

    def __iter__(self) -> Iterator[Tensor]:
        """Rescale it, tensor by tensor."""
        for along, weight in zip(self.direction, self.weights, strict=True):
            if self.by == "none":
                yield along
            elif self.by == "whole":
                yield along / self._norm if self._norm else along
            elif self.by == "filter" and weight.dim() < 2:
                yield torch.zeros_like(along)
            else:
                own = _norms(along, by_filter=self.by == "filter")
                factor = torch.where(own > 0, _norms(weight, by_filter=self.by == "filter") / own, 0.0)
                yield along * factor


def direction_norm(direction: Iterable[Tensor]) -> float:
    """The L2 norm over all tensors together."""
    return math.hypot(*(whole_norm([along]) for along in direction))


def widest(device: torch.device) -> torch.dtype:
    """The widest real type the device computes in."""
    return torch.float32 if device.type == "mps" else torch.float64


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The type in which weights of another are computed with."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def matching_direction(name: str, direction: object, weights: Mapping[str, Tensor]) -> list[Tensor]:
    """The direction as one finite tensor per weight, in the weights' order.

    Raises:
        ValueError: tensors are missing, too many, of another shape, or not finite.
    """
    allowed = "one finite tensor per selected weight, of its shape, by name or in order"
    if isinstance(direction, Mapping):
        direction = {plain_name(key) if isinstance(key, str) else key: along for key, along in direction.items()}
        if set(direction) != set(weights):
            raise arguments.refuse(f"{name}'s names", sorted(set(direction) ^ set(weights), key=str), allowed)
        tensors = [direction[key] for key in weights]
    elif isinstance(direction, Iterable) and not isinstance(direction, Tensor | str):
        tensors = list(direction)
    else:
        raise arguments.refuse(name, direction, allowed)
    if len(tensors) != len(weights):
        raise ValueError(f"{name} has {len(tensors)} tensors for {len(weights)} weights; allowed: {allowed}")
    for key, along in zip(weights, tensors, strict=True):
        fits = isinstance(along, Tensor) and along.shape == weights[key].shape and not along.is_complex()
        if not fits or along.is_meta or not bool(along.to(at_least_float32(weights[key].dtype)).isfinite().all()):
            shape = tuple(weights[key].shape)
            raise arguments.refuse(f"{name} for {key!r}", along, f"real and finite, of shape {shape}")
    return [along.detach().to(weights[key].device) for key, along in zip(weights, tensors, strict=True)]
