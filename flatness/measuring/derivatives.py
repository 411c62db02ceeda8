"""Derivatives of a loss in the weights: the gradient, products of the Hessian with vectors, and Lanczos' recurrence.

The gradient is of the weights as they are, and leaves `.grad` alone.

Products are taken by differentiating twice backwards, which every torch operation with a second derivative allows, or
by curvlinops (optional), which goes forward over backward and refuses some operations: with torch 2.13, SiLU and group
normalisation, so most diffusion networks.

The recurrence has three terms and stores no vectors, so that memory stays at a few copies of the weights however many
steps are made. Rounding then repeats eigenvalues that have converged, but moves no extreme one (Paige, 1980), and the
copies of one eigenvalue share its weight in a quadrature (Greenbaum, 1989).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from flatness.measuring.base import Losses
from flatness.modules import memory_of
from flatness.weights import GaussianNoise, SavedWeights, at_least_float32, derived_seed, direction_norm, widest


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


Product = Callable[[list[Tensor]], list[Tensor]]
ENGINES = ("torch", "curvlinops")


def hessian_product(engine: str, weights: SavedWeights, losses: Losses) -> Product:
    """What multiplies a vector, a tensor for each weight, by the Hessian of the mean loss over all samples.

    Raises:
        ImportError: engine is "curvlinops" and it is not installed.
        ValueError: from the product, where it is not finite.
    """
    return _checked(torch_product(weights, losses) if engine == "torch" else curvlinops_product(weights, losses))


def random_vector(weights: SavedWeights, seed: int) -> list[Tensor]:
    """Gaussian numbers in the weights' precision, float32 at least."""
    noise = zip(GaussianNoise(weights.saved, seed), weights.saved, strict=True)
    return [along.to(at_least_float32(weight.dtype)) for along, weight in noise]


def dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """The inner product over all tensors together, in float64 where the device has it."""
    wide = [
        (a.to(widest(a.device)).flatten(), b.to(widest(b.device)).flatten()) for a, b in zip(left, right, strict=True)
    ]
    return math.fsum(float(torch.dot(a, b)) for a, b in wide)


def _checked(product: Product) -> Product:
    def checked(vector: list[Tensor]) -> list[Tensor]:
        image = product(vector)
        if not all(bool(part.isfinite().all()) for part in image):
            raise ValueError("a Hessian-vector product of loss is not finite; allowed: finite second derivatives")
        return image

    return checked


def probe_vector(weights: SavedWeights, seed: int, probe: int) -> list[Tensor]:
    """Random signs, in the weights' precision, float32 at least."""
    return [noise.sign() for noise in random_vector(weights, derived_seed("probe", seed, probe))]


def lanczos_steps(product: Product, start: Sequence[Tensor], most: int) -> Iterator[tuple[list[float], list[float]]]:
    """Lanczos' recurrence: after each step the diagonal of the tridiagonal matrix, and what lies beside it.

    Ends after so many steps, or where what is left of a vector is rounding: an invariant subspace is found.

    Args:
        product: with a symmetric matrix.
        start: of any length but zero.
        most: steps.

    Yields:
        (diagonal, beside), of k numbers each after step k: the last of beside is the coupling to the next step.
    """
    norm = direction_norm(start)
    vector = [part / norm for part in start]
    before = [torch.zeros_like(part) for part in vector]
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(most):
        image = [part.to(along.dtype) for part, along in zip(product(vector), vector, strict=True)]
        diagonal.append(dot(vector, image))
        last = beside[-1] if beside else 0.0
        for part, along, back in zip(image, vector, before, strict=True):
            part.sub_(along, alpha=diagonal[-1]).sub_(back, alpha=last)
        beside.append(direction_norm(image))
        yield diagonal, beside
        scale = float(torch.linalg.eigvalsh(tridiagonal(diagonal, beside[:-1])).abs().max())
        if beside[-1] <= INVARIANT * scale:
            return
        before, vector = vector, [part.div_(beside[-1]) for part in image]


INVARIANT = 1e-7
"""A coupling below this share of the largest eigenvalue is rounding of float32's products."""


def tridiagonal(diagonal: Sequence[float], beside: Sequence[float]) -> Tensor:
    """The symmetric matrix with this diagonal and these entries beside it, float64."""
    off = torch.tensor(beside, dtype=torch.float64)
    return torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)


def torch_product(weights: SavedWeights, losses: Losses) -> Product:
    """Hessian-vector products by differentiating the gradient's inner product with the vector."""

    leaves = Leaves(weights.live, losses.model)

    def product(vector: list[Tensor]) -> list[Tensor]:
        products = [torch.zeros_like(part) for part in vector]
        spread = leaves.spread(vector)
        # flash and memory-efficient attention have no second derivative
        with requiring_gradients(leaves.every), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            for index in range(len(losses.batches)):
                values = losses.of_batch(index)
                if not values.requires_grad:
                    continue
                first = torch.autograd.grad(values.sum(), leaves.every, create_graph=True, allow_unused=True)
                terms = [
                    (slope * along.to(slope.dtype)).sum()
                    for slope, along in zip(first, spread, strict=True)
                    if slope is not None and slope.requires_grad
                ]
                if not terms:
                    continue
                total = torch.stack(terms).sum()
                leaves.gather(torch.autograd.grad(total, leaves.every, allow_unused=True), products)
        losses.put_back_buffers()
        return [part.div_(losses.samples or 1) for part in products]

    return product


class _MeanLoss(nn.Module):
    """The mean loss of a batch as a module of its own, which curvlinops can differentiate by the model's parameters."""

    def __init__(self, losses: Losses) -> None:
        super().__init__()
        self.model = losses.model
        self.losses = losses

    def forward(self, batch: dict[str, int]) -> Tensor:
        return self.losses.of_batch(batch["index"]).mean()


class _Identity(nn.Module):
    """A loss function of curvlinops: the prediction is the loss already."""

    reduction = "mean"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        return prediction


@contextmanager
def _scripting_allowed() -> Iterator[None]:
    """Silence about torch.jit.script, which a dependency of curvlinops and torch's own forward mode use when loaded."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
        yield


def curvlinops_product(weights: SavedWeights, losses: Losses) -> Product:
    """Hessian-vector products by curvlinops."""
    try:
        with _scripting_allowed():
            from curvlinops import HessianLinearOperator  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("engine 'curvlinops' needs curvlinops: pip install flatness[curvature]") from error
    with torch.no_grad():
        sizes = [len(losses.of_batch(index)) for index in range(len(losses.batches))]
    leaves = Leaves(weights.live, losses.model)
    operator = HessianLinearOperator(
        _MeanLoss(losses),
        _Identity(),
        leaves.every,
        [({"index": index}, torch.zeros(1)) for index in range(len(sizes))],
        check_deterministic=False,
        num_data=sum(sizes),
        batch_size_fn=lambda batch: sizes[batch["index"]],
    )

    def product(vector: list[Tensor]) -> list[Tensor]:
        pairs = zip(leaves.spread(vector), leaves.every, strict=True)
        with requiring_gradients(leaves.every), sdpa_kernel(SDPBackend.MATH), _scripting_allowed():
            parts = operator @ [part.to(leaf.dtype) for part, leaf in pairs]
        losses.put_back_buffers()
        products = [torch.zeros_like(part) for part in vector]
        leaves.gather(parts, products)
        return products

    return product
