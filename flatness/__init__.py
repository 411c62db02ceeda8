"""Instruments of flatness for any torch model: find flat minima, and measure how flat a minimum is.

Training: `SAM`, `RandomSAM`, `FriendlySAM` or `RandomWeightPerturbation` around any torch optimizer, `Shadows` of the
weights (EMA, SWA, post-hoc EMA), `perturbed_noise`.
Measuring: `low_pass_filter`, `rise_by_timestep`, `worst_case_sharpness`, `perturbation_curve`, `loss_surface`,
`loss_path`, `curvature`, `spectral_density`, `quantization_rise`, `exposure_bias`, `readout`, and the tools they stand
on. Everything takes modules and callables; no network class is known here.
Losses to measure: `epsilon_loss`, `x_0_loss`, `v_loss`, `flow_loss`, `edm_loss`, `sit_loss`, `edm2_loss`, on
`fixed_batches` of data, of networks called as a `ModelCall` says, and `likelihood_loss`, which gives them in nats;
`sampling_process` makes what `exposure_bias` takes of them. On the command line: `flatness --help`.
"""

from flatness.diffusion.likelihood import bits_per_dimension, likelihood_loss, likelihood_weights
from flatness.diffusion.losses import (
    Batch,
    DiffusionLoss,
    EDMLoss,
    edm2_loss,
    edm_loss,
    epsilon_loss,
    fixed_batches,
    flow_loss,
    sit_loss,
    v_loss,
    x_0_loss,
)
from flatness.diffusion.predictions import ModelCall, converted_prediction
from flatness.diffusion.sampling import SamplingProcess, sampling_process
from flatness.measuring.curvature import curvature
from flatness.measuring.exposure_bias import exposure_bias
from flatness.measuring.loss_path import loss_path
from flatness.measuring.loss_surface import loss_surface
from flatness.measuring.low_pass_filter import low_pass_filter
from flatness.measuring.perturbation_curve import perturbation_curve
from flatness.measuring.quantization import quantization_rise, quantize_tensor, quantize_weights, quantized
from flatness.measuring.readout import readout
from flatness.measuring.rise_by_timestep import rise_by_timestep
from flatness.measuring.sharpness import worst_case_sharpness
from flatness.measuring.spectral_density import spectral_density
from flatness.training.friendly_sam import FriendlySAM
from flatness.training.input_perturbation import perturbed_noise
from flatness.training.perturbed_optimizer import Always, EveryK, Late
from flatness.training.random_sam import RandomSAM
from flatness.training.random_weight_perturbation import RandomWeightPerturbation
from flatness.training.sam import SAM
from flatness.training.weight_averaging import EMA, SWA, PowerEMA, Shadows
from flatness.weights import moved, perturbed_weights

__version__ = "0.2.0"

__all__ = [
    "EMA",
    "SAM",
    "SWA",
    "Always",
    "Batch",
    "DiffusionLoss",
    "EDMLoss",
    "EveryK",
    "FriendlySAM",
    "Late",
    "ModelCall",
    "PowerEMA",
    "RandomSAM",
    "RandomWeightPerturbation",
    "SamplingProcess",
    "Shadows",
    "bits_per_dimension",
    "converted_prediction",
    "curvature",
    "edm2_loss",
    "edm_loss",
    "epsilon_loss",
    "exposure_bias",
    "fixed_batches",
    "flow_loss",
    "likelihood_loss",
    "likelihood_weights",
    "loss_path",
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
    "rise_by_timestep",
    "sampling_process",
    "sit_loss",
    "spectral_density",
    "v_loss",
    "worst_case_sharpness",
    "x_0_loss",
]
