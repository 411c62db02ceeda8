"""The input of one linear or convolutional layer, captured as a loss is computed: its energy and its second moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from flatness import arguments
from flatness.measuring.base import Estimate, Losses, standard_error
from flatness.modules import memory_of, plain_name
from flatness.weights import widest

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
ENTRIES_AT_ONCE = 2**24
"""Entries of the patches held at a time: 128 MiB in float64."""


def readout_layer(losses: Losses, name: str | None) -> tuple[str, Layer]:
    """The layer of that name, or the one that the first batch calls last."""
    layers = {plain_name(key): module for key, module in losses.model.named_modules() if isinstance(module, LAYERS)}
    if name is None:
        called: list[str] = []
        with ExitStack() as hooks:
            for key, module in layers.items():
                hook = module.register_forward_hook(lambda *_, key=key: called.append(key))
                hooks.callback(hook.remove)
            losses.of_batch(0)
        losses.put_back_buffers()
        if not called:
            raise ValueError(
                "model calls no linear layer or convolution; allowed: a model with such a readout (one that "
                "torch.jit.script or torch.export made has none to see)"
            )
        name = called[-1]
    name = plain_name(name) if isinstance(name, str) else name
    if name not in layers:
        raise arguments.refuse("layer", name, "None or one of " + ", ".join(map(repr, layers)))
    weight = dict(layers[name].named_parameters(recurse=False)).get("weight")
    if weight is None:
        raise ValueError(f"layer {name!r} computes its weight; allowed: a layer whose weight is a parameter")
    every = losses.model.named_parameters(remove_duplicate=False)
    sharing = [plain_name(key) for key, other in every if memory_of(other) == memory_of(weight)]
    if len(sharing) > 1:
        raise ValueError(f"layer {name!r} shares its weight ({', '.join(sharing)}); allowed: a layer with its own")
    return name, layers[name]


class Capture:
    """What went into a layer and came out of it during one batch, and whether the model returned that."""

    def __init__(self, name: str) -> None:
        """Nothing seen yet; name is the layer's, for error messages."""
        self.name = name
        self.calls: list[tuple[Tensor, Tensor, int]] = []
        self.is_output: bool | None = None

    def layer_hook(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        """Note a call of the layer."""
        self.calls.append((args[0] if args else kwargs["input"], output, output._version))

    def model_hook(self, module: nn.Module, args: Any, output: Any) -> None:
        """Note whether a call of the model returned the layer's output, or views of it."""
        returned = tuple(output.values()) if isinstance(output, Mapping) else output
        returned = returned if isinstance(returned, tuple | list) else (getattr(output, "sample", output),)
        last = self.calls[-1][1] if self.calls else None
        same = [
            last is not None and tensor.untyped_storage().data_ptr() == last.untyped_storage().data_ptr()
            for tensor in returned
            if isinstance(tensor, Tensor)
        ]
        # a changed version means that the output was written to after the layer had made it
        self.is_output = any(same) and last is not None and last._version == self.calls[-1][2]

    def input_and_output(self) -> tuple[Tensor, Tensor]:
        """The layer's input and output; ValueError unless it was called once."""
        if len(self.calls) != 1:
            raise ValueError(f"layer {self.name!r} is called {len(self.calls)} times per batch; allowed: once")
        return self.calls[0][:2]


@contextmanager
def capturing(model: nn.Module, name: str, layer: Layer) -> Iterator[Capture]:
    """What goes into the layer and comes out of it inside the block."""
    capture = Capture(name)
    # the layer's hook first: the model may be the layer
    hooks = [layer.register_forward_hook(capture.layer_hook, with_kwargs=True)]
    hooks.append(model.register_forward_hook(capture.model_hook))
    try:
        yield capture
    finally:
        for hook in hooks:
            hook.remove()


class LayerFeatures:
    """The energy and the second moment of phi, gathered batch by batch in float64 (float32 on devices without it)."""

    def __init__(self, layer: Layer, second_moment: bool) -> None:
        """Nothing gathered yet; second_moment says whether E phi phi^T is wanted."""
        self.layer = layer
        self.groups = 1 if isinstance(layer, nn.Linear) else layer.groups
        self.features = layer.weight[0].numel()
        self.positions = 0
        self.energies: list[Tensor] = []
        size = (self.groups, self.features, self.features)
        self.moment = torch.zeros(size, dtype=torch.float64) if second_moment else None

    def add(self, x: Tensor, output: Tensor, count: int) -> None:
        """Take in the layer's input and output for one batch of which the loss returned count values."""
        fits = x.dim() >= 2 if isinstance(self.layer, nn.Linear) else x.dim() == self.layer.weight.dim()
        if not fits or len(x) == 0 or count not in (1, len(x)):
            allowed = f"samples along dimension 0, as many as losses ({count}) or any number for one loss"
            raise arguments.refuse("the layer's input", x, allowed)
        positions = output.numel() // (len(x) * self.layer.weight.shape[0])
        if self.positions not in (0, positions):
            raise ValueError(f"positions per sample are {self.positions} and {positions}; allowed: the same everywhere")
        self.positions = positions
        energies = []
        at_once = max(1, ENTRIES_AT_ONCE // (self.groups * self.features * positions))
        for part in x.split(at_once):
            phi = self.patches(part)
            energies.append(phi.square().sum(2).mean((1, 2)).cpu().double())
            if self.moment is not None:
                share = count / len(x) / positions
                self.moment += share * torch.einsum("ngil,ngjl->gij", phi, phi).cpu().double()
        energy = torch.cat(energies)
        self.energies.append(energy if count == len(x) else energy.mean().reshape(1))

    def patches(self, x: Tensor) -> Tensor:
        """phi of shape (n, groups, m, L)."""
        wide = x.detach().to(widest(x.device))
        if isinstance(self.layer, nn.Linear):
            return wide.reshape(len(x), 1, -1, self.features).transpose(2, 3)
        # a convolution whose kernels pick one entry of the patch each; the layer's own padding and stride come with it
        unit = torch.eye(self.features, dtype=wide.dtype, device=wide.device)
        kernel = unit.reshape(self.features, *self.layer.weight.shape[1:])
        kernel = torch.cat([kernel] * self.groups)
        tensors = {"weight": kernel}
        if self.layer.bias is not None:
            tensors["bias"] = torch.zeros(len(kernel), dtype=wide.dtype, device=wide.device)
        return functional_call(self.layer, tensors, (wide,)).reshape(len(x), self.groups, self.features, -1)

    def energy(self) -> Estimate:
        """E||phi||^2."""
        energies = torch.cat(self.energies)
        return Estimate(float(energies.mean()), 0.0, standard_error(energies))

    def largest_moment(self) -> float:
        """lambda_max(E phi phi^T), NaN where the moment was not gathered."""
        if self.moment is None:
            return float("nan")
        samples = sum(len(energy) for energy in self.energies)
        return float(torch.linalg.eigvalsh(self.moment / samples)[:, -1].max())
