"""The last linear or convolutional layer as the theta of a random-feature model, and what follows from it exactly.

The layer computes y = W phi + bias at each output position: W (d, m), phi (m,) its input vector, or for a convolution
the patch of its input under the kernel. In the notation s = theta phi / m of the random-feature model, theta = m W, so
a perturbation of W by delta is one of theta by m delta. If the loss of a sample is squared error in y, its target not
depending on W, noise on W alone raises it as follows (E over samples, positions and, if grouped, groups):

                                 mean over output coordinates            sum over them (L positions)
    weight noise of variance s2  s2 E||phi||^2                           s2 d L E||phi||^2
    dither of step q             (q^2 / 12) E||phi||^2                   (q^2 / 12) d L E||phi||^2
    worst over ||delta||_F <= D  D^2 lambda_max(E phi phi^T) / d         D^2 L lambda_max(E phi phi^T)

The first two are exact for any W and any independent noise of mean zero, which plain rounding is not. The last is
exact where W is a minimum of the mean loss; elsewhere it is the second-order part. A mean over some of the output
channels only rises as in the first column in the first two rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from flatness import arguments
from flatness.measuring.base import Estimate, Loss, Losses, Measurement, PairedRises, settings_of, undisturbed
from flatness.measuring.layer_features import LayerFeatures, capturing, readout_layer
from flatness.measuring.quantization import Grid, step_size
from flatness.modules import as_written
from flatness.progress import Progress, reporter, tracked
from flatness.weights import direction_norm

REDUCTIONS = ("mean", "sum")
SCALES = ("absolute", "layer", "filter")
"""Of noise whose rise the energy of all features together gives; "weight" asks for each feature's own."""


@dataclass(frozen=True, kw_only=True)
class Readout(Measurement):
    """The readout layer and its features.

    Attributes:
        layer: its name in the model ("" where it is the model).
        features: m, the length of phi (of one group).
        outputs: d, the number of output channels.
        positions: L, output positions per sample.
        feature_energy: E||phi||^2, the mean over samples, positions and groups.
        largest_feature_moment: lambda_max(E phi phi^T), of the group where it is largest; NaN where not asked for.
        weight_norm: ||W||_F.
        channel_minima, channel_maxima: smallest and largest weight of each output channel.
        is_output: whether the layer's output was what the model returned (or views of it), so that a squared error in
            the model's output is one in y. None where the loss did not call the model itself.
    """

    layer: str
    features: int
    outputs: int
    positions: int
    feature_energy: Estimate
    largest_feature_moment: float
    weight_norm: float
    channel_minima: tuple[float, ...]
    channel_maxima: tuple[float, ...]
    is_output: bool | None

    def noise_rise(
        self, sigma: float, *, scale: str = "absolute", bias: bool = False, reduction: str = "mean"
    ) -> Estimate:
        """The exact rise of a squared-error loss under Gaussian noise on the layer's weights.

        Args:
            sigma: standard deviation of the noise, in the unit that scale names.
            scale: "absolute", "layer" or "filter", as in `low_pass_filter`; the last two give the same rise.
            bias: whether the bias gets noise of the same standard deviation too; for absolute noise only.
            reduction: whether the loss of a sample is the "mean" or the "sum" over output coordinates.

        Raises:
            ValueError: an argument is not as above.
        """
        sigma = arguments.number("sigma", sigma, at_least=0.0)
        arguments.choice("scale", scale, SCALES)
        if arguments.flag("bias", bias) and scale != "absolute":
            raise arguments.refuse("bias", bias, "False where scale is not 'absolute'")
        variance = sigma**2
        if scale != "absolute":
            variance *= self.weight_norm**2 / (self.outputs * self.features)
        return self._times(variance * self._coordinates(reduction), offset=1.0 if bias else 0.0)

    def quantization_rise(
        self, bits: int = 8, *, granularity: str = "tensor", scheme: str = "symmetric", reduction: str = "mean"
    ) -> Estimate:
        """The rise of a squared-error loss under independent uniform dither of one grid step on each weight.

        That is exact for dither at any weights. Of rounding to the nearest it is what to expect at a minimum, on
        average over where the weights lie on the grid; elsewhere the errors go with the slope, and the loss may rise
        less, or fall.

        Args:
            bits, granularity, scheme: see `flatness.measuring.quantization.Grid`.
            reduction: whether the loss of a sample is the "mean" or the "sum" over output coordinates.

        Raises:
            ValueError: an argument is not as above.
        """
        Grid(bits, granularity, scheme)  # checks them
        smallest = torch.tensor(self.channel_minima, dtype=torch.float64)
        largest = torch.tensor(self.channel_maxima, dtype=torch.float64)
        if granularity == "tensor":
            smallest, largest = smallest.min(), largest.max()
        steps = step_size(smallest, largest, bits, scheme)
        return self._times(float(steps.square().mean()) / 12.0 * self._coordinates(reduction))

    def flat_radius(self, kappa: float, *, reduction: str = "mean") -> float:
        """The largest Frobenius norm of a perturbation of W under which the loss rises by at most kappa.

        In the notation of the random-feature model (theta = m W), the radius is m times as large.

        Args:
            kappa: the rise allowed.
            reduction: whether the loss of a sample is the "mean" or the "sum" over output coordinates.

        Raises:
            ValueError: an argument is not as above, or the feature moment was not asked for.
        """
        kappa = arguments.number("kappa", kappa, above=0.0)
        if self.largest_feature_moment != self.largest_feature_moment:
            raise ValueError("largest_feature_moment is nan; allowed: a readout taken with second_moment=True")
        curvature = self.largest_feature_moment * self._coordinates(reduction) / self.outputs
        return (kappa / curvature) ** 0.5 if curvature else float("inf")

    def _coordinates(self, reduction: str) -> int:
        arguments.choice("reduction", reduction, REDUCTIONS)
        return self.outputs * self.positions if reduction == "sum" else 1

    def _times(self, factor: float, offset: float = 0.0) -> Estimate:
        energy = self.feature_energy
        return Estimate(factor * (energy.value + offset), 0.0, factor * energy.data_standard_error)


def readout(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    *,
    layer: str | None = None,
    second_moment: bool = True,
    seed: int = 0,
    eval_mode: bool = True,
    progress: Progress = None,
) -> Readout:
    """The features that reach the last linear or convolutional layer, and what they say about its flatness.

    Costs one pass over the batches, two over the first, and for the second moment m^2 products per position. A compiled
    model runs as it was written.

    Args:
        model: the module.
        loss: `loss(model, batch)`, as `flatness.measuring.base` describes it; its inputs and random numbers are those
            of the other measures at the same seed.
        batches: the data; read once into a list where it is not a sequence.
        layer: the layer's name in `model.named_modules()`, of a compiled model as before; None takes the one that is
            called last.
        second_moment: whether to compute lambda_max(E phi phi^T), which holds an (m, m) matrix per group.
        seed: the loss's random numbers are a function of it.
        eval_mode: False leaves the submodules in the modes they are in. Modes and buffers are put back either way.
        progress: see `flatness.progress`.

    Raises:
        ValueError: an argument is not as above, a loss is not finite, or the layer does not exist, shares or computes
            its weight, is called other than once per batch, or takes input without a batch dimension.
    """
    arguments.flag("second_moment", second_moment)
    arguments.flag("eval_mode", eval_mode)
    losses = Losses(loss, model, batches, seed)
    report = reporter("readout", len(losses.batches), progress)
    with as_written(), torch.no_grad(), undisturbed(model, eval_mode) as buffers:
        losses.buffers = buffers
        if layer is not None and not isinstance(layer, str):
            raise arguments.refuse("layer", layer, "None, or a layer's name")
        name, layer_module = readout_layer(losses, layer)
        features = LayerFeatures(layer_module, second_moment)
        values, seen = [], []
        for index in tracked(range(len(losses.batches)), report, len(losses.batches)):
            with capturing(model, name, layer_module) as capture:
                values.append(losses.of_batch(index))
            features.add(*capture.input_and_output(), count=len(values[-1]))
            seen.append(capture.is_output)
        samples = PairedRises(losses.together(values))
    weight = layer_module.weight.detach()
    own = {"layer": name, "second_moment": second_moment}
    settings = settings_of("readout", {".".join(filter(None, (name, "weight"))): weight}, losses, eval_mode, **own)
    return Readout(
        loss=samples.unmoved_loss(),
        layer=name,
        features=weight[0].numel(),
        outputs=len(weight),
        positions=features.positions,
        feature_energy=features.energy(),
        largest_feature_moment=features.largest_moment(),
        weight_norm=direction_norm([weight]),
        channel_minima=tuple(weight.flatten(1).amin(1).tolist()),
        channel_maxima=tuple(weight.flatten(1).amax(1).tolist()),
        is_output=None if None in seen else all(seen),
        settings=settings,
    )
