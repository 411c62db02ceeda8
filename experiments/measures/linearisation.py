"""The network at a fixed t and a point as the random-feature model of Eq. (9) with a linear activation.

phi(x_t) in R^M is all that the last layer reads: channels x positions, flat. With x_t = sqrt(alpha_bar) x_0 +
s eps, s = sqrt(1 - alpha_bar), x_0 held fixed and eps ~ N(0, I) in R^d, the features are, to first order about the
point's own noise eps*,

    phi = W^T eps + b,      W^T = s dphi/dx_t (M, d),      b = phi* - W^T eps*,

and the predicted noise is K phi + bias, K (d, M) the last layer written as a matrix. So theta / m = K, up to the sign
of the score, and a perturbation delta of theta is one of K by delta / m: |delta|_F = m |K_delta|_F. What the theory
says does not depend on m then: only eta = Delta / m = |K_delta|_F enters. Losses are sums over the d coordinates.

A convolution's K repeats its kernel at each of the L output positions: a kernel's perturbation of norm r is one of K of
norm sqrt(L) r, but for taps that fall on padding. Two flat radii for a rise of kappa are therefore told apart:

    dense       sqrt(kappa / lambda_max(W^T W + b b^T)) in K: any matrix, the linearised features' own second moment
                under N(0, I); exact for the linearised model (Theorem T3), about this point.
    kernel      sqrt(kappa / (L lambda_max(E patch patch^T))) in the kernel, over real images at this t, as
                `flatness.readout` computes it; sqrt(L) times as large in K. Exact where the weights are a minimum.

Of W and b the theory's numbers need W's singular values and b's coordinates in the right singular vectors, and the
length of what is left of b: they are stored, and are the same for every rotation of the features.

Costs d + 2 passes of one image in float64 for a point; the kernel's radius, one pass over the images and two more over
a batch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

import flatness
from experiments.measures.noise_tolerance import batches_at
from experiments.measures.subject import HeldOutBatch, Subject
from experiments.measures.weight_noise import rounded
from flatness import arguments
from flatness.weights import derived_seed, widest

STEP = 1e-6
"""Of forward differences in float64: they err by STEP times the curvature, and by 1e-16 / STEP."""
SINGLE_STEP = 1e-2
"""The same where there is no float64."""


class _Features:
    """What the last layer reads, from inside a pass."""

    def __init__(self) -> None:
        self.x: Tensor | None = None

    def __call__(self, layer: nn.Module, args: Any) -> None:
        self.x = args[0]

    def flat(self) -> Tensor:
        """(n, M)."""
        assert self.x is not None
        return self.x.flatten(1)


@contextmanager
def _reading(network: nn.Module, layer: str) -> Iterator[_Features]:
    features = _Features()
    hook = network.get_submodule(layer).register_forward_pre_hook(features)
    try:
        yield features
    finally:
        hook.remove()


@torch.no_grad()
def features_at(network: nn.Module, layer: str, x: Tensor, t: Tensor, batch_size: int) -> Tensor:
    """What the layer reads at x_t (n, C, H, W) and the network's timesteps t (n,): (n, M)."""
    blocks = []
    with _reading(network, layer) as features:
        for part, at in zip(x.split(batch_size), t.split(batch_size), strict=True):
            network(part, at)
            blocks.append(features.flat())
    return torch.cat(blocks)


def jacobian(
    network: nn.Module, layer: str, x: Tensor, t: Tensor, batch_size: int, step: float
) -> tuple[Tensor, Tensor]:
    """The features (M,) at one point x (1, C, H, W), and their derivatives by each of its d coordinates, (d, M)."""
    d = x.numel()
    base = features_at(network, layer, x, t, 1)[0]
    rows = []
    for places in torch.arange(d, device=x.device).split(batch_size):
        moved = x.flatten().repeat(len(places), 1)
        moved[torch.arange(len(places), device=x.device), places] += step
        there = features_at(network, layer, moved.view(-1, *x.shape[1:]), t.expand(len(places)), batch_size)
        rows.append((there - base) / step)
    return base, torch.cat(rows)


def reduced(W: Tensor, b: Tensor) -> dict[str, Any]:
    """W (d, M) and b (M,) up to rotations of both spaces.

    Returns:
        singular_values: (min(d, M),) of W, falling; bias: b's coordinates in the right singular vectors, and then the
        length of what is left of it.
    """
    _, singular, right = torch.linalg.svd(W, full_matrices=False)
    coordinates = right @ b
    left = (b - right.T @ coordinates).norm()
    return {"singular_values": rounded(singular.tolist()), "bias": rounded([*coordinates.tolist(), float(left)])}


def measured_linearisation(subject: Subject, t: int, count: int, points: int) -> dict[str, Any]:
    """The linearised model about some points, and the kernel's curvature over the images, at step t.

    Args:
        subject: the network and its images.
        t: the process's step.
        count: images of the kernel's curvature.
        points: images about which features are linearised, the first of the former.

    Returns:
        layer, positions L, features M, kernel_norm, kernel_curvature: L lambda_max(E patch patch^T), which times the
        squared norm of the kernel's perturbation bounds the rise of the summed loss; and for each point
        singular_values, bias and linearisation_error: |phi(eps') - linear|^2 / |phi(eps') - phi(eps*)|^2 for another
        draw eps' of the noise.

    Raises:
        ValueError: an argument is not allowed, or the network has no last layer.
    """
    points = arguments.count("points", points, at_least=1)
    batches = batches_at(subject, t, count)
    readout = flatness.readout(subject.network, subject.squared_error, batches, seed=subject.options.seed)
    precision = widest(subject.device)
    network = copy.deepcopy(subject.network).to(precision)
    whole = HeldOutBatch(*(torch.cat(parts).to(precision) for parts in zip(*batches, strict=True)))
    if points > len(whole.t):
        raise arguments.refuse("points", points, f"at most the {len(whole.t)} images")
    linearised = [_point(subject, network, readout.layer, whole, place, t) for place in range(points)]
    return {
        "t": t,
        "layer": readout.layer,
        "positions": readout.positions,
        "kernel_norm": readout.weight_norm,
        "kernel_curvature": readout.largest_feature_moment * readout.positions,
        "points": linearised,
    }


def _point(subject: Subject, network: nn.Module, layer: str, whole: HeldOutBatch, place: int, t: int) -> dict[str, Any]:
    """About one of the images; its other draw of noise is a function of the seed, of t and of its place."""
    x_0, x_t, noise = (tensor[place : place + 1] for tensor in (whole.x_0, whole.x_t, whole.noise))
    steps = torch.full((1,), t, device=x_t.device)
    timesteps = subject.process.network_timesteps(steps)
    step = STEP if x_t.dtype == torch.float64 else SINGLE_STEP
    base, by_pixel = jacobian(network, layer, x_t, timesteps, subject.batch_size, step)
    W = float(subject.process.at(steps, x_t).noise) * by_pixel
    draw = torch.Generator().manual_seed(derived_seed("linearisation", subject.options.seed, t, place))
    other = torch.randn(noise.shape, generator=draw).to(noise)
    moved = features_at(network, layer, subject.process.q_sample(x_0, steps, other), timesteps, 1)[0]
    straight = base + (other - noise).flatten() @ W
    error = float((moved - straight).square().sum() / (moved - base).square().sum())
    return reduced(W, base - noise.flatten() @ W) | {"features": len(base), "linearisation_error": error}
