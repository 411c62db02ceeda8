"""How far the law of the noise may move before the loss rises: the tolerated gap of a trained network at a fixed t.

The noise is N(0, I) in training; here it is N(mu, (1 + a)^2 I), either shifted (a = 0, mu = u (1, ..., 1)) or scaled
(mu = 0). Divergences are KL(N(0, I) || N(mu, (1 + a)^2 I)) in nats over all d = pixels x channels coordinates, as the
paper's D(p || p_hat). Losses are sums over the d coordinates too, the unit of Eq. (10): d times the mean squared error.
A law (kind, sign) moves along a curve from the true one, along which the same images and the same normal numbers are
used, so that rises are paired image by image. Two losses are told apart:

    sampled     x_t is made with the moved noise, and the network is to predict that noise: what a sampler meets whose
                noise is not quite normal. In the theory's model, at the exact score, it would not rise at all.
    rescored    x_t stays, and the target becomes the moved law's score, (eps - mu) / (1 + a)^2: Definition 3.2 read
                as Theorem T4 reads it, E_p |s - grad log p_hat|^2. It is a quadratic form of the residual's moments,
                which are kept, so it can be had for every law without a pass.

The theory's s is at a minimum over a target that is a function of x. The noise is none of x_t: the residual
r = eps_hat - eps has E r.eps = -E|r|^2 at the best predictor, so the rescored loss has a linear part
-2 tau E r.eps - 2 E r.nu (tau = (1 + a)^-2 - 1, nu = -mu / (1 + a)^2) beside its quadratic part, which is the theory's
J = |A|^2 + |c|^2 with A = tau I, c = nu, whatever the network is.

Costs, in passes of one image, for N images: N (4 levels + 1) at each t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from scipy.optimize import brentq
from torch import Tensor

from experiments.measures.layers import estimate
from experiments.measures.subject import HeldOutBatch, Subject
from flatness import arguments
from flatness.weights import derived_seed

SMALLEST_SCALE, LARGEST_SCALE = -1.0 + 1e-9, 1e9
"""Between these the scale that has a divergence is looked for."""


class Law(NamedTuple):
    """A family of moved noise.

    Attributes:
        kind: "shift" or "scale".
        sign: of the shift, or of a.
    """

    kind: str
    sign: int

    @property
    def name(self) -> str:
        """shift+, shift-, scale+, scale-."""
        return self.kind + ("+" if self.sign > 0 else "-")

    def moments(self, divergence: float, dimension: int) -> tuple[float, float]:
        """u and a of the law with this divergence: every coordinate is N(u, (1 + a)^2).

        Raises:
            ValueError: the divergence is negative, or the dimension not 1 or more.
        """
        divergence = arguments.number("divergence", divergence, at_least=0.0)
        dimension = arguments.count("dimension", dimension, at_least=1)
        if self.kind == "shift":
            return self.sign * math.sqrt(2.0 * divergence / dimension), 0.0
        if divergence == 0.0:
            return 0.0, 0.0
        ends = (SMALLEST_SCALE, 0.0) if self.sign < 0 else (0.0, LARGEST_SCALE)
        return 0.0, float(brentq(lambda a: divergence_of(0.0, a, dimension) - divergence, *ends, xtol=1e-15))


LAWS = tuple(Law(kind, sign) for kind in ("shift", "scale") for sign in (1, -1))


def divergence_of(u: float, a: float, dimension: int) -> float:
    """KL(N(0, I) || N(u (1, ..., 1), (1 + a)^2 I)) in nats.

    log(1 + a) - 1/2 + (1 + u^2) / (2 (1 + a)^2) a coordinate, with what cancels near a = 0 taken together.
    """
    log_scale = math.log1p(a)
    tau = math.expm1(-2.0 * log_scale)
    return 0.5 * dimension * (tau + 2.0 * log_scale + u * u * (1.0 + tau))


def images_at(subject: Subject, t: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Held-out images x_0 (n, C, H, W), their noise, and the step t (n,): the same for every row.

    Raises:
        ValueError: t is not a step of the process.
    """
    if arguments.count("t", t) >= len(subject.process):
        raise arguments.refuse("t", t, f"a step of the process, 0 to {len(subject.process) - 1}")
    x_0 = subject.scaled_images(count, "tolerance")
    draw = torch.Generator().manual_seed(derived_seed("tolerance", subject.options.seed, t))
    noise = torch.randn(x_0.shape, generator=draw).to(x_0)
    return x_0, noise, torch.full((len(x_0),), t, device=x_0.device)


def batches_at(subject: Subject, t: int, count: int, u: float = 0.0, a: float = 0.0) -> list[HeldOutBatch]:
    """The same as batches, with noise of mean u and deviation 1 + a."""
    x_0, normal, steps = images_at(subject, t, count)
    noise = u + (1.0 + a) * normal
    whole = (x_0, subject.process.q_sample(x_0, steps, noise), noise, steps)
    return [HeldOutBatch(*parts) for parts in zip(*(tensor.split(subject.batch_size) for tensor in whole), strict=True)]


@torch.no_grad()
def residuals(subject: Subject, batches: Sequence[HeldOutBatch]) -> Tensor:
    """The predicted noise less the noise, (n, d), in float64 on the CPU.

    Raises:
        FloatingPointError: an entry is not finite.
    """
    residuals = []
    for batch in batches:
        output = subject.network(batch.x_t, subject.process.network_timesteps(batch.t))
        predicted = output[:, : batch.noise.shape[1]]  # the noise's channels come first, then the variance's
        residuals.append((predicted - batch.noise).flatten(1).double().cpu())
    together = torch.cat(residuals)
    if not bool(together.isfinite().all()):
        raise FloatingPointError("a prediction is not finite")
    return together


def measured_tolerance(subject: Subject, t: int, count: int, levels: Sequence[float]) -> dict[str, Any]:
    """The rises of the sampled loss along the four laws, and the moments that give those of the rescored one.

    Args:
        subject: the network and its images.
        t: the process's step.
        count: images.
        levels: divergences in nats, rising (`LayerOptions` checks them).

    Returns:
        t, dimension, images; loss (sum over coordinates); moments by image: r.r, r.eps, r.1, eps.eps, eps.1; and for
        each law its levels' u, a and rises by image.

    Raises:
        ValueError: an argument is not as above.
        FloatingPointError: a prediction is not finite.
    """
    batches = batches_at(subject, t, count)
    r = residuals(subject, batches)
    noise = torch.cat([batch.noise for batch in batches]).flatten(1).double().cpu()
    unmoved, dimension = r.square().sum(1), r.shape[1]
    moments = {
        "rr": unmoved,
        "re": (r * noise).sum(1),
        "r1": r.sum(1),
        "ee": noise.square().sum(1),
        "e1": noise.sum(1),
    }
    laws = {}
    for law in LAWS:
        places = [law.moments(level, dimension) for level in levels]
        rises = [
            residuals(subject, batches_at(subject, t, count, *place)).square().sum(1) - unmoved for place in places
        ]
        laws[law.name] = {
            "u": [u for u, _ in places],
            "a": [a for _, a in places],
            "rises": [estimate(rise) for rise in rises],
        }
    return {
        "t": t,
        "dimension": dimension,
        "images": len(r),
        "levels": list(levels),
        "loss": estimate(unmoved),
        "moments": {name: estimate(values)["by_image"] for name, values in moments.items()},
        "laws": laws,
    }
