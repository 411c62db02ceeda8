"""The top eigenvalue and the trace of the loss's Hessian, from Hessian-vector products.

The eigenvalue comes from Lanczos' recurrence, whose residual bounds the distance to an eigenvalue; the trace is
Hutchinson's estimator. How products are taken stands in `flatness.measuring.derivatives`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.measuring.base import (
    Estimate,
    Loss,
    Measurement,
    PairedRises,
    measuring,
    settings_of,
    standard_error,
)
from flatness.measuring.derivatives import (
    ENGINES,
    Product,
    dot,
    hessian_product,
    lanczos_steps,
    probe_vector,
    random_vector,
    tridiagonal,
)
from flatness.modules import as_written
from flatness.progress import Progress, reporter
from flatness.weights import Selection, derived_seed


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
        product = hessian_product(engine, weights, losses)
        traces = []
        for probe in range(probes):
            signs = probe_vector(weights, seed, probe)
            traces.append(dot(signs, product(signs)))
            report(probe + 1, probes + max_steps)
        start = random_vector(weights, derived_seed("lanczos", seed))
        top, residual, steps = _largest(
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


def _largest(
    product: Product, start: Sequence[Tensor], max_steps: int, tolerance: float, report: Callable[[int], None]
) -> tuple[float, float, int]:
    """The largest Ritz value, its residual |beta_k s_k| (s_k: the last entry of its vector), and the steps made."""
    top, residual, steps = math.nan, math.nan, 0
    for diagonal, beside in lanczos_steps(product, start, max_steps):
        values, vectors = torch.linalg.eigh(tridiagonal(diagonal, beside[:-1]))
        top, residual = float(values[-1]), beside[-1] * abs(float(vectors[-1, -1]))
        steps = len(diagonal)
        report(steps)
        if residual <= tolerance * abs(top):
            break
    return top, residual, steps
