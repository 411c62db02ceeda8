"""The last layer as theta of Eq. (9): its closed forms against measured rises, on the same images and with many draws.

`weight_noise.last_layer` measures the same in passes of the whole network, with few draws. Here the layer's input is
taken once and the layer alone is run, so draws cost next to nothing; each is taken with both signs, which removes the
linear part, of which the closed forms know nothing. They are then exact in the mean over draws, on these images
(Theorems T3 and T5, `flatness.readout`):

    noise-absolute    variance sigma^2 on weight and bias      sigma^2 (E|phi|^2 + 1)
    noise-layer       relative to the weight's size            sigma^2 |W|^2 / (d m) E|phi|^2
    dither-b          uniform of one step q of b bits          (q^2 / 12) E|phi|^2
    rounding-b        to the nearest, and its mirror image     (q^2 / 12) E|phi|^2, on average over weights only

Costs three passes of one image for each image, and the layer alone for each draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

import flatness
from experiments.measures.layers import estimate
from experiments.measures.subject import HeldOutBatch, Subject
from flatness.measuring.base import Estimate, PairedRises, plain
from flatness.measuring.layer_features import Layer, LayerFeatures
from flatness.measuring.quantization import quantize_tensor
from flatness.weights import GaussianNoise, derived_seed, widest

Weights = dict[str, Tensor]


class _LastLayer:
    """The last layer on what reaches it: the squared error as a function of its weights alone."""

    def __init__(self, subject: Subject, name: str) -> None:
        """Take what it multiplies, patch by patch, for all images: one pass."""
        self.subject, self.layer = subject, cast(Layer, subject.network.get_submodule(name))
        parameters = self.layer.named_parameters(recurse=False)
        self.weights: Weights = {key: p.detach().to(widest(p.device)) for key, p in parameters}
        self.inputs: list[tuple[HeldOutBatch, Tensor]] = []
        features = LayerFeatures(self.layer, second_moment=False)
        if features.groups != 1:
            raise ValueError(f"layer {name!r} has {features.groups} groups; allowed: one")
        for batch in subject.batches:
            seen: list[Tensor] = []
            hook = self.layer.register_forward_pre_hook(lambda layer, args, seen=seen: seen.append(args[0]))
            try:
                subject.network(batch.x_t, subject.process.network_timesteps(batch.t))
            finally:
                hook.remove()
            self.inputs.append((batch, features.patches(seen[-1])[:, 0]))

    def losses(self, weights: Weights) -> Tensor:
        """Of every image (N,), in float64 on the CPU; in the widest type on the way, as differences are small."""
        values = []
        for batch, phi in self.inputs:
            output = torch.einsum("dm,nml->ndl", weights["weight"].flatten(1), phi)
            if "bias" in weights:
                output = output + weights["bias"][:, None]
            predicted = output.reshape(len(phi), -1, *batch.noise.shape[2:])[:, : batch.noise.shape[1]]
            values.append((batch.noise.to(phi) - predicted).square().flatten(1).mean(1).double().cpu())
        return torch.cat(values)

    def rises(self, directions: Iterable[Weights]) -> PairedRises:
        """Under each direction with both signs."""
        rises = PairedRises(self.losses(self.weights))
        for along in directions:
            moved = [
                {
                    name: weight + sign * along[name] if name in along else weight
                    for name, weight in self.weights.items()
                }
                for sign in (1.0, -1.0)
            ]
            rises.add(sum((self.losses(weights) for weights in moved), torch.zeros(())) / 2.0)
        return rises


@torch.no_grad()
def measured_readout(subject: Subject, draws: int) -> dict[str, Any]:
    """The layer's feature energy, and each rise as predicted and as measured.

    Args:
        subject: the network and its images.
        draws: of noise and of dither, each with both signs.

    Raises:
        ValueError: the network has no last layer, or returns other than its output.
    """
    readout = flatness.readout(subject.network, subject.squared_error, subject.batches, seed=subject.options.seed)
    if not readout.is_output:
        raise ValueError(f"the network does not return the output of {readout.layer!r}; allowed: one that does")
    last, options = _LastLayer(subject, readout.layer), subject.options
    both, weight = list(last.weights), ["weight"]

    def noise(names: Sequence[str], sigma: float, scale: str) -> Callable[[int], Weights]:
        tensors = [last.weights[name] for name in names]

        def drawn(draw: int) -> Weights:
            seed = derived_seed("readout", options.seed, draw)
            return {name: sigma * z for name, z in zip(names, GaussianNoise(tensors, seed, scale), strict=True)}

        return drawn

    def dither(bits: int) -> Callable[[int], Weights]:
        step = max(map(abs, (*readout.channel_minima, *readout.channel_maxima))) / (2 ** (bits - 1) - 1)
        shape = last.weights["weight"].shape

        def drawn(draw: int) -> Weights:
            generator = torch.Generator().manual_seed(derived_seed("dither", options.seed, draw))
            uniform = torch.rand(shape, generator=generator, dtype=torch.float64) - 0.5
            return {"weight": (step * uniform).to(last.weights["weight"])}

        return drawn

    def rounded(bits: int) -> Weights:
        return {"weight": quantize_tensor(last.weights["weight"], bits) - last.weights["weight"]}

    absolute = readout.noise_rise(options.sigma, bias=len(both) > 1)
    relative = readout.noise_rise(options.relative_sigma, scale="layer")
    kinds: dict[str, tuple[Estimate, Iterable[Weights], bool]] = {
        "noise-absolute": (absolute, map(noise(both, options.sigma, "absolute"), range(draws)), True),
        "noise-layer": (relative, map(noise(weight, options.relative_sigma, "layer"), range(draws)), True),
    }
    for bits in options.rise_bits:
        predicted = readout.quantization_rise(bits)
        kinds[f"dither-{bits}"] = (predicted, map(dither(bits), range(draws)), True)
        kinds[f"rounding-{bits}"] = (predicted, [rounded(bits)], False)
    return {
        "layer": readout.layer,
        "feature_energy": plain(readout.feature_energy),
        "weight_norm": readout.weight_norm,
        "draws": draws,
        "rises": {
            name: _entry(predicted, last.rises(along), drawn) for name, (predicted, along, drawn) in kinds.items()
        },
    }


def _entry(predicted: Estimate, rises: PairedRises, drawn: bool) -> dict[str, Any]:
    """The mean with its errors over draws and images, and each image's own."""
    measured = estimate(rises.sums / len(rises.means))["by_image"]
    return {"predicted": predicted.value, "measured": plain(rises.rise(drawn)), "by_image": measured}
