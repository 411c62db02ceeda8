"""The parts of ADM. Attribute names and positions in the containers are the published checkpoints' keys.

Activations are held in channels_last memory format throughout: convolutions are fastest so, and attention reads the
pixels as tokens without a copy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from experiments.adm.options import NORM_GROUPS, ADMOptions


def zeroed(module: nn.Module) -> nn.Module:
    """The module with all its parameters at zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class GroupNorm(nn.GroupNorm):
    """GroupNorm over 32 groups, computed in float32 whatever the input's type, and returned in the input's type."""

    def __init__(self, channels: int) -> None:
        """Scale 1 and shift 0 for the given width."""
        super().__init__(NORM_GROUPS, channels, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (N, C, H, W); returns channels_last."""
        low = x.dtype in (torch.float16, torch.bfloat16)
        # The CUDA kernel takes and returns contiguous channels alone: the layout is changed where the type is, in one
        # pass each way, and the convolution that follows gets the one it is fast on.
        layout = torch.contiguous_format if x.is_cuda else torch.preserve_format
        wide = x.to(dtype=torch.float32 if low else x.dtype, memory_format=layout)
        return super().forward(wide).to(dtype=x.dtype, memory_format=torch.channels_last)


class Projection(nn.Conv1d):
    """A linear map of tokens (N, L, C), with the weight (out, C, 1) of the 1-wide convolution it is in checkpoints."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Weights as of a convolution of the given widths."""
        super().__init__(in_channels, out_channels, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, C) -> (N, L, out)."""
        return functional.linear(tokens, self.weight.squeeze(-1), self.bias)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, computed as the matrix product that it is on channels_last activations."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Weights as of a convolution of the given widths."""
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out, H, W)."""
        pixels = x.permute(0, 2, 3, 1)
        return functional.linear(pixels, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """Halve height and width: a convolution with stride 2, or the mean over 2x2."""

    def __init__(self, channels: int, convolve: bool) -> None:
        """Convolve, or take the mean."""
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if convolve else nn.AvgPool2d(2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H/2, W/2); the embedding is not used."""
        return self.op(x)


class Upsample(nn.Module):
    """Double height and width: nearest neighbour, then a convolution if so asked."""

    def __init__(self, channels: int, convolve: bool) -> None:
        """Convolve afterwards, or not."""
        super().__init__()
        if convolve:
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.convolve = convolve

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 2H, 2W); the embedding is not used."""
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        return self.conv(x) if self.convolve else x


class ResidualBlock(nn.Module):
    """Two convolutions around the timestep's embedding, optionally resampling before the first one.

    Args:
        in_channels, out_channels: widths before and after.
        options: the network's.
        resample: "up" or "down" for a block that changes the resolution; None for one that does not.
    """

    def __init__(self, in_channels: int, out_channels: int, options: ADMOptions, resample: str | None = None) -> None:
        """Fresh weights; the last convolution is zero, so the block starts as its skip connection."""
        super().__init__()
        self.resample = resample
        self.film = options.use_scale_shift_norm
        self.checkpointed = options.activation_checkpointing
        self.in_layers = nn.Sequential(
            GroupNorm(in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        width = out_channels * (2 if self.film else 1)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(4 * options.model_channels, width))
        self.out_layers = nn.Sequential(
            GroupNorm(out_channels),
            nn.SiLU(),
            nn.Dropout(options.dropout),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        same = in_channels == out_channels
        self.skip_connection = nn.Identity() if same else Pointwise(in_channels, out_channels)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, C_in, H, W) and (N, 4 model_channels) -> (N, C_out, H', W')."""
        if self.checkpointed and torch.is_grad_enabled():
            return checkpoint(self._forward, x, embedding, use_reentrant=False)
        return self._forward(x, embedding)

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            return functional.avg_pool2d(x, 2)
        return functional.interpolate(x, scale_factor=2, mode="nearest") if self.resample == "up" else x

    def _forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        norm, activation, convolution = self.in_layers
        h = convolution(self._resampled(activation(norm(x))))
        condition = self.emb_layers(embedding).to(h.dtype)[:, :, None, None]
        norm, activation, dropout, convolution = self.out_layers
        if self.film:
            scale, shift = condition.chunk(2, dim=1)
            h = torch.addcmul(shift, norm(h), 1 + scale)
        else:
            h = norm(h + condition)
        return self.skip_connection(self._resampled(x)) + convolution(dropout(activation(h)))


class AttentionBlock(nn.Module):
    """Self-attention over the pixels, added to its input."""

    def __init__(self, channels: int, options: ADMOptions) -> None:
        """Fresh weights; the output projection is zero, so the block starts as the identity."""
        super().__init__()
        self.heads = options.num_heads or channels // (options.num_head_channels or channels)
        self.new_order = options.use_new_attention_order
        self.checkpointed = options.activation_checkpointing
        self.norm = GroupNorm(channels)
        self.qkv = Projection(channels, 3 * channels)
        self.proj_out = zeroed(Projection(channels, channels))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, C, H, W) -> the same shape; the embedding is not used."""
        if self.checkpointed and torch.is_grad_enabled():
            return checkpoint(self._forward, x, use_reentrant=False)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(n, height * width, channels)
        projected = self.qkv(tokens)
        head = channels // self.heads
        if self.new_order:
            q, k, v = projected.view(n, height * width, 3, self.heads, head).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = projected.view(n, height * width, self.heads, 3, head).permute(3, 0, 2, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(q, k, v)
        h = self.proj_out(attended.transpose(1, 2).reshape(n, height * width, channels))
        return x + h.view(n, height, width, channels).permute(0, 3, 1, 2)


class Stage(nn.Sequential):
    """Blocks in a row; each takes the activations and the embedding."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """Apply the blocks in order."""
        for block in self:
            x = block(x, embedding)
        return x


class InputConvolution(nn.Conv2d):
    """The convolution that the images enter through; a block like the others."""

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:  # type: ignore[override]
        """(N, channels, H, W) -> (N, C, H, W); the embedding is not used."""
        return super().forward(x)
