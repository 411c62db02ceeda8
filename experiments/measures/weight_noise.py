"""Measures of the loss where weights move: noise, directions, rounding; and the last layer, where theory predicts it.

All stand on the same held-out images, timesteps and noise, and move weights along the same random numbers in every
row. Values are `flatness` estimates: a value with its standard error over draws and over images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

import flatness
from experiments.measures.subject import Subject
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
