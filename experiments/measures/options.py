"""What is measured, and how finely, stored in every result: of rows, with three presets, and of the bridge's layers."""

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


@dataclass(frozen=True)
class LayerOptions:
    """The settings; the defaults cost some 18,000 passes of one image for fashion-mnist-tiny's network, a row."""

    layer_images: int = 32
    """Held-out images of the layers' and the whole network's rises, one timestep each, and of the snapshots'."""
    whole_draws: int = 8
    """Draws of noise on all weights, each taken with both signs."""
    readout_draws: int = 128
    """Draws of noise on the last layer alone, each with both signs; they cost next to nothing."""
    tolerance_steps: tuple[int, ...] = (100, 300, 500)
    """Steps t at which the noise's law is moved and features are linearised; () for none."""
    tolerance_images: int = 32
    """Held-out images there."""
    tolerance_levels: tuple[float, ...] = (0.01, 0.05, 0.25, 1.25, 6.25, 31.25)
    """Divergences of the noise's law, in nats, at which the loss is measured."""
    points: int = 1
    """Points at each t about which features are linearised, at as many passes in float64 as an image has numbers; 0
    for none."""
    snapshots: int = 5
    """Snapshots measured of each run, evenly spaced to its end; 0 for none."""

    def __post_init__(self) -> None:
        """Check all fields."""
        for name in ("layer_images", "whole_draws", "readout_draws", "tolerance_images"):
            arguments.count(name, getattr(self, name), at_least=2)
        for name in ("points", "snapshots"):
            arguments.count(name, getattr(self, name))
        if self.points > self.tolerance_images:
            raise arguments.refuse("points", self.points, f"at most tolerance_images, {self.tolerance_images}")
        for step in self.tolerance_steps:
            arguments.count("tolerance_steps", step)
        if len(set(self.tolerance_steps)) != len(self.tolerance_steps):
            raise arguments.refuse("tolerance_steps", self.tolerance_steps, "each step once")
        levels = [arguments.number("tolerance_levels", level, above=0.0) for level in self.tolerance_levels]
        if not levels or levels != sorted(set(levels)):
            raise arguments.refuse("tolerance_levels", self.tolerance_levels, "rising numbers, at least one")

    def passes(self, layers: int, numbers: int) -> int:
        """Of one image through the network, for a row.

        Args:
            layers: of the network.
            numbers: that an image consists of.
        """
        whole = 3 * self.layer_images * (2 * self.whole_draws + 1)
        single = self.layer_images * (4 * layers + 1) + 4 * (2 * layers + 1) + 3 * self.layer_images
        at_step = self.tolerance_images * (4 * len(self.tolerance_levels) + 2) + self.points * (numbers + 2)
        return whole + single + len(self.tolerance_steps) * at_step
