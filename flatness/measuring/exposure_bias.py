"""Exposure bias as the drift of the predicted noise's norm (Ning et al., 2023): real noisy images against sampling.

At each step of a respaced diffusion process: the L2 norm of epsilon_theta(x_t, t) over all entries of an image, in the
mean over images; once with x_t drawn from q(x_t | x_0) of real images, once along an ordinary ancestral DDPM chain.
Were the network exact, and its reverse process too, the curves would agree. The published "gap" has no published
definition. The epsilon-norm gap of this project, wherever one number is meant, is `mean_absolute_gap`: the mean over
steps of the difference's magnitude. The signed mean, in which a step too high and one too low cancel, has a name of its
own, and the whole curve is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from flatness import arguments
from flatness.diffusion.sampling import (
    ReverseStep,
    Variance,
    ancestral_step,
    checked_clip,
    checked_variance,
    reverse_steps,
    v_is_missing,
    variance_of,
)
from flatness.measuring.base import Estimate, plain, preserved_generators, seed_generators, standard_error, undisturbed
from flatness.progress import Progress, reporter
from flatness.weights import derived_seed

EpsilonModel = Callable[[Tensor, Tensor], Tensor | tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ExposureBias:
    """The norm of the predicted noise, step by step; index 0 is the last step of sampling, with the least noise.

    Every estimate's `data_standard_error` is over images (chains); nothing is drawn over weights.

    Attributes:
        steps: numbers of the steps in the original process, ascending.
        training: the norm on real images noised by q(x_t | x_0).
        sampling: the norm along the sampling chains.
        gap: sampling less training, step by step.
        mean_absolute_gap: the epsilon-norm gap: the mean over steps of the gap's magnitude. Its error is that of the
            mean with each step's sign fixed; where the gap is within its error, the magnitude is too large by about
            that error.
        mean_signed_gap: the mean over steps of the gap, signs kept.
        largest_absolute_gap: the largest absolute value, with the error at that step.
        last_gap: the gap at the last step of sampling, `gap[0]`.
        settings: all that it was computed with.
    """

    steps: tuple[int, ...]
    training: tuple[Estimate, ...]
    sampling: tuple[Estimate, ...]
    gap: tuple[Estimate, ...]
    mean_absolute_gap: Estimate
    mean_signed_gap: Estimate
    largest_absolute_gap: Estimate
    last_gap: Estimate
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON knows them; a number that is not finite becomes None."""
        return {field.name: plain(getattr(self, field.name)) for field in fields(self)}


def exposure_bias(
    epsilon_model: EpsilonModel,
    alphas_cumprod: Tensor,
    steps: Sequence[int],
    x_0: Tensor,
    *,
    chains: int | None = None,
    variance: Variance = "small",
    clip: float | None = None,
    batch_size: int = 128,
    seed: int = 0,
    progress: Progress = None,
) -> ExposureBias:
    """The norm of the predicted noise on real noisy images and along sampling chains, and the gap between the two.

    Costs one evaluation of the network per step for each image and each chain. All chains are held at once, and noise
    is drawn for all of them together, so the result does not depend on the batch size (to rounding). A module is put
    into evaluation mode, and its modes and buffers are put back; any other callable is used as it is.

    Args:
        epsilon_model: (x, t) -> the predicted noise, of x's shape; t (n,) holds the original process's steps in int64.
            With a learned variance: a pair of the noise and of v, of x's shape.
        alphas_cumprod: (T,), within (0, 1) and not rising, of the original process; strictly decreasing over the steps.
        steps: the respaced process's steps, ascending (`respaced_steps`).
        x_0: (n, ...), real images as the network knows them, on its device.
        chains: number of sampling chains; as many as images by default.
        variance: "small" (posterior variance), "large" (beta), "learned" (log-linear between the two by (v + 1) / 2, as
            Nichol and Dhariwal, 2021), or a function of (v, step) that returns the variance.
        clip: largest magnitude of the predicted x_0 along the chain, 1 for images scaled to [-1, 1]; None leaves it.
        batch_size: images to evaluate at once.
        seed: all noise is a function of it.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, or a prediction has another shape or a norm that is not finite.
    """
    reverse = reverse_steps(alphas_cumprod, steps)
    arguments.function("epsilon_model", epsilon_model)
    if isinstance(epsilon_model, nn.Module):
        arguments.with_values("epsilon_model", epsilon_model)
    data = arguments.finite_tensor("x_0", x_0).detach()
    if data.dim() < 2:
        raise arguments.refuse("x_0", x_0, "images of shape (n, ...)")
    chains = len(data) if chains is None else arguments.count("chains", chains, at_least=1)
    variance, clip = checked_variance(variance), checked_clip(clip)
    seed = arguments.count("seed", seed)
    needs_v = variance not in ("small", "large")
    network = _Network(epsilon_model, arguments.count("batch_size", batch_size, at_least=1), data, needs_v)
    report = reporter("exposure bias", 2 * len(reverse), progress)
    with torch.no_grad(), network.undisturbed(), preserved_generators([data.device]):
        seed_generators(derived_seed("exposure", seed), [data.device])
        training = _training_norms(network, data, reverse, seed, report)
        sampling = _sampling_norms(network, (chains, *data.shape[1:]), reverse, variance, clip, seed, report)
    from flatness import __version__  # at the call: the package may still be loading when this module is

    settings = {
        "measure": "exposure_bias",
        "images": len(data),
        "chains": chains,
        "shape": list(data.shape[1:]),
        "variance": variance if isinstance(variance, str) else getattr(variance, "__qualname__", repr(variance)),
        "clip": clip,
        "seed": seed,
        "dtype": str(data.dtype),
        "device": str(data.device),
        "alphas_cumprod": [step.alpha_bar for step in reverse],
        "torch": torch.__version__,
        "flatness": __version__,
    }
    return _summary(reverse, training, sampling, settings)


class _Network:
    """The network, evaluated in batches and checked."""

    def __init__(self, function: EpsilonModel, batch_size: int, like: Tensor, needs_v: bool) -> None:
        self.function = function
        self.batch_size = batch_size
        self.like = like
        self.needs_v = needs_v

    def undisturbed(self) -> AbstractContextManager[object]:
        module = self.function
        return undisturbed(module, eval_mode=True) if isinstance(module, nn.Module) else nullcontext()

    def noise(self, shape: tuple[int, ...], *label: int | str) -> Tensor:
        """Standard normal numbers that are a function of the label."""
        generator = torch.Generator(self.like.device).manual_seed(derived_seed(*label))
        drawn = torch.randn(shape, generator=generator, device=self.like.device, dtype=torch.float32)
        return drawn.to(self.like.dtype)

    def __call__(self, x: Tensor, t: int) -> tuple[Tensor, Tensor | None]:
        """The predicted noise and, where the network gives one, v: both of x's shape."""
        parts = []
        for part in x.split(self.batch_size):
            output = self.function(part, torch.full((len(part),), t, device=part.device, dtype=torch.int64))
            pair = tuple(output) if isinstance(output, tuple | list) else (output,)
            fits = len(pair) in (1, 2) and all(arguments.has_reals(y) and y.shape == part.shape for y in pair)
            if not fits:
                shown = [(tuple(y.shape), y.dtype) if arguments.is_dense(y) else type(y).__name__ for y in pair]
                allowed = f"a tensor of real numbers of shape {tuple(part.shape)}, or two"
                raise arguments.refuse("what epsilon_model returned", shown, allowed)
            if self.needs_v and len(pair) == 1:
                raise v_is_missing()
            parts.append(pair)
        whole = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        return whole[0], whole[1] if len(whole) == 2 else None


def _norms(epsilon: Tensor, t: int, where: str) -> Tensor:
    norms = torch.linalg.vector_norm(epsilon.flatten(1).float(), dim=1).cpu().double()
    if not bool(norms.isfinite().all()):
        raise ValueError(f"epsilon_model's norm at t = {t} {where} is not finite; allowed: finite predictions")
    return norms


def _training_norms(
    network: _Network, data: Tensor, reverse: Sequence[ReverseStep], seed: int, report: Callable[[int, int], None]
) -> Tensor:
    """Norms (steps, images) on q(x_t | x_0)."""
    norms = []
    for index, step in enumerate(reverse):
        noise = network.noise(tuple(data.shape), "training", seed, index)
        noisy = step.alpha_bar**0.5 * data + (1.0 - step.alpha_bar) ** 0.5 * noise
        norms.append(_norms(network(noisy, step.t)[0], step.t, "on real images"))
        report(index + 1, 2 * len(reverse))
    return torch.stack(norms)


def _sampling_norms(
    network: _Network,
    shape: tuple[int, ...],
    reverse: Sequence[ReverseStep],
    variance: Variance,
    clip: float | None,
    seed: int,
    report: Callable[[int, int], None],
) -> Tensor:
    """Norms (steps, chains) along ancestral sampling."""
    norms: list[Tensor] = []
    x = network.noise(shape, "start", seed)
    for index in reversed(range(len(reverse))):
        step = reverse[index]
        epsilon, v = network(x, step.t)
        norms.insert(0, _norms(epsilon, step.t, "along the chain"))
        report(2 * len(reverse) - index, 2 * len(reverse))
        if index:
            noise = network.noise(shape, "chain", seed, index)
            x = ancestral_step(x, epsilon, step, variance_of(variance, v, step), noise, clip).to(noise.dtype)
    return torch.stack(norms)


def _summary(
    reverse: Sequence[ReverseStep], training: Tensor, sampling: Tensor, settings: dict[str, Any]
) -> ExposureBias:
    def estimate(norms: Tensor) -> Estimate:
        return Estimate(float(norms.mean()), 0.0, standard_error(norms))

    def difference(weights: Tensor) -> Estimate:
        """The weighted sum of the gaps over steps; images and chains are independent, the steps of one are not."""
        a, b = weights @ sampling, weights @ training
        error = (standard_error(a) ** 2 + standard_error(b) ** 2) ** 0.5
        return Estimate(float(a.mean() - b.mean()), 0.0, error)

    count = len(reverse)
    unit = torch.eye(count, dtype=torch.float64)
    gaps = sampling.mean(1) - training.mean(1)
    signs = torch.where(gaps < 0, -1.0, 1.0).double()
    largest = int(gaps.abs().argmax())
    gap = tuple(difference(unit[index]) for index in range(count))
    return ExposureBias(
        steps=tuple(step.t for step in reverse),
        training=tuple(estimate(norms) for norms in training),
        sampling=tuple(estimate(norms) for norms in sampling),
        gap=gap,
        mean_signed_gap=difference(torch.full((count,), 1.0 / count, dtype=torch.float64)),
        mean_absolute_gap=difference(signs / count),
        largest_absolute_gap=difference(signs[largest] * unit[largest]),
        last_gap=gap[0],
        settings=settings,
    )
