"""Input perturbation (DDPM-IP, Ning et al. 2023): a diffusion model trained on inputs that are slightly off.

The input of time t is built with epsilon + gamma xi, the target stays epsilon:

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) (epsilon + gamma xi),    xi ~ N(0, I),

so that training sees the errors that sampling makes. The published strength is gamma = 0.1.

    noise = torch.randn(x_0.shape, generator=generator)
    x_t = alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * perturbed_noise(noise, 0.1, generator)
    loss = ((model(x_t, t) - noise) ** 2).mean()
"""

from __future__ import annotations

import torch
from torch import Tensor

from flatness import arguments


def perturbed_noise(noise: Tensor, gamma: float, generator: torch.Generator | None = None) -> Tensor:
    """epsilon + gamma xi, with which x_t is built; the noise itself, the target, is left as it is.

    Args:
        noise: epsilon, of any shape, of a real floating-point type.
        gamma: the strength, at least 0. At 0 the noise itself is returned and no number is drawn.
        generator: where xi is drawn from, on the noise's device; None for torch's default generator.

    Returns:
        A tensor of the noise's shape, dtype and device.

    Raises:
        ValueError: an argument outside of what is allowed.
    """
    noise = arguments.floating_tensor("noise", noise)
    gamma = arguments.number("gamma", gamma, at_least=0)
    if generator is not None:
        arguments.instance("generator", generator, torch.Generator)
        if generator.device.type != noise.device.type:
            raise ValueError(f"generator is on {generator.device}; allowed: the device of the noise, {noise.device}")
    if gamma == 0:
        return noise
    xi = torch.randn(noise.shape, generator=generator, dtype=noise.dtype, device=noise.device)
    return torch.add(noise, xi, alpha=gamma)
