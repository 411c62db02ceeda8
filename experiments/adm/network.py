"""ADM's U-Net (Dhariwal and Nichol, 2021, Section 3), state_dict and arithmetic as published."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from experiments.adm.blocks import (
    AttentionBlock,
    Downsample,
    GroupNorm,
    InputConvolution,
    ResidualBlock,
    Stage,
    Upsample,
    zeroed,
)
from experiments.adm.options import ADMOptions
from flatness import arguments

MAX_PERIOD = 10000.0


class ADM(nn.Module):
    """The network that predicts the noise, and with `learn_sigma` the channels its variance is computed from.

    Keys, shapes and order of its state_dict are those of the published ADM, DDPM-IP and ADM-ES checkpoints. Under
    autocast the norms, the time embedding and the output layer stay in float32.

    Args:
        options: see `ADMOptions`.
    """

    def __init__(self, options: ADMOptions) -> None:
        """Fresh weights; the output layer is zero."""
        super().__init__()
        self.options = arguments.instance("options", options, ADMOptions)
        base = options.model_channels
        self.time_embed = nn.Sequential(nn.Linear(base, 4 * base), nn.SiLU(), nn.Linear(4 * base, 4 * base))
        if options.num_classes is not None:
            self.label_emb = nn.Embedding(options.num_classes, 4 * base)
        frequencies = torch.exp(-math.log(MAX_PERIOD) * torch.arange(base // 2, dtype=torch.float32) / (base // 2))
        self.frequencies: Tensor
        self.register_buffer("frequencies", frequencies, persistent=False)
        width = base * options.channel_mult[0]
        self.input_blocks, skips = _way_down(options)
        deepest = base * options.channel_mult[-1]
        self.middle_block = Stage(
            ResidualBlock(deepest, deepest, options),
            AttentionBlock(deepest, options),
            ResidualBlock(deepest, deepest, options),
        )
        self.output_blocks = _way_up(options, skips)
        last = nn.Conv2d(width, options.out_channels, 3, padding=1)
        self.out = nn.Sequential(GroupNorm(width), nn.SiLU(), zeroed(last))
        # Weights laid out as the activations are: otherwise every convolution copies its own, both ways.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """Predict the noise in x at the original process's timesteps t.

        Args:
            x: (N, channels, image_size, image_size), images scaled to [-1, 1] with noise.
            t: (N,), timesteps of the original process, whole or not.
            y: (N,) int64 classes; given if and only if the network is class-conditional.

        Returns:
            (N, channels or 2 channels, image_size, image_size): the noise, then the variance's channels, in x's type.

        Raises:
            ValueError: a shape is not as above, or y is given to a network without classes or missing for one with.
        """
        self._check(x, t, y)
        with _without_autocast(x.device):
            embedding = self._embedding(t, y, x.dtype)
        skips = []
        h = x.contiguous(memory_format=torch.channels_last)
        for stage in self.input_blocks:
            h = stage(h, embedding)
            skips.append(h)
        h = self.middle_block(h, embedding)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, skips.pop()], dim=1), embedding)
        with _without_autocast(x.device):
            return self.out(h.to(x.dtype))

    def _embedding(self, t: Tensor, y: Tensor | None, dtype: torch.dtype) -> Tensor:
        """(N, 4 model_channels): the sinusoids of t through two layers, plus the class's vector."""
        angles = t[:, None].to(self.frequencies.dtype) * self.frequencies
        sinusoids = torch.cat([angles.cos(), angles.sin()], dim=1)
        embedding = self.time_embed(sinusoids.to(dtype))
        return embedding if y is None else embedding + self.label_emb(y)

    def _check(self, x: Tensor, t: Tensor, y: Tensor | None) -> None:
        """Shapes alone, which the host knows: values are not read, so nothing waits for an accelerator."""
        side = self.options.image_size
        if x.dim() != 4 or tuple(x.shape[1:]) != (self.options.channels, side, side):
            raise arguments.refuse("x", x, f"shape (N, {self.options.channels}, {side}, {side})")
        if t.shape != (x.shape[0],):
            raise arguments.refuse("t", t, f"shape ({x.shape[0]},), one timestep per image")
        if (y is None) != (self.options.num_classes is None):
            raise arguments.refuse("y", y, "classes where num_classes is given, None where not")
        if y is not None and y.shape != (x.shape[0],):
            raise arguments.refuse("y", y, f"shape ({x.shape[0]},), one class per image")


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Full precision inside; on devices that know no autocast (meta) nothing is to be done."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()


def _way_down(options: ADMOptions) -> tuple[nn.ModuleList, list[int]]:
    """The stages from full resolution down, and the width that each of them leaves."""
    width = options.model_channels * options.channel_mult[0]
    stages = [Stage(InputConvolution(options.channels, width, 3, padding=1))]
    widths = [width]
    for level, (resolution, mult) in enumerate(zip(options.resolutions, options.channel_mult, strict=True)):
        for _ in range(options.num_res_blocks):
            blocks: list[nn.Module] = [ResidualBlock(width, mult * options.model_channels, options)]
            width = mult * options.model_channels
            if resolution in options.attention_resolutions:
                blocks.append(AttentionBlock(width, options))
            stages.append(Stage(*blocks))
            widths.append(width)
        if level < len(options.channel_mult) - 1:
            residual = options.resblock_updown
            stages.append(
                Stage(
                    ResidualBlock(width, width, options, "down")
                    if residual
                    else Downsample(width, options.conv_resample)
                )
            )
            widths.append(width)
    return nn.ModuleList(stages), widths


def _way_up(options: ADMOptions, skips: list[int]) -> nn.ModuleList:
    """The stages from the lowest resolution up; each takes the activations with one stage's of the way down."""
    skips = list(skips)
    width = skips[-1]
    stages = []
    for level in reversed(range(len(options.channel_mult))):
        for index in range(options.num_res_blocks + 1):
            target = options.channel_mult[level] * options.model_channels
            blocks: list[nn.Module] = [ResidualBlock(width + skips.pop(), target, options)]
            width = target
            if options.resolutions[level] in options.attention_resolutions:
                blocks.append(AttentionBlock(width, options))
            if level and index == options.num_res_blocks:
                residual = options.resblock_updown
                blocks.append(
                    ResidualBlock(width, width, options, "up") if residual else Upsample(width, options.conv_resample)
                )
            stages.append(Stage(*blocks))
    return nn.ModuleList(stages)
