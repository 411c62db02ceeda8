"""The low-pass filter's rise of one layer after another, beside that of the whole network on the same images.

A layer is a module with parameters of its own: weight and bias. For an absolute noise of variance s^2 the rise is, to
second order, s^2 tr(H) / 2, a sum over the blocks of the Hessian H that belong to the layers, and for noise of a share
of each tensor's size it is the same sum with other weights. So the layers' rises add up to the whole network's, but for
what is of fourth order.

How it is measured. Only one layer moves, so every image gets a draw of its own: the layer's output is computed image by
image, all else in batches as ever. And every draw is taken with both signs, which removes the linear part. Each image's
number is then an unbiased one of its layer's rise, independent of the others', and the standard error over images holds
images and draws together. Noise is a function of (seed, layer, image), so that rows are compared in pairs.

Costs, in passes of one image, for N images, L layers and D draws: 4 N L + N for the layers, N (2 D + 1) for the whole
network at each scale, and 2 L + 1 for each image whose output is looked at when a layer is scaled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from experiments.measures.subject import HeldOutBatch, Subject
from experiments.measures.weight_noise import rounded
from flatness.measuring.base import PairedRises, measuring, plain, standard_error
from flatness.weights import GaussianNoise, SavedWeights, derived_seed, direction_norm, moved_tensor

NOISES = ("absolute", "layer")
"""The scales of noise on single layers (`flatness.weights.GaussianNoise`)."""
WHOLE_NOISES = (*NOISES, "filter")
SCALE_IMAGES = 4
SCALED_BY = 2.0
SCALE_FREE = 0.01
"""Share of a layer's effect up to which scaling it by SCALED_BY leaves the output as it is: a norm's epsilon leaves
some 1e-4 where activations are not tiny; with a nonlinearity between it and the norm the share is .05 and more."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer and its rises.

    Attributes:
        name: of the module.
        kind: its class.
        parameters: how many.
        norm: L2, over weight and bias together.
        scale_effect: |f(2 w) - f(w)| / |f(0) - f(w)| for the network's output f, w the layer's weight and bias: 0 where
            the layer stands directly in front of a normalisation, so that its scale is without effect (Theorem T7).
            None where the layer is without effect altogether.
        rises: by scale of noise.
    """

    name: str
    kind: str
    parameters: int
    norm: float
    scale_effect: float | None
    rises: dict[str, dict[str, Any]]

    @property
    def scale_free(self) -> bool:
        """Whether the layer's scale is without effect."""
        return self.scale_effect is not None and self.scale_effect < SCALE_FREE

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        return dict(plain(self)) | {"scale_free": self.scale_free}


def layers_of(network: nn.Module) -> dict[str, nn.Module]:
    """The modules that have parameters of their own, by name, in the network's order.

    Raises:
        ValueError: two of them share a parameter.
    """
    modules: dict[str, nn.Module] = {}
    owners: dict[int, str] = {}
    for name, module in network.named_modules():
        for parameter in module.parameters(recurse=False):
            other = owners.setdefault(id(parameter), name)
            if other != name:
                raise ValueError(f"layers {other!r} and {name!r} share a parameter; allowed: layers with their own")
            modules[name] = module
    return modules


class _OwnNoise:
    """A forward hook that gives each image of a batch its own draw of one layer's weights."""

    def __init__(self, name: str, layer: nn.Module, sigma: float, scale: str, seed: int) -> None:
        self.name, self.sigma, self.scale, self.seed = name, sigma, scale, seed
        self.parameters = dict(layer.named_parameters(recurse=False))
        self.first = self.calls = 0
        self._inside = False

    def __call__(self, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> Tensor | None:
        if self._inside:  # the calls that this one makes
            return None
        count = len(args[0]) if args and isinstance(args[0], Tensor) and args[0].dim() else 0
        if not count or kwargs or not isinstance(output, Tensor) or len(output) != count:
            raise ValueError(f"layer {self.name!r} does not take and give tensors with images along dimension 0")
        self.calls += 1
        self._inside = True
        try:
            parts = [
                functional_call(
                    layer, self.moved(self.first + image), tuple(_of_image(arg, image, count) for arg in args)
                )
                for image in range(count)
            ]
        finally:
            self._inside = False
        return torch.cat(parts)

    def moved(self, image: int) -> dict[str, Tensor]:
        """The layer's parameters under the image's draw."""
        weights = list(self.parameters.values())
        noise = GaussianNoise(weights, derived_seed("layer", self.seed, self.name, image), self.scale)
        pairs = zip(self.parameters, weights, noise, strict=True)
        return {name: moved_tensor(weight, along, self.sigma).to(weight.dtype) for name, weight, along in pairs}


def _of_image(argument: Any, image: int, count: int) -> Any:
    """One image's part of what is given for all of them; anything else as it is."""
    split = isinstance(argument, Tensor) and argument.dim() > 0 and len(argument) == count
    return argument[image : image + 1] if split else argument


@contextmanager
def _hooked(layer: nn.Module, noise: _OwnNoise) -> Iterator[None]:
    hook = layer.register_forward_hook(noise, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def objectives(subject: Subject, noise: _OwnNoise | None = None) -> Tensor:
    """The objective of every held-out image (N,), in float64 on the CPU.

    Raises:
        ValueError: the layer that noise is for is not called.
        FloatingPointError: a loss is not finite.
    """
    objectives, first = [], 0
    for batch in subject.batches:
        if noise is not None:
            noise.first, noise.calls = first, 0
        objectives.append(subject.objective(subject.network, batch).double().cpu())
        if noise is not None and not noise.calls:
            raise ValueError(f"layer {noise.name!r} is not called by the network; allowed: layers that are")
        first += len(batch.t)
    values = torch.cat(objectives)
    if not bool(values.isfinite().all()):
        raise FloatingPointError("a loss is not finite" + (f" under noise on {noise.name!r}" if noise else ""))
    return values


def estimate(values: Tensor) -> dict[str, Any]:
    """Mean and standard error over images, and the images' own values."""
    by_image = rounded(values.tolist())
    return {"value": float(values.mean()), "standard_error": standard_error(values), "by_image": by_image}


@torch.no_grad()
def layer_rise(subject: Subject, name: str, unmoved: Tensor, sigma: float, scale: str) -> Tensor:
    """The rise of every image's objective (N,) under noise on one layer, the mean over both signs of its own draw.

    Args:
        subject: the network and its images.
        name: of the layer.
        unmoved: what `objectives` gives without noise.
        sigma: standard deviation of the noise, in the unit that scale names.
        scale: "absolute", or "layer": relative to the root mean square of each of the layer's tensors.
    """
    layer = subject.network.get_submodule(name)
    rise = torch.zeros_like(unmoved)
    for sign in (1.0, -1.0):
        noise = _OwnNoise(name, layer, sign * sigma, scale, subject.options.seed)
        with _hooked(layer, noise):
            rise += (objectives(subject, noise) - unmoved) / 2.0
    return rise


def sigma_of(subject: Subject, scale: str) -> float:
    """The noise's standard deviation: absolute, or relative to a tensor's size."""
    return subject.options.sigma if scale == "absolute" else subject.options.relative_sigma


@torch.no_grad()
def measured_layers(subject: Subject, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Every layer with its rises, or the layers that are named."""
    every = layers_of(subject.network)
    chosen = list(every if names is None else names)
    unmoved, effects = objectives(subject), scale_effects(subject, chosen)
    layers = []
    for name in chosen:
        layer = every[name]
        weights = dict(layer.named_parameters(recurse=False))
        rises = {
            scale: estimate(layer_rise(subject, name, unmoved, sigma_of(subject, scale), scale)) for scale in NOISES
        }
        layers.append(
            Layer(
                name=name,
                kind=type(layer).__name__,
                parameters=sum(weight.numel() for weight in weights.values()),
                norm=direction_norm(weights.values()),
                scale_effect=effects[name],
                rises=rises,
            ).entry()
        )
    return layers


def _spread(subject: Subject) -> HeldOutBatch:
    """So many of the images, over all timesteps."""
    joined = HeldOutBatch(*(torch.cat(parts) for parts in zip(*subject.batches, strict=True)))
    number = len(joined.t)
    chosen = torch.linspace(0, number - 1, min(SCALE_IMAGES, number)).round().long().to(joined.t.device)
    return HeldOutBatch(*(tensor[chosen] for tensor in joined))


@torch.no_grad()
def scale_effects(subject: Subject, names: Iterable[str]) -> dict[str, float | None]:
    """How much the output depends on each layer's scale, as `Layer` says; weights are put back."""
    batch = _spread(subject)
    t = subject.process.network_timesteps(batch.t)

    def output() -> Tensor:
        return subject.network(batch.x_t, t).double()

    base = output()
    effects: dict[str, float | None] = {}
    for name in names:
        own = dict(subject.network.get_submodule(name).named_parameters(recurse=False))
        with SavedWeights(own).put_back_after() as weights:
            weights.write([SCALED_BY * saved for saved in weights.saved])
            scaled = float((output() - base).norm())
            weights.write([torch.zeros_like(saved) for saved in weights.saved])
            without = float((output() - base).norm())
        effects[name] = scaled / without if without > 0 else None
    return effects


def whole_rise(subject: Subject, scale: str, draws: int) -> dict[str, Any]:
    """The same rise under noise on all weights: one draw for all images, with both signs, and several draws.

    Returns:
        The rise with its standard errors over draws and over images, its value image by image and draw by draw, and
        the loss.
    """
    sigma, seed = sigma_of(subject, scale), subject.options.seed
    with measuring(subject.network, subject.objective, subject.batches, None, seed, True) as (weights, losses):
        unmoved = losses()
        rises = PairedRises(unmoved)
        for draw in range(draws):
            noise = GaussianNoise(weights.saved, derived_seed("whole", seed, draw), scale)
            both = torch.zeros_like(unmoved)
            for sign in (1.0, -1.0):
                weights.move(noise, sign * sigma)
                both += losses(f"noise draw {draw} of sigma {sign * sigma:g} ({scale})") / 2.0
            rises.add(both)
    rise = rises.rise()
    return {
        "sigma": sigma,
        "draws": draws,
        "loss": plain(rises.unmoved_loss()),
        "rise": plain(rise),
        "by_image": estimate(rises.sums / draws)["by_image"],
        "by_draw": estimate(torch.tensor(rises.means))["by_image"],
    }
