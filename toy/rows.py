"""All measures of one row of the study, and what figures need of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from toy import measures
from toy.data import GaussianMixture
from toy.models import ScoreModels
from toy.predictions import BITS
from toy.settings import Settings

SIGMA = 0.02
"""Deviation of absolute weight noise."""
RELATIVE_SIGMA = 0.05
DISTANCES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""Norms of the perturbation of all weights along which the loss is drawn."""
CLOUD = 400
QUANTIZED_COUNT = 20
"""T' of the samples of quantised models."""


@dataclass
class Row:
    """Measures, a number a seed each, and series for figures."""

    measures: dict[str, ndarray] = field(default_factory=dict)
    series: dict[str, Any] = field(default_factory=dict)

    def add(self, measures: dict[str, Tensor]) -> None:
        """Put in tensors (S,)."""
        self.measures |= {name: value.double().numpy() for name, value in measures.items()}


@torch.no_grad()
def measure_row(
    models: ScoreModels,
    settings: Settings,
    datas: Sequence[GaussianMixture],
    *,
    counts: Sequence[int],
    quantized_samples: bool,
    pictures: bool,
) -> Row:
    """Measure trained models.

    Args:
        models: of all seeds, numbered from 0.
        settings: sizes.
        datas: the data, then shifted data.
        counts: the T' of which to sample.
        quantized_samples: whether quantised models are sampled too.
        pictures: whether to take the loss surface and point clouds.
    """
    row, numbers, data = Row(), range(settings.seeds), datas[0]
    points = measures.evaluation_points(data, models.process, numbers, settings.evaluation_points)
    losses = measures.Losses(models, points)
    _flatness(row, models, losses, settings)
    if not models.learn_features:
        row.add(measures.spectrum_measures(models, points))
    loss = torch.from_numpy(row.measures["loss"])
    for index, shifted in enumerate(datas[1:], start=1):
        moved = measures.evaluation_points(shifted, models.process, numbers, settings.evaluation_points)
        row.add({f"shift_rise_{index}": measures.Losses(models, moved)(losses.weights) - loss})
    for count in counts:
        sampled = measures.sampling_measures(models, data, numbers, count, settings.sample_points)
        row.add(sampled.measures)
        if count == QUANTIZED_COUNT:
            row.series["epsilon_norm"] = _norm_curves(sampled)
    if quantized_samples:
        for bits in BITS[:2]:
            coarse = models.replaced(*measures.quantized_weights(losses.weights, bits))
            sampled = measures.sampling_measures(coarse, data, numbers, QUANTIZED_COUNT, settings.sample_points)
            quality = sampled.measures[f"sw_{QUANTIZED_COUNT}"]
            full = torch.from_numpy(row.measures[f"sw_{QUANTIZED_COUNT}"])
            row.add({f"sw_at_{bits}": quality, f"sw_rise_{bits}": quality - full})
    if pictures:
        _pictures(row, models, points, data, settings)
    return row


def _flatness(row: Row, models: ScoreModels, losses: measures.Losses, settings: Settings) -> None:
    loss = losses(losses.weights)
    rise = measures.low_pass_rise(losses, SIGMA, settings.draws)
    relative = measures.low_pass_rise(losses, RELATIVE_SIGMA, settings.draws, relative=True)
    readout = measures.readout_measures(losses, SIGMA, settings.readout_draws)
    rescaled = measures.Losses(measures.balanced(models), losses.evaluation)
    quantized = measures.quantization_measures(losses, readout["feature_energy"], BITS, settings.readout_draws)
    row.add({"loss": loss, "lpf_rise": rise, "lpf": loss + rise, "relative_rise": relative} | readout | quantized)
    row.add(
        {
            "balanced_rise": measures.low_pass_rise(rescaled, SIGMA, settings.draws),
            "log_relative_less_absolute": relative.clamp(min=1e-9).log() - rise.clamp(min=1e-9).log(),
            "log_energy_less_step": quantized["log_energy_part"] - quantized["log_step_part"],
            "theta_norm": models.theta.double().square().sum((1, 2)).sqrt(),
        }
    )
    curve = measures.rise_along_curve(losses, DISTANCES, max(settings.draws // 2, 1)).numpy()
    row.series["perturbation_curve"] = {"distance": list(DISTANCES), "loss": curve}


def _norm_curves(sampled: measures.Sampled) -> dict[str, Any]:
    return {
        "step": list(sampled.steps),
        "training": sampled.training_norm.numpy(),
        "sampling": sampled.sampling_norm.numpy(),
    }


def _pictures(
    row: Row, models: ScoreModels, points: measures.Evaluation, data: GaussianMixture, settings: Settings
) -> None:
    """Of the first seed: the loss on a plane, and samples at 32 bits and fewer."""
    one = measures.single(models)
    first = measures.Evaluation(points.t[:1], points.x_t[:1], points.epsilon[:1], points.seeds[:1])
    losses = measures.Losses(one, first)
    coordinates = np.linspace(-1.0, 1.0, settings.surface).round(6).tolist()
    row.series["loss_surface"] = {"coordinate": coordinates, "loss": measures.loss_plane(losses, coordinates)}
    clouds = {}
    for bits in (32, *BITS[:2]):
        coarse = one if bits == 32 else one.replaced(*measures.quantized_weights(losses.weights, bits))
        sampled = measures.sampling_measures(coarse, data, (0,), QUANTIZED_COUNT, CLOUD)
        clouds[str(bits)] = sampled.points[0].round(decimals=3).tolist()
    row.series["samples"] = clouds
