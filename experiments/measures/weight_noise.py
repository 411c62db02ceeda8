"""Measures of the loss where weights move: noise, directions, rounding; and the last layer, where theory predicts it.

All stand on the same held-out images, timesteps and noise, and move weights along the same random numbers in every
row. Values are `flatness` estimates: a value with its standard error over draws and over images.

SAM's dose, rho E|grad L_B| / L, is made of the gradient of the training loss over batches as in training
(`batch_gradients`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import flatness
from experiments.configuration import Configuration
from experiments.data import Batches, Images, to_float
from experiments.diffusion.process import Process
from experiments.diffusion.timesteps import UniformTimesteps
from experiments.measures.subject import Subject
from experiments.training.randomness import drawn
from findings.estimates import significant
from flatness.measuring.base import plain, standard_error, stored
from flatness.weights import derived_seed

DIGITS = 7
"""Significant digits of losses image by image: float32 holds no more."""


def rounded(values: Iterable[float]) -> list[float]:
    """Losses, or what is computed from them, as results hold them."""
    return [significant(value, DIGITS) for value in values]


def held_out_loss(subject: Subject) -> dict[str, Any]:
    """Loss, mean squared error and the variance's term, with standard errors over images.

    The objective is kept image by image too, so that rows can be compared in pairs.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    with torch.no_grad():
        parts = [subject.losses(subject.network, batch) for batch in subject.batches]
    result: dict[str, Any] = {"images": sum(len(part.loss) for part in parts)}
    columns = {
        name: torch.cat([getattr(part, name).double().cpu() for part in parts]) for name in ("loss", "mse", "vb")
    }
    for name, values in columns.items():
        if not bool(values.isfinite().all()):
            raise FloatingPointError(f"{name} is not finite for {int((~values.isfinite()).sum())} images")
        result[name] = {"value": float(values.mean()), "standard_error": standard_error(values)}
    objective = columns["mse" if subject.options.objective == "mse" else "loss"]
    result["by_image"] = rounded(objective.tolist())
    return dict(plain(result))


def low_pass(scale: str) -> Callable[[Subject], dict[str, Any]]:
    """LPF and its rise (Bisla et al., 2022) under noise of one scale on all weights."""

    def run(subject: Subject) -> dict[str, Any]:
        options = subject.options
        sigma = options.sigma if scale == "absolute" else options.relative_sigma
        return stored(subject.measured(flatness.low_pass_filter, sigma=sigma, draws=options.lpf_draws, scale=scale))

    return run


def random_curve(subject: Subject) -> dict[str, Any]:
    """The loss against the distance from the weights along random directions (Cha et al., 2021).

    Their seed is not the low-pass filter's, along whose draws the curve would otherwise run once more.
    """
    options = subject.options
    weights = sum(parameter.numel() for parameter in subject.network.parameters())
    distances = [rms * math.sqrt(weights) for rms in options.curve_rms]
    seed = derived_seed("curve", options.seed)
    curve = subject.measured(flatness.perturbation_curve, distances, draws=options.curve_draws, seed=seed)
    return stored(curve) | {"rms": list(options.curve_rms)}


def gradient_curve(subject: Subject) -> dict[str, Any]:
    """The same along the gradient: what SAM makes small at distance rho."""
    return stored(
        subject.measured(
            flatness.perturbation_curve,
            subject.options.gradient_distances,
            directions="gradient",
            gradient_batches=subject.gradient_batches,
        )
    )


def surface(subject: Subject) -> dict[str, Any]:
    """The loss on a square through the weights, along two filter-normalised random directions (Li et al., 2018)."""
    options = subject.options
    half = options.surface_points // 2
    line = [options.surface_extent * (index - half) / max(half, 1) for index in range(options.surface_points)]
    return stored(subject.measured(flatness.loss_surface, line, line))


def rounding(bits: int) -> Callable[[Subject], dict[str, Any]]:
    """The rise of the loss when all weights are rounded: per tensor, symmetric, to the nearest."""

    return lambda subject: stored(subject.measured(flatness.quantization_rise, bits))


def last_layer(subject: Subject) -> dict[str, Any]:
    """The last layer as theta of the random-feature model: feature energy, and rises predicted from it and measured.

    The loss is the squared error, to which the closed forms of `flatness.readout` apply: under noise they are exact in
    the mean over draws; rounding they predict as uniform dither of one step, on average over weights.
    """
    options, network, loss, batches = subject.options, subject.network, subject.squared_error, subject.batches
    readout = flatness.readout(network, loss, batches, seed=options.seed)
    names = dict(network.named_parameters())
    weight = f"{readout.layer}.weight".lstrip(".")
    own = [name for name in (weight, f"{readout.layer}.bias".lstrip(".")) if name in names]

    def under_noise(sigma: float, scale: str, parameters: list[str]) -> Any:
        return flatness.low_pass_filter(
            network, loss, batches, sigma=sigma, scale=scale, draws=options.readout_draws, parameters=parameters,
            seed=options.seed,
        ).rise  # fmt: skip

    rises = {
        "lpf-absolute": {
            "predicted": readout.noise_rise(options.sigma, bias=len(own) > 1),
            "measured": under_noise(options.sigma, "absolute", own),
        },
        "lpf-layer": {
            "predicted": readout.noise_rise(options.relative_sigma, scale="layer"),
            "measured": under_noise(options.relative_sigma, "layer", [weight]),
        },
    }
    for bits in options.rise_bits:
        measured = flatness.quantization_rise(network, loss, batches, bits, parameters=[weight])
        rises[f"quantization-{bits}"] = {"predicted": readout.quantization_rise(bits), "measured": measured.rise}
    return stored(readout) | {"rises": plain(rises), "weights": _norms(names)}


def _norms(parameters: Mapping[str, Tensor]) -> dict[str, Any]:
    """How many weights there are, and their L2 norm."""
    norms = [float(torch.linalg.vector_norm(p.detach().double())) for p in parameters.values()]
    return {"count": sum(p.numel() for p in parameters.values()), "norm": math.hypot(*norms)}


BATCHES = 16
"""How many batches a row's gradient is measured over: a standard error of some hundredths of the mean."""


def trained_on(training: Images, configuration: Configuration) -> Images:
    """The images that a run was trained on: all, or those that it drew."""
    count = configuration.training_images
    return training if count is None else training.drawn(count, configuration.seed)


def batch_gradients(
    network: nn.Module,
    process: Process,
    configuration: Configuration,
    training: Images,
    *,
    batches: int,
    seed: int,
    most: int,
) -> dict[str, Any]:
    """The mean norm of the training loss's gradient over batches, and the loss itself, each with its standard error.

    Batches are of the run's own size, of the images that it was trained on, flipped and noised as in training, with
    uniform timesteps; the loss is the one that is trained. The network is copied, so its gradients stay as they are.

    Args:
        network: in evaluation mode, on its device.
        process: that it was trained in.
        configuration: of the run.
        training: the images that runs are trained on, or draw their own from.
        batches: how many.
        seed: of images, timesteps and noise.
        most: images in one backward pass; changes results by rounding only.
    """
    device, c = next(network.parameters()).device, configuration
    stream = Batches(trained_on(training, c), c.global_batch, seed, c.flip)
    uniform = UniformTimesteps(len(process))
    moving = copy.deepcopy(network).requires_grad_(True)
    parameters = list(moving.parameters())
    norms, of_batches = [], []
    for number in range(batches):
        x_0 = to_float(stream.batch(number)).to(device)
        draws = drawn(uniform, tuple(x_0.shape), 0.0, device, seed, number)
        t = draws.t.to(device)
        x_t = process.q_sample(x_0, t, draws.noise)
        total = torch.zeros((), dtype=torch.float64, device=device)
        sums: list[Tensor] | None = None
        for part in torch.arange(len(x_0), device=device).split(most):
            output = moving(x_t[part], process.network_timesteps(t[part]))
            loss = process.losses(output, x_0[part], x_t[part], t[part], draws.noise[part]).loss.sum() / len(x_0)
            gradients = torch.autograd.grad(loss, parameters)
            sums = list(gradients) if sums is None else [a + b for a, b in zip(sums, gradients, strict=True)]
            total += loss.detach().double()
        assert sums is not None
        norms.append(torch.stack([g.double().square().sum() for g in sums]).sum().sqrt().cpu())
        of_batches.append(total.cpu())
    result: dict[str, Any] = {}
    for name, values in (("norm", torch.stack(norms)), ("loss", torch.stack(of_batches))):
        result[name] = {"value": float(values.mean()), "standard_error": standard_error(values)}
    return result | {"batch": c.global_batch, "batches": batches, "split": training.split}
