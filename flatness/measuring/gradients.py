"""The gradient of a loss with respect to weights as they are, which leaves `.grad` alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from flatness.measuring.base import Losses
from flatness.selection import memory_of
from flatness.weights import SavedWeights, at_least_float32


class Leaves:
    """The tensors through which a loss depends on weights: they themselves, and other views of the same memory.

    Attributes:
        every: the tensors, the weights first.
    """

    def __init__(self, weights: Sequence[Tensor], model: nn.Module) -> None:
        """Find the views among the model's parameters."""
        self.weights = list(weights)
        self.every = list(weights)
        self._owners = list(range(len(self.weights)))
        places = {memory_of(weight): index for index, weight in enumerate(self.weights)}
        for parameter in model.parameters():
            owner = places.get(memory_of(parameter))
            if owner is not None and parameter is not self.weights[owner]:
                self.every.append(parameter)
                self._owners.append(owner)

    def spread(self, vector: Sequence[Tensor]) -> list[Tensor]:
        """A vector, one tensor for each weight, as one for each leaf."""
        pairs = zip(self.every, self._owners, strict=True)
        return [_viewed(vector[owner], self.weights[owner], leaf) for leaf, owner in pairs]

    def gather(self, parts: Sequence[Tensor | None], into: Sequence[Tensor]) -> None:
        """Add derivatives, one for each leaf, to the weights'."""
        for part, leaf, owner in zip(parts, self.every, self._owners, strict=True):
            if part is not None:
                into[owner].add_(_viewed(part, leaf, self.weights[owner]))


def _viewed(tensor: Tensor, of: Tensor, like: Tensor) -> Tensor:
    """A tensor that belongs to one view, seen as belongs to another view of the same memory."""
    if of.shape == like.shape and of.stride() == like.stride():
        return tensor
    laid_out = torch.empty_strided(of.shape, of.stride(), dtype=tensor.dtype, device=tensor.device).copy_(tensor)
    return laid_out.as_strided(like.shape, like.stride())


def loss_gradient(weights: SavedWeights, losses: Losses) -> list[Tensor]:
    """The gradient of the mean loss over all samples with respect to the weights as they are; `.grad` is left alone.

    Raises:
        ValueError: the loss returned other than as many values as are expected of it.
    """
    gradient = [torch.zeros_like(live, dtype=at_least_float32(live.dtype)) for live in weights.live]
    samples = 0
    leaves = Leaves(weights.live, losses.model)
    with requiring_gradients(leaves.every), torch.enable_grad():
        for index in range(len(losses.batches)):
            values = losses.of_batch(index)
            samples += len(values)
            if not values.requires_grad:
                continue
            leaves.gather(torch.autograd.grad(values.sum(), leaves.every, allow_unused=True), gradient)
    losses.put_back_buffers()
    if losses.samples not in (None, samples):
        raise ValueError(f"loss returned {samples} values for the gradient; allowed: {losses.samples}, as before")
    return [total.div_(samples) for total in gradient]


@contextmanager
def requiring_gradients(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Tensors that require gradients inside the block, frozen ones too, and are afterwards as before.

    Raises:
        RuntimeError: within torch.inference_mode, where every derivative would be zero.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError("a gradient was asked for within torch.inference_mode(); allowed: torch.no_grad()")
    torch.clear_autocast_cache()  # of weights cast without a gradient, which not every torch tells from others
    flags = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_(True)
        yield
    finally:
        for tensor, flag in zip(tensors, flags, strict=True):
            tensor.requires_grad_(flag)
