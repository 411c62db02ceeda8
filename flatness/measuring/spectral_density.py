"""The density of the Hessian's eigenvalues, by stochastic Lanczos quadrature (Ubaru, Chen and Saad, 2017).

For a unit vector v of random signs over sqrt(n), the mean of v^T f(H) v is the mean of f over H's n eigenvalues. Of
Lanczos' tridiagonal matrix from v, eigenvalues theta_i are nodes and squared first entries of its eigenvectors weights
w_i, with which sum_i w_i f(theta_i) is v^T f(H) v exactly for polynomials f of degree below twice the steps. A density
with bumps of a width for points (Ghorbani, Krishnan and Xiao, 2019) is f(lambda) = N(t; lambda, width^2).

The steps are those of `flatness.measuring.derivatives`, without stored vectors.
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
from flatness.measuring.derivatives import ENGINES, hessian_product, lanczos_steps, probe_vector, tridiagonal
from flatness.modules import as_written
from flatness.progress import Progress, reporter
from flatness.weights import Selection

WIDTHS = 50
"""Bumps of the default width that the range of the nodes holds."""


@dataclass(frozen=True, kw_only=True)
class SpectralDensity(Measurement):
    """The eigenvalues' distribution as nodes with weights, a row for each probe vector.

    Errors are over probe vectors (`draw_standard_error`); over data they are not estimated (NaN).

    Attributes:
        nodes: eigenvalues of the tridiagonal matrices, rising.
        weights: of the nodes, the same lengths; each row sums to 1.
        dimension: n, the number of eigenvalues: of the selected weights.
    """

    nodes: tuple[tuple[float, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    dimension: int

    @property
    def smallest(self) -> float:
        """The smallest node: no smaller than the smallest eigenvalue, but for rounding."""
        return min(row[0] for row in self.nodes)

    @property
    def largest(self) -> float:
        """The largest node: no larger than the largest eigenvalue, but for rounding."""
        return max(row[-1] for row in self.nodes)

    def mean_of(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        """The mean of a function over the eigenvalues; times `dimension`, the sum.

        Args:
            function: of a tensor of eigenvalues, float64, elementwise.
        """
        rows = [
            (torch.tensor(nodes, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64))
            for nodes, weights in zip(self.nodes, self.weights, strict=True)
        ]
        every = torch.tensor([float(weights @ function(nodes)) for nodes, weights in rows], dtype=torch.float64)
        return Estimate(float(every.mean()), standard_error(every), math.nan)

    @property
    def trace(self) -> Estimate:
        """The sum of the eigenvalues: `flatness.curvature`'s trace by as many probes, but for rounding."""
        return self._sum(lambda values: values)

    @property
    def negative(self) -> Estimate:
        """The sum of the negative eigenvalues."""
        return self._sum(lambda values: values.clamp(max=0.0))

    @property
    def squares(self) -> Estimate:
        """The sum of the squared eigenvalues: of the Hessian's squared entries."""
        return self._sum(lambda values: values.square())

    def _sum(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        mean = self.mean_of(function)
        return Estimate(self.dimension * mean.value, self.dimension * mean.draw_standard_error, math.nan)

    def default_width(self) -> float:
        """A fiftieth of the range of the nodes; 1 where they are one."""
        return (self.largest - self.smallest) / WIDTHS or 1.0

    def grid(self, points: int = 200, width: float | None = None) -> tuple[float, ...]:
        """Places where the density is drawn: all nodes and three widths beside them.

        Raises:
            ValueError: an argument is not a count of at least 2, or a width above 0.
        """
        points = arguments.count("points", points, at_least=2)
        margin = 3 * (self.default_width() if width is None else arguments.number("width", width, above=0.0))
        low, high = self.smallest - margin, self.largest + margin
        return tuple(low + (high - low) * index / (points - 1) for index in range(points))

    def density(self, at: Sequence[float], width: float | None = None) -> tuple[Estimate, ...]:
        """The share of the eigenvalues per unit of eigenvalue, each a bump of a width.

        Args:
            at: eigenvalues where it is taken.
            width: the standard deviation of a bump; `default_width` by default.

        Raises:
            ValueError: width is not above 0, or a place is no number.
        """
        wide = self.default_width() if width is None else arguments.number("width", width, above=0.0)
        scale = 1.0 / (wide * math.sqrt(2 * math.pi))

        def bump(place: float) -> Callable[[Tensor], Tensor]:
            return lambda values: scale * torch.exp(-0.5 * ((values - place) / wide).square())

        return tuple(self.mean_of(bump(arguments.number("at", place))) for place in at)


def spectral_density(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    *,
    probes: int = 10,
    steps: int = 30,
    engine: str = "torch",
    parameters: Selection = None,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> SpectralDensity:
    """The distribution of the eigenvalues of the Hessian of the mean loss over all samples.

    Costs probes times steps Hessian-vector products, each about four passes over the batches, and the memory of a
    backward pass and about six copies of the weights.

    Args:
        model: the module whose weights' Hessian is taken.
        loss: `loss(model, batch)`, as `flatness.measuring.base` describes it; twice differentiable.
        batches: the data; read once into a list where it is not a sequence.
        probes: vectors of random signs, at least 1 (at least 2 for an error over them).
        steps: of Lanczos' recurrence from each, at least 1; it ends earlier where it has found all it can.
        engine: "torch", or "curvlinops" (`pip install flatness[curvature]`).
        parameters: which weights (`selected_parameters`).
        seed: probes and the loss's own random numbers are functions of it.
        eval_mode: False leaves the submodules in the modes they are in. Modes and buffers are put back either way.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, or a loss or product is not finite. The weights are as before then.
        RuntimeError: within torch.inference_mode.
        ImportError: engine is "curvlinops" and it is not installed.
    """
    probes = arguments.count("probes", probes, at_least=1)
    steps = arguments.count("steps", steps, at_least=1)
    arguments.choice("engine", engine, ENGINES)
    total = probes * steps
    report = reporter("spectral density", total, progress)
    nodes, weights_of_nodes = [], []
    with as_written(), measuring(model, loss, batches, parameters, seed, eval_mode) as (weights, losses):
        unmoved = losses()
        product = hessian_product(engine, weights, losses)
        dimension = sum(tensor.numel() for tensor in weights.live)
        for probe in range(probes):
            made: tuple[list[float], list[float]] = ([], [])
            for made in lanczos_steps(product, probe_vector(weights, seed, probe), steps):
                report(probe * steps + len(made[0]), total)
            diagonal, beside = made
            values, vectors = torch.linalg.eigh(tridiagonal(diagonal, beside[:-1]))
            nodes.append(tuple(values.tolist()))
            weights_of_nodes.append(tuple(vectors[0].square().tolist()))
        report(total, total)
        settings = settings_of(
            "spectral_density", weights.named, losses, eval_mode, probes=probes, steps=steps, engine=engine
        )
    return SpectralDensity(
        loss=PairedRises(unmoved).unmoved_loss(),
        nodes=tuple(nodes),
        weights=tuple(weights_of_nodes),
        dimension=dimension,
        settings=settings,
    )
