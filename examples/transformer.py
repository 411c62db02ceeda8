"""A diffusion transformer (DiT, Peebles and Xie 2023) at its smallest, class-conditional, with adaLN-Zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention, silu


class Block(nn.Module):
    """Attention and a perceptron, each shifted, scaled and gated by the condition; at first the identity."""

    def __init__(self, width: int, heads: int) -> None:
        """A block of this width, a multiple of heads."""
        super().__init__()
        self.heads = heads
        self.into, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Tokens (n, length, width) under conditions (n, width)."""
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        normed = layer_norm(tokens, tokens.shape[-1:]) * (1 + scale_1) + shift_1
        q, k, v = self.into(normed).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        tokens = tokens + gate_1 * self.out(attended)
        normed = layer_norm(tokens, tokens.shape[-1:]) * (1 + scale_2) + shift_2
        return tokens + gate_2 * self.perceptron(normed)


class Transformer(nn.Module):
    """Predicts the noise in grey images (n, 1, size, size) from times in [0, 1] and labels; label `classes` is none."""

    def __init__(
        self, classes: int, size: int = 16, patch: int = 4, width: int = 64, depth: int = 3, heads: int = 4
    ) -> None:
        """Patches of patch x patch pixels, which divides size."""
        super().__init__()
        self.classes, self.width = classes, width
        self.into = nn.Conv2d(1, width, patch, stride=patch)
        self.places = nn.Parameter(0.02 * torch.randn((size // patch) ** 2, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(classes + 1, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.out = nn.ConvTranspose2d(width, 1, patch, stride=patch)

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """The predicted noise."""
        frequencies = torch.exp(math.log(1000) * torch.arange(self.width // 2, device=t.device) / (self.width // 2))
        angles = t[:, None] * frequencies.to(t)
        condition = silu(self.time(torch.cat([angles.cos(), angles.sin()], dim=1)) + self.label(labels))
        grid = self.into(x_t)
        tokens = grid.flatten(2).transpose(1, 2) + self.places
        for block in self.blocks:
            tokens = block(tokens, condition)
        tokens = layer_norm(tokens, tokens.shape[-1:])
        return self.out(tokens.transpose(1, 2).unflatten(2, grid.shape[2:]))
