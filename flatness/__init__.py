"""Instruments of flatness for any torch model: find flat minima, and measure how flat a minimum is.

Training: `SAM` around any torch optimizer, `Shadows` of the weights (EMA, SWA, post-hoc EMA), `perturbed_noise`.
Measuring: `low_pass_filter`, `perturbation_curve`, `loss_surface`, `curvature`, `quantization_rise`, `exposure_bias`,
`readout`, and the tools they stand on. Everything takes modules and callables; no network class is known here.
Losses to measure: `epsilon_loss`, `x_0_loss`, `v_loss`, `flow_loss`, `edm_loss`, on `fixed_batches` of data;
`sampling_process` makes what `exposure_bias` takes of them. On the command line: `flatness --help`.
"""

from flatness.adapters import (
    Batch,
    DiffusionLoss,
    EDMLoss,
    edm_loss,
    epsilon_loss,
    fixed_batches,
    flow_loss,
    v_loss,
    x_0_loss,
)
from flatness.curvature import curvature
from flatness.exposure_bias import exposure_bias
from flatness.input_perturbation import perturbed_noise
from flatness.loss_surface import loss_surface
from flatness.low_pass_filter import low_pass_filter
from flatness.perturbation import moved, perturbed_weights
from flatness.perturbation_curve import perturbation_curve
from flatness.predictions import converted_prediction
from flatness.quantization import quantization_rise, quantize_tensor, quantize_weights, quantized
from flatness.random_weight_perturbation import RandomWeightPerturbation
from flatness.readout import readout
from flatness.sam import SAM
from flatness.sampling_process import SamplingProcess, sampling_process
from flatness.schedules import Always, EveryK, Late
from flatness.weight_averaging import EMA, SWA, PowerEMA, Shadows

__version__ = "0.1.0"

__all__ = [
    "EMA",
    "SAM",
    "SWA",
    "Always",
    "Batch",
    "DiffusionLoss",
    "EDMLoss",
    "EveryK",
    "Late",
    "PowerEMA",
    "RandomWeightPerturbation",
    "SamplingProcess",
    "Shadows",
    "converted_prediction",
    "curvature",
    "edm_loss",
    "epsilon_loss",
    "exposure_bias",
    "fixed_batches",
    "flow_loss",
    "loss_surface",
    "low_pass_filter",
    "moved",
    "perturbation_curve",
    "perturbed_noise",
    "perturbed_weights",
    "quantization_rise",
    "quantize_tensor",
    "quantize_weights",
    "quantized",
    "readout",
    "sampling_process",
    "v_loss",
    "x_0_loss",
]
