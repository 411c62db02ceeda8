"""The top eigenvalue and the trace of the loss's Hessian, from Hessian-vector products.

The eigenvalue comes from Lanczos' three-term recurrence without stored vectors, so that memory stays at a few copies of
the weights however many steps are made. Rounding then repeats eigenvalues that have converged, but moves no extreme one
(Paige, 1980), and the residual returned bounds the distance to an eigenvalue. The trace is Hutchinson's estimator.

Products are taken by differentiating twice backwards, which every torch operation with a second derivative allows, or
by curvlinops (optional), which goes forward over backward and refuses some operations: with torch 2.13, SiLU and group
normalisation, so most diffusion networks.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from flatness import arguments
from flatness.compilation import as_written
from flatness.measuring.base import (
    Estimate,
    Loss,
    Losses,
    Measurement,
    PairedRises,
    measuring,
    settings_of,
    standard_error,
)
from flatness.measuring.gradients import Leaves, requiring_gradients
from flatness.progress import Progress, reporter
from flatness.weights import (
    GaussianNoise,
    SavedWeights,
    Selection,
    at_least_float32,
    derived_seed,
    direction_norm,
    widest,
)

Product = Callable[[list[Tensor]], list[Tensor]]
ENGINES = ("torch", "curvlinops")


@dataclass(frozen=True, kw_only=True)
class Curvature(Measurement):
    """The extreme and the total curvature of the loss.

    Attributes:
        top_eigenvalue: the largest eigenvalue of the Hessian.
        residual: some eigenvalue lies within this distance of it.
        trace: the trace; its `draw_standard_error` is over probe vectors, its error over data is not estimated (NaN).
        lanczos_steps: Hessian-vector products that the eigenvalue took.
        converged: whether the residual is within the tolerance asked for.
    """

    top_eigenvalue: float
    residual: float
    trace: Estimate
    lanczos_steps: int
    converged: bool


def curvature(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    *,
    probes: int = 100,
    tolerance: float = 1e-3,
    max_steps: int = 100,
    engine: str = "torch",
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> Curvature:
    """The largest eigenvalue and the trace of the Hessian of the mean loss over all samples.

    Costs one Hessian-vector product (about four passes over the batches) per probe and per Lanczos step, and the memory
    of a backward pass and about six copies of the weights. The product is taken in the weights' own precision, and of
    a compiled model as it was written: compiled code has no second derivative.

    Args:
        model: the module whose weights' Hessian is taken.
        loss: `loss(model, batch)`, as `flatness.measuring.base` describes it; twice differentiable.
        batches: the data; read once into a list where it is not a sequence.
        probes: random sign vectors for the trace; 0 skips it (NaN).
        tolerance: Lanczos stops once the residual is below this share of the eigenvalue.
        max_steps: or after so many steps; 0 skips the eigenvalue (NaN).
        engine: "torch", or "curvlinops" (`pip install flatness[curvature]`).
        parameters: which weights (`selected_parameters`).
        seed: probes, the start vector and the loss's own random numbers are functions of it.
        eval_mode: False leaves the submodules in the modes they are in. Modes and buffers are put back either way.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, or a loss or product is not finite. The weights are as before then.
        RuntimeError: within torch.inference_mode.
        ImportError: engine is "curvlinops" and it is not installed.
    """
    probes = arguments.count("probes", probes)
    max_steps = arguments.count("max_steps", max_steps)
    tolerance = arguments.number("tolerance", tolerance, above=0.0)
    arguments.choice("engine", engine, ENGINES)
    report = reporter("curvature", probes + max_steps, progress)
    with as_written(), measuring(model, loss, batches, parameters, seed, eval_mode) as (weights, losses):
        unmoved = losses()
        product = _checked(
            _torch_product(weights, losses) if engine == "torch" else _curvlinops_product(weights, losses)
        )
        traces = []
        for probe in range(probes):
            signs = [noise.sign() for noise in _random_vector(weights, derived_seed("probe", seed, probe))]
            traces.append(_dot(signs, product(signs)))
            report(probe + 1, probes + max_steps)
        start = _random_vector(weights, derived_seed("lanczos", seed))
        top, residual, steps = _lanczos(
            product, start, max_steps, tolerance, lambda step: report(probes + step, probes + max_steps)
        )
        report(probes + max_steps, probes + max_steps)
        settings = settings_of(
            "curvature",
            weights.named,
            losses,
            eval_mode,
            probes=probes,
            tolerance=tolerance,
            max_steps=max_steps,
            engine=engine,
        )
    estimates = torch.tensor(traces, dtype=torch.float64)
    return Curvature(
        loss=PairedRises(unmoved).unmoved_loss(),
        top_eigenvalue=top,
        residual=residual,
        trace=Estimate(float(estimates.mean()), standard_error(estimates), math.nan),
        lanczos_steps=steps,
        converged=residual <= tolerance * abs(top),
        settings=settings,
    )


def _random_vector(weights: SavedWeights, seed: int) -> list[Tensor]:
    """Gaussian numbers in the weights' precision, float32 at least."""
    noise = zip(GaussianNoise(weights.saved, seed), weights.saved, strict=True)
    return [along.to(at_least_float32(weight.dtype)) for along, weight in noise]


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    wide = [
        (a.to(widest(a.device)).flatten(), b.to(widest(b.device)).flatten()) for a, b in zip(left, right, strict=True)
    ]
    return math.fsum(float(torch.dot(a, b)) for a, b in wide)


def _checked(product: Product) -> Product:
    def checked(vector: list[Tensor]) -> list[Tensor]:
        found = product(vector)
        if not all(bool(part.isfinite().all()) for part in found):
            raise ValueError("a Hessian-vector product of loss is not finite; allowed: finite second derivatives")
        return found

    return checked


def _lanczos(
    product: Product, start: list[Tensor], max_steps: int, tolerance: float, report: Callable[[int], None]
) -> tuple[float, float, int]:
    """The largest Ritz value, its residual |beta_k s_k| (s_k: the last entry of its vector), and the steps made."""
    norm = direction_norm(start)
    vector = [part / norm for part in start]
    before = [torch.zeros_like(part) for part in vector]
    diagonal: list[float] = []
    beside: list[float] = []
    top, residual = math.nan, math.nan
    for step in range(1, max_steps + 1):
        image = [part.to(along.dtype) for part, along in zip(product(vector), vector, strict=True)]
        diagonal.append(_dot(vector, image))
        last = beside[-1] if beside else 0.0
        for part, along, back in zip(image, vector, before, strict=True):
            part.sub_(along, alpha=diagonal[-1]).sub_(back, alpha=last)
        beside.append(direction_norm(image))
        values, vectors = torch.linalg.eigh(_tridiagonal(diagonal, beside[:-1]))
        top, residual = float(values[-1]), beside[-1] * abs(float(vectors[-1, -1]))
        report(step)
        scale = float(values.abs().max())
        # the second condition: what is left is rounding, an invariant subspace is found
        if residual <= tolerance * abs(top) or beside[-1] <= 1e-7 * scale:
            break
        before, vector = vector, [part.div_(beside[-1]) for part in image]
    return top, residual, len(diagonal)


def _tridiagonal(diagonal: Sequence[float], beside: Sequence[float]) -> Tensor:
    off = torch.tensor(beside, dtype=torch.float64)
    return torch.diag(torch.tensor(diagonal, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)


def _torch_product(weights: SavedWeights, losses: Losses) -> Product:
    """Hessian-vector products by differentiating the gradient's inner product with the vector."""

    leaves = Leaves(weights.live, losses.model)

    def product(vector: list[Tensor]) -> list[Tensor]:
        found = [torch.zeros_like(part) for part in vector]
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
                leaves.gather(torch.autograd.grad(total, leaves.every, allow_unused=True), found)
        losses.put_back_buffers()
        return [part.div_(losses.samples or 1) for part in found]

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


def _curvlinops_product(weights: SavedWeights, losses: Losses) -> Product:
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
        found = [torch.zeros_like(part) for part in vector]
        leaves.gather(parts, found)
        return found

    return product
