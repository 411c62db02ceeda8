"""Weights rounded to a grid of 2^bits values: as a copy, inside a block, and the rise of the loss that it causes.

The step q of the grid is max|w| / (2^(bits - 1) - 1) for the symmetric scheme, which keeps zero exact, and
(max w - min w) / (2^bits - 1) for the min-max scheme, which puts both extremes on the grid and in general not zero.
Rounding to the nearest grid point moves no weight by more than q / 2. There is no calibration and no retraining.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.measuring.base import Estimate, Loss, Measurement, PairedRises, measuring, settings_of
from flatness.modules import Selection, copied_module, memory_of, selected_parameters
from flatness.progress import Progress, reporter, tracked
from flatness.weights import SavedWeights, derived_seed, direction_norm, widest

ModelType = TypeVar("ModelType", bound=nn.Module)
FEWEST_BITS, MOST_BITS = 2, 16
GRANULARITIES = ("tensor", "channel")
SCHEMES = ("symmetric", "minmax")
ROUNDINGS = ("nearest", "stochastic")
AT_ONCE, AT_ONCE_ELSEWHERE = 2**14, 2**24
"""Entries that are rounded at a time: on the CPU so few that they stay in the cache, and with one thread."""


@dataclass(frozen=True)
class Grid:
    """How weights are rounded.

    Attributes:
        bits: 2 to 16.
        granularity: "tensor", one grid for a whole tensor; "channel", one for each index of dimension 0 (an output
            channel of a linear layer or a convolution; the input channel of a transposed one) of a tensor with two
            dimensions or more.
        scheme: "symmetric" or "minmax".
        rounding: "nearest", or "stochastic": up or down at random with the mean equal to the weight.
    """

    bits: int = 8
    granularity: str = "tensor"
    scheme: str = "symmetric"
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        """Check every field; ValueError names the one that is not as above."""
        allowed = f"a whole number from {FEWEST_BITS} to {MOST_BITS}"
        if isinstance(self.bits, bool) or not isinstance(self.bits, int) or not FEWEST_BITS <= self.bits <= MOST_BITS:
            raise arguments.refuse("bits", self.bits, allowed)
        arguments.choice("granularity", self.granularity, GRANULARITIES)
        arguments.choice("scheme", self.scheme, SCHEMES)
        arguments.choice("rounding", self.rounding, ROUNDINGS)


def step_size(smallest: Tensor, largest: Tensor, bits: int, scheme: str) -> Tensor:
    """The step q of the grid for weights between smallest and largest, elementwise; 0 where they leave no room."""
    if scheme == "symmetric":
        return torch.maximum(smallest.abs(), largest.abs()) / (2 ** (bits - 1) - 1)
    levels = 2**bits - 1
    return largest / levels - smallest / levels  # divided first: the difference may overflow


def quantize_tensor(
    tensor: Tensor,
    bits: int = 8,
    *,
    granularity: str = "tensor",
    scheme: str = "symmetric",
    rounding: str = "nearest",
    generator: torch.Generator | None = None,
) -> Tensor:
    """The tensor with its entries rounded to the grid, as a new tensor of the same shape and dtype.

    Computed in float64 (float32 on devices without it) and returned in the tensor's own dtype: in bfloat16, which has 8
    significant bits, the values lie beside the grid by its rounding. Constant tensors of the min-max scheme and tensors
    of zeros come back as they are.

    Args:
        tensor: finite, of a real floating-point type.
        bits, granularity, scheme, rounding: see `Grid`.
        generator: for stochastic rounding, on the tensor's device.

    Raises:
        ValueError: an argument is not as above.
    """
    grid = Grid(bits, granularity, scheme, rounding)
    arguments.floating_tensor("tensor", tensor)
    if tensor.is_meta or not _is_finite(tensor):
        raise arguments.refuse("tensor", tensor, "finite entries")
    return rounded_to_grid(tensor.detach(), grid, generator)


def rounded_to_grid(tensor: Tensor, grid: Grid, generator: torch.Generator | None = None) -> Tensor:
    """As `quantize_tensor`, of arguments that have been checked."""
    if tensor.numel() == 0:
        return tensor.clone()
    if tensor.dim() == 0:
        return rounded_to_grid(tensor.reshape(1), grid, generator).reshape(())
    precision = widest(tensor.device)
    per_channel = grid.granularity == "channel" and tensor.dim() > 1
    smallest, largest = (end.to(precision) for end in _extremes(tensor, per_channel))
    step = step_size(smallest, largest, grid.bits, grid.scheme)
    offset = torch.zeros_like(smallest) if grid.scheme == "symmetric" else smallest
    last = 2**grid.bits - 1 if grid.scheme == "minmax" else 2 ** (grid.bits - 1) - 1
    first = 0 if grid.scheme == "minmax" else -last
    stays = bool((step == 0).any())
    result = torch.empty_like(tensor)
    at_once = AT_ONCE if tensor.device.type == "cpu" else AT_ONCE_ELSEWHERE
    rows = max(1, at_once * len(tensor) // tensor.numel())
    for start in range(0, len(tensor), rows):
        at = slice(start, start + rows)
        q, base = (step[at], offset[at]) if per_channel else (step, offset)
        codes = tensor[at].to(precision, copy=True)
        codes.sub_(base).div_(q)
        if grid.rounding == "stochastic":  # a number is rounded down after adding one in [0, 1)
            codes.add_(torch.rand(codes.shape, generator=generator, device=codes.device, dtype=precision)).sub_(0.5)
        _round(codes)
        values = torch.addcmul(base, codes.clamp_(first, last), q)
        result[at].copy_(torch.where(q > 0, values, tensor[at]) if stays else values)
    return result


def _round(codes: Tensor) -> None:
    """Round numbers that are not large to the nearest whole ones, halves to even, in place.

    As the sum with a number whose last digit counts units does. torch.round is as exact, but shares even two thousand
    entries out among threads, and so waits for the slowest of them.
    """
    unit = 1.5 / torch.finfo(codes.dtype).eps
    codes.add_(unit).sub_(unit)


def _extremes(tensor: Tensor, per_channel: bool) -> tuple[Tensor, Tensor]:
    """The smallest and the largest entry, of all or for each index of dimension 0, shaped to be set against it."""
    known = tensor.float() if tensor.dtype.itemsize == 1 else tensor  # float8 knows no order
    dims = tuple(range(1, tensor.dim())) if per_channel else tuple(range(tensor.dim()))
    return known.amin(dims, keepdim=True), known.amax(dims, keepdim=True)


def _is_finite(tensor: Tensor) -> bool:
    """Whether all entries are; faster than looking at each, as both extremes then are, and NaN passes through."""
    return tensor.numel() == 0 or all(bool(end.isfinite()) for end in _extremes(tensor.detach(), per_channel=False))


def _quantized_values(tensors: Iterable[Tensor], names: Iterable[str], grid: Grid, seed: int) -> Iterator[Tensor]:
    generators: dict[torch.device, torch.Generator] = {}
    for name, tensor in zip(names, tensors, strict=True):
        if not _is_finite(tensor):
            raise arguments.refuse(f"parameter {name!r}", tensor, "finite entries")
        if tensor.device not in generators:
            generators[tensor.device] = torch.Generator(tensor.device).manual_seed(derived_seed("rounding", seed))
        yield rounded_to_grid(tensor, grid, generators[tensor.device])


def quantize_weights(
    model: ModelType,
    bits: int = 8,
    *,
    granularity: str = "tensor",
    scheme: str = "symmetric",
    rounding: str = "nearest",
    parameters: Selection = None,
    seed: int = 0,
) -> ModelType:
    """A copy of the model with quantised weights; the model itself is left alone.

    Args:
        model: the module.
        bits, granularity, scheme, rounding: see `Grid`.
        parameters: which weights (`selected_parameters`); by default every one, biases and gains too.
        seed: stochastic rounding is a function of it.

    Raises:
        ValueError: an argument is not as above, or a weight is not finite.
    """
    grid = Grid(bits, granularity, scheme, rounding)
    arguments.count("seed", seed)
    weights = selected_parameters(arguments.module("model", model), parameters)
    twin = copied_module(model)
    # one weight under several names is one here; views of one place in memory are several in the copy
    names: dict[Any, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(memory_of(parameter), []).append(name)
    with torch.no_grad():
        tensors = [weight.detach() for weight in weights.values()]
        for weight, value in zip(tensors, _quantized_values(tensors, weights, grid, seed), strict=True):
            for name in names[memory_of(weight)]:
                view = model.get_parameter(name)
                same = view.stride() == weight.stride()
                twin.get_parameter(name).copy_(value if same else value.as_strided(view.shape, view.stride()))
    return twin


@contextmanager
def quantized(
    model: ModelType,
    bits: int = 8,
    *,
    granularity: str = "tensor",
    scheme: str = "symmetric",
    rounding: str = "nearest",
    parameters: Selection = None,
    seed: int = 0,
) -> Iterator[ModelType]:
    """The model with quantised weights inside the block; put back bit for bit after it, also when it raises.

    Arguments and errors are those of `quantize_weights`. Takes one copy of the selected weights.
    """
    grid = Grid(bits, granularity, scheme, rounding)
    arguments.count("seed", seed)
    with SavedWeights(selected_parameters(arguments.module("model", model), parameters)).put_back_after() as weights:
        weights.write(_quantized_values(weights.saved, weights.named, grid, seed))
        yield model


@dataclass(frozen=True, kw_only=True)
class QuantizationRise(Measurement):
    """The loss with quantised weights.

    Attributes:
        value: the loss with quantised weights.
        rise: the same less the loss of the weights as they are, paired sample by sample.
        weight_error: L2 norm of the change of the weights, all selected ones together; root mean square over draws.
    """

    value: Estimate
    rise: Estimate
    weight_error: float


def quantization_rise(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    bits: int = 8,
    *,
    granularity: str = "tensor",
    scheme: str = "symmetric",
    rounding: str = "nearest",
    draws: int = 100,
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> QuantizationRise:
    """The loss with quantised weights and its rise over the loss of the weights as they are.

    Costs two passes over the batches, draws + 1 with stochastic rounding, and one copy of the weights.

    Args:
        model: the module whose weights are quantised.
        loss: `loss(model, batch)`, as `flatness.measuring.base` describes it.
        batches: the data; read once into a list where it is not a sequence.
        bits, granularity, scheme, rounding: see `Grid`.
        draws: number of draws of stochastic rounding; rounding to the nearest is done once.
        parameters: which weights (`selected_parameters`); by default every one, biases and gains too.
        seed: stochastic rounding and the loss's own random numbers are functions of it.
        eval_mode: False leaves the submodules in the modes they are in. Modes and buffers are put back either way.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, or a weight or a loss is not finite. The weights are as before then.
    """
    grid = Grid(bits, granularity, scheme, rounding)
    draws = arguments.count("draws", draws, at_least=1) if rounding == "stochastic" else 1
    report = reporter("quantisation", draws, progress)
    with measuring(model, loss, batches, parameters, seed, eval_mode) as (weights, losses):
        rises = PairedRises(losses())
        squared_error = 0.0
        for draw in tracked(range(draws), report, draws):
            weights.write(_quantized_values(weights.saved, weights.named, grid, derived_seed("draw", seed, draw)))
            squared_error += direction_norm(weights.change()) ** 2 / draws
            rises.add(losses(f"{bits} bits, {rounding} rounding {draw}"))
        settings = settings_of(
            "quantization_rise",
            weights.named,
            losses,
            eval_mode,
            bits=bits,
            granularity=granularity,
            scheme=scheme,
            rounding=rounding,
            draws=draws,
        )
    drawn = rounding == "stochastic"
    return QuantizationRise(
        loss=rises.unmoved_loss(),
        value=rises.level(drawn),
        rise=rises.rise(drawn),
        weight_error=squared_error**0.5,
        settings=settings,
    )
