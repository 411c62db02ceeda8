"""Exact answers for theta while the features stay as they are: the minimiser, and the flatness around it.

The loss is a quadratic in theta with Hessian (2/d) M kron I_d, M = G / m^2, whatever theta is, so the rise under noise
on theta is the same at every theta (Theorem T3). Losses are means over the d coordinates; the theory's, which are sums,
are d times as large.

    noise of deviation sigma     rise sigma^2 tr M                                             (T3)
    dither of step q             rise (q^2 / 12) tr M                                          (T5)
    worst of rounding, q / 2     rise <= (q^2 / 4) m lambda_max(M)                             (T5)
    flat radius                  Delta_kappa = sqrt(d kappa / lambda_max(M)), Frobenius        (T3)
    gap radius                   E_kappa, of kappa alone; p standard normal, one noise level   (T4)

The first three are rises at any theta; the third and the flat radius take theta at a minimum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flatness import arguments
from flatness.measuring.quantization import Grid, step_size
from tests.toy.moments import CHUNK, Moments
from theory.model import perturbations
from toy.data import GaussianMixture, generator_of
from toy.measures import RESOLVED
from toy.process import Process


@dataclass(frozen=True, eq=False)
class Minimiser:
    """The theta of least norm at which the expected loss is least.

    Attributes:
        theta: (d, m).
        loss: the expected loss there.
        condition_number: the largest over the smallest eigenvalue of M; infinite where M is singular to rounding.
        rank: eigenvalues above RESOLVED times the largest; directions of the others are left at 0.
        gradient_norm: the Frobenius norm of the gradient there: rounding, and the directions left out.
    """

    theta: Float[Tensor, "d m"]
    loss: float
    condition_number: float
    rank: int
    gradient_norm: float


def minimiser(moments: Moments) -> Minimiser:
    """theta* = C M^+, by the eigenvalues of M.

    Raises:
        ValueError: M is zero.
    """
    eigenvalues, vectors = torch.linalg.eigh(moments.second)
    largest = float(eigenvalues[-1])
    if not largest > 0:
        raise ValueError("moments.second is zero; allowed: features that are not all zero")
    resolved = eigenvalues > RESOLVED * largest
    inverse = torch.where(resolved, 1.0 / eigenvalues, 0.0)
    theta = (moments.cross @ vectors * inverse) @ vectors.T
    condition = largest / float(eigenvalues[0]) if bool(resolved.all()) else float("inf")
    gradient = float(torch.linalg.matrix_norm(moments.gradient(theta)))
    return Minimiser(theta, moments.loss(theta), condition, int(resolved.sum()), gradient)


def hessian_spectrum(moments: Moments) -> Float[Tensor, " m"]:
    """The Hessian's eigenvalues in theta, ascending; each is d-fold."""
    return 2.0 / moments.dimension * torch.linalg.eigvalsh(moments.second)


def noise_rise(moments: Moments, sigma: float) -> float:
    """The rise under independent noise of deviation sigma on every entry of theta: the low-pass filter's rise.

    Raises:
        ValueError: a negative sigma.
    """
    return arguments.number("sigma", sigma, at_least=0) ** 2 * float(moments.second.trace())


def relative_noise_rise(moments: Moments, theta: Float[Tensor, "d m"], sigma: float) -> float:
    """`noise_rise` with sigma in units of theta's root mean square, which one factor for the layer leaves (T7).

    Raises:
        ValueError: another shape, a negative sigma.
    """
    return noise_rise(moments, sigma) * float(moments.checked(theta).square().mean())


def _largest_step(theta: Tensor, grid: Grid) -> Tensor:
    """The grid's step for each row of theta, (d,), or the one step, ()."""
    if grid.granularity == "channel":
        return step_size(theta.amin(1), theta.amax(1), grid.bits, grid.scheme)
    return step_size(theta.min(), theta.max(), grid.bits, grid.scheme)


def quantization_rise(moments: Moments, theta: Float[Tensor, "d m"], grid: Grid) -> float:
    """The rise under uniform dither of one step of the grid; for rounding a minimum to the nearest, the mean (T5).

    Raises:
        ValueError: another shape.
    """
    steps = _largest_step(moments.checked(theta), arguments.instance("grid", grid, Grid))
    return float(steps.square().mean()) / 12.0 * float(moments.second.trace())


def worst_quantization_rise(moments: Moments, theta: Float[Tensor, "d m"], grid: Grid) -> float:
    """A bound on the rise at a minimum under any rounding by at most half a step of the grid (T5).

    Raises:
        ValueError: another shape.
    """
    steps = _largest_step(moments.checked(theta), arguments.instance("grid", grid, Grid))
    m = moments.second.shape[0]
    return float(steps.square().mean()) / 4.0 * m * float(torch.linalg.eigvalsh(moments.second)[-1])


def flat_radius(moments: Moments, kappa: float) -> float:
    """Delta_kappa: how far theta may move (Frobenius) from a minimum before the loss rises by kappa.

    Raises:
        ValueError: a negative kappa.
    """
    m = moments.second.shape[0]
    in_units_of_m = perturbations.flat_radius(moments.G.numpy(), moments.dimension * kappa)
    return in_units_of_m * moments.divisor / m


def gap_radius(moments: Moments, kappa: float, divergence: str = "kl") -> float:
    """E_kappa: the least divergence at which the mean loss of the standard normal model rises by kappa (T4).

    Of the moments it takes the dimension alone: the radius is the same however flat the minimum is.

    Raises:
        ValueError: a negative kappa, an unknown divergence.
    """
    return perturbations.gap_radius(moments.dimension * kappa, divergence)


def least_loss(data: GaussianMixture, process: Process, number: int = 2**17, seed: int = 0) -> tuple[float, float]:
    """The loss of the exact noise prediction, which no model goes below, and its standard error.

    Estimated on points with times spread evenly over the T steps, from E||E[epsilon | x_t]||^2, as
    1 - E||E[epsilon | x_t]||^2 / d.

    Raises:
        ValueError: fewer than two points.
    """
    number = arguments.count("number", number, at_least=2)
    generator = generator_of("least_loss", arguments.count("seed", seed))
    every = torch.arange(number) * process.steps // number
    parts: list[Tensor] = []
    for t in every.split(CHUNK):
        x_0 = data.sample(len(t), generator)
        x = process.noisy(x_0, t, torch.randn(x_0.shape, generator=generator, dtype=torch.float64))
        parts.append(1.0 - data.optimal_noise(x, process.alphas_cumprod[t]).square().mean(-1))
    losses = torch.cat(parts)
    return float(losses.mean()), float(losses.std()) / number**0.5
