"""Sampling from a (respaced) process: ancestral (Ho et al., 2020, Algorithm 2) and DDIM (Song et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.diffusion.process import Process
from flatness import arguments

NoiseOf = Callable[[int, tuple[int, ...]], Tensor]


class State(NamedTuple):
    """What sampling has reached after a step.

    Attributes:
        step: the index within the process of the step just taken; the last is 0.
        x: the images after it.
        x_start: x_0 as the network predicted it at that step.
    """

    step: int
    x: Tensor
    x_start: Tensor


def sample(
    model: Callable[..., Tensor],
    process: Process,
    x_T: Tensor,
    noise_of: NoiseOf | None = None,
    *,
    eta: float | None = None,
    clip: bool = True,
    y: Tensor | None = None,
) -> Tensor:
    """Images (N, C, H, W), about within [-1, 1], from the noise x_T; arguments as `trajectory`'s."""
    final = x_T
    for state in trajectory(model, process, x_T, noise_of, eta=eta, clip=clip, y=y):
        final = state.x
    return final


def trajectory(
    model: Callable[..., Tensor],
    process: Process,
    x_T: Tensor,
    noise_of: NoiseOf | None = None,
    *,
    eta: float | None = None,
    clip: bool = True,
    y: Tensor | None = None,
) -> Iterator[State]:
    """Sample step by step, from the noisiest step to step 0, yielding the state after each.

    The noise comes from the caller, so that an image can depend on its own seed alone, however images are batched. The
    model is used in the mode it is in; put it in evaluation mode first, or dropout is on. Nothing is recorded for
    gradients.

    Args:
        model: (x, t) or, with classes, (x, t, y) -> output, t (N,) being original timesteps in int64.
        process: `Process.respaced(count)`, or a whole process.
        x_T: (N, C, H, W), standard normal.
        noise_of: (step, shape) -> standard normal numbers for that step's noise; called for every step but 0. May be
            None for DDIM with eta 0, which draws none.
        eta: None for ancestral sampling with the process's variance; a number for DDIM, with 0 deterministic and 1 as
            noisy as DDPM's posterior (Song et al., 2021, Eq. 16).
        clip: clamp each predicted x_0 to [-1, 1].
        y: classes (N,) of a class-conditional model.

    Raises:
        ValueError: an argument is not as above (at the first step), or noise_of returned another shape.
    """
    arguments.function("model", model)
    arguments.instance("process", process, Process)
    arguments.floating_tensor("x_T", x_T)
    arguments.flag("clip", clip)
    eta = None if eta is None else arguments.number("eta", eta, at_least=0.0, at_most=1.0)
    if noise_of is None and eta != 0.0:
        raise arguments.refuse("noise_of", noise_of, "a function of (step, shape), as only DDIM with eta 0 needs none")
    x = x_T
    for step in reversed(range(len(process))):
        # Not around the yield: a caller's own code would run without gradients.
        with torch.no_grad():
            t = torch.full((len(x),), step, device=x.device)
            at = torch.full((len(x),), process.timesteps[step], device=x.device)
            output = model(x, at) if y is None else model(x, at, y)
            if eta is None:
                reverse = process.p_mean_variance(output, x, t, clip)
                mean, x_start, scale = reverse.mean, reverse.x_start, torch.exp(0.5 * reverse.log_variance)
            else:
                mean, x_start, scale = _ddim(process, output, x, t, clip, eta)
            noisy = step > 0 and eta != 0.0
            x = mean + scale * _noise(noise_of, step, x) if noisy and noise_of is not None else mean
        yield State(step, x, x_start)


def _noise(noise_of: NoiseOf, step: int, x: Tensor) -> Tensor:
    noise = noise_of(step, tuple(x.shape))
    if not isinstance(noise, Tensor) or noise.shape != x.shape:
        raise arguments.refuse("what noise_of returned", noise, f"a tensor of shape {tuple(x.shape)}")
    return noise.to(x.device, x.dtype)


def _ddim(
    process: Process, output: Tensor, x: Tensor, t: Tensor, clip: bool, eta: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, predicted x_0 and standard deviation of a DDIM step (Song et al., 2021, Eqs. 12 and 16)."""
    c = process.at(t, x)
    x_start = process.p_mean_variance(output, x, t, clip).x_start
    # The noise that leads from the (clipped) x_0 to x, not the one predicted.
    epsilon = (c.recip_signal * x - x_start) / c.recip_noise
    variance = eta**2 * c.posterior_variance
    direction = (c.previous_noise_variance - variance).clamp(min=0.0).sqrt()
    return c.previous_signal * x_start + direction * epsilon, x_start, variance.sqrt()
