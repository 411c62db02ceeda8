"""What an evaluation measures, and how finely: one frozen dataclass, stored in every result, and three presets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flatness import arguments

PresetName = Literal["demo", "tiny", "full"]
Objective = Literal["mse", "hybrid"]
FEWEST_SAMPLES = 24
"""Of a distance: two and more in each of the jackknife's groups."""


@dataclass(frozen=True)
class EvaluationOptions:
    """The settings of all measures; the defaults are the paper's sizes where it states them."""

    images: int = 4096
    """Held-out images of every measure of a loss, one timestep each (all, where the split has fewer)."""
    objective: Objective = "mse"
    """The loss whose flatness is measured: the mean squared error of the predicted noise, or with the variance's term
    (hybrid). The paper does not say which; the mean squared error is the loss of its theory."""
    sigma: float = 0.01
    """Absolute weight noise of the low-pass filter, as in Bisla et al.'s public measurements."""
    relative_sigma: float = 0.05
    """Weight noise relative to each tensor's, and each filter's, root mean square."""
    lpf_draws: int = 100
    """Draws of the low-pass filter's noise."""
    curve_rms: tuple[float, ...] = (0.0025, 0.005, 0.01, 0.02)
    """Perturbation curve: distances as the root mean square change of a weight; 0.01 is as far as sigma = 0.01 goes."""
    curve_draws: int = 20
    """Random directions of the perturbation curve."""
    gradient_distances: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3)
    """Norms of the perturbation along the gradient, in the unit of SAM's rho; () for none."""
    surface_points: int = 21
    """Points along each side of the loss surface; 0 for none."""
    surface_extent: float = 0.5
    """Half the surface's side, in units of filter-normalised directions (Li et al., 2018)."""
    rise_bits: tuple[int, ...] = (8, 4, 3)
    """Widths of the rounded weights whose loss is measured (per tensor, symmetric, all weights)."""
    readout_draws: int = 100
    """Draws of noise on the last convolution alone."""
    sampling_steps: tuple[int, ...] = (20, 100)
    """T' of samples and of exposure bias, at most the process's T."""
    exposure_images: int = 2048
    """Real images, and as many sampling chains, of exposure bias (all, where the split has fewer)."""
    samples: tuple[int, ...] = (50_000, 50_000)
    """Samples of a distance, for each T'."""
    bits: tuple[int, ...] = (8, 4)
    """Widths of the rounded weights that are sampled from, beside the weights as they are."""
    quantized_steps: tuple[int, ...] = (20, 100)
    """The T' at which rounded weights are sampled from."""
    sampling_precision: Literal["float32", "bfloat16"] = "float32"
    """Of the network's passes in sampling (autocast); all other measures are float32."""
    groups: int = 20
    """Of images, for the jackknife that gives a distance's standard error."""
    reference_split: Literal["train", "all"] = "train"
    """Real images that samples are compared with."""
    seed: int = 0
    """Images, timesteps, noise and weight noise are a function of it and of the kind of device: the same for every
    row."""

    def __post_init__(self) -> None:
        """Check all fields."""
        for name in ("images", "exposure_images"):
            arguments.count(name, getattr(self, name), at_least=2)
        for name in ("lpf_draws", "curve_draws", "readout_draws"):
            arguments.count(name, getattr(self, name), at_least=2)
        arguments.choice("objective", self.objective, ("mse", "hybrid"))
        arguments.choice("sampling_precision", self.sampling_precision, ("float32", "bfloat16"))
        arguments.choice("reference_split", self.reference_split, ("train", "all"))
        for name in ("sigma", "relative_sigma", "surface_extent"):
            arguments.number(name, getattr(self, name), above=0)
        for name in ("curve_rms", "gradient_distances"):
            for value in getattr(self, name):
                arguments.number(name, value, above=0)
        if not self.curve_rms:
            raise arguments.refuse("curve_rms", self.curve_rms, "at least one distance")
        if arguments.count("surface_points", self.surface_points) % 2 == 0 and self.surface_points:
            raise arguments.refuse("surface_points", self.surface_points, "odd, so that the weights are a point; or 0")
        arguments.count("seed", self.seed)
        self._check_bits()
        self._check_samples()

    def _check_bits(self) -> None:
        for name in ("rise_bits", "bits"):
            for value in getattr(self, name):
                if not 2 <= arguments.count(name, value) <= 16:
                    raise arguments.refuse(name, value, "whole numbers from 2 to 16")

    def _check_samples(self) -> None:
        steps = self.sampling_steps
        for value in steps:
            arguments.count("sampling_steps", value, at_least=2)
        if not steps or len(set(steps)) != len(steps):
            raise arguments.refuse("sampling_steps", steps, "at least one, each once")
        if len(self.samples) != len(steps):
            raise arguments.refuse("samples", self.samples, f"one number for each of sampling_steps {steps}")
        arguments.count("groups", self.groups, at_least=2)
        for value in self.samples:
            arguments.count("samples", value, at_least=max(FEWEST_SAMPLES, 2 * self.groups))
        if not set(self.quantized_steps) <= set(steps):
            raise arguments.refuse("quantized_steps", self.quantized_steps, f"among sampling_steps {steps}")


EVALUATIONS: dict[PresetName, EvaluationOptions] = {
    # Seconds a row: that everything works, and no more
    "demo": EvaluationOptions(
        images=64,
        lpf_draws=3,
        curve_rms=(0.005, 0.01),
        curve_draws=2,
        gradient_distances=(0.1,),
        surface_points=0,
        rise_bits=(8, 4),
        readout_draws=2,
        sampling_steps=(20,),
        exposure_images=24,
        samples=(64,),
        bits=(4,),
        quantized_steps=(20,),
        groups=12,
    ),
    # 1.2e5 passes a row: under four minutes for fashion-mnist-tiny on two idle cores, at 300 images/s and core. Of the
    # samples, 512 are eight for each of the classifier's features, the fewest that a distance is extrapolated from
    "tiny": EvaluationOptions(
        images=256,
        lpf_draws=8,
        curve_draws=3,
        surface_points=5,
        readout_draws=4,
        exposure_images=48,
        samples=(512, 512),
        quantized_steps=(20,),
        groups=16,
    ),
    "full": EvaluationOptions(),
}


def evaluation_of(dataset: str) -> PresetName:
    """The preset of measures that runs on a data set are meant to be measured by: the paper's data at its sizes."""
    return "tiny" if dataset == "fashion-mnist" else "full"
