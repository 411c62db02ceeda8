"""The Hessian in theta while the features stay as they are: measured, and as Theorem T3 has it.

The loss is then a quadratic in theta with Hessian (2/d) M kron I_d, M = E psi psi^T, whatever theta is.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from toy.measures import Evaluation, PerSeed
from toy.models import ScoreModels

RESOLVED = 1e-12
"""Eigenvalues below this share of the largest are rounding: float64's 2e-16 times some thousand operations."""


def in_float64(models: ScoreModels) -> ScoreModels:
    """The same weights in float64: the smallest eigenvalues are below float32's rounding of the largest."""
    return models.replaced(*(tensor.detach().double() for tensor in (models.theta, models.W, models.U)))


@torch.enable_grad()
def measured_hessian(models: ScoreModels, seed: int, points: Evaluation) -> Float[Tensor, "p p"]:
    """The Hessian in theta, p = d m entries, of one seed's mean loss on its points.

    Args:
        models: the models.
        seed: the position of the seed, among the models as among the points.
        points: where the loss is taken.

    Raises:
        ValueError: a seed from outside 0 to S - 1.
    """
    module = models.single(seed)
    theta = module.readout.weight
    loss = (module(points.x_t[seed], points.t[seed]) - points.epsilon[seed]).square().mean()
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    axes = torch.eye(theta.numel()).to(theta).view(-1, *theta.shape)
    (rows,) = torch.autograd.grad(gradient, theta, axes, is_grads_batched=True)
    return rows.flatten(1)


def closed_spectra(models: ScoreModels, points: Evaluation) -> Float[Tensor, "S p"]:
    """T3's spectra on the same points, ascending: each eigenvalue of (2/d) E psi psi^T, d times."""
    psi = models.features(points.x_t, points.t) * models.scales[points.t][..., None]
    d = models.dimension
    seconds = (one.mT @ one / psi.shape[1] for one in psi)
    return torch.stack([2.0 / d * torch.linalg.eigvalsh(second).repeat_interleave(d) for second in seconds])


def largest_relative_error(measured: Float[Tensor, " p"], closed: Float[Tensor, " p"]) -> float:
    """The largest deviation of one ascending spectrum from another, in units of the latter's eigenvalues.

    Eigenvalues below RESOLVED times the largest are rounding; they are held against that bound instead.
    """
    sizes = closed.abs()
    units = sizes.clamp(min=RESOLVED * float(sizes.max()))
    return float(((measured - closed).abs() / units).max())


def spectrum_measures(models: ScoreModels, points: Evaluation) -> dict[str, PerSeed]:
    """The largest relative error of T3's spectrum, and the least eigenvalue measured."""
    precise = in_float64(models)
    closed = closed_spectra(precise, points)
    measured = [torch.linalg.eigvalsh(measured_hessian(precise, seed, points)) for seed in range(models.seeds)]
    errors = [largest_relative_error(*both) for both in zip(measured, closed, strict=True)]
    return {
        "hessian_error": torch.tensor(errors, dtype=torch.float64),
        "hessian_least": torch.stack(measured)[:, 0],
    }
