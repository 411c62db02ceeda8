"""Small networks of many kinds, of images (1, 4, 4) or (1, 8, 8), that no instrument has been written for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from flatness.optional_imports import imported_diffusers

BARS = torch.linspace(0.98, 0.02, 12, dtype=torch.float64)
SHAPE = (1, 4, 4)


def seeded(kind: Callable[[], nn.Module], seed: int = 0) -> Any:
    """A network with weights that are a function of the seed; torch's generator goes on as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind()


class MLP(nn.Module):
    """Three layers on all pixels and the time."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        self.first, self.second, self.last = nn.Linear(17, 12), nn.Linear(12, 12), nn.Linear(12, 16)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Of x's shape."""
        hidden = torch.cat([x.flatten(1), t.to(x)[:, None] / len(BARS)], 1)
        hidden = self.second(self.first(hidden).tanh()).tanh()
        output: Tensor = self.last(hidden)
        return output.view_as(x)


class Crowded(nn.Module):
    """Batch norm in training mode, dropout, frozen and tied weights, a buffer that counts, a transposed weight."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)
        self.tied, self.frozen, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.tied.weight = self.first.weight
        self.frozen.requires_grad_(False)
        self.last.weight.data = self.last.weight.data.t()
        self.calls: Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Of x's shape."""
        self.calls.add_(1)
        hidden = self.drop(self.norm(self.first(x.flatten(1)) + t.to(x)[:, None]))
        output: Tensor = self.last(self.frozen(self.tied(hidden.tanh())))
        return output.view_as(x)


class TiedLast(nn.Module):
    """The readout's weight is the first layer's, so that it has no readout of its own."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        self.first, self.last = nn.Linear(16, 16), nn.Linear(16, 16)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Of x's shape."""
        output: Tensor = self.last(self.first(x.flatten(1)).tanh())
        return output.view_as(x)


class DiT(nn.Module):
    """A transformer on patches, conditioned by adaptive norms, with a learned variance (Peebles and Xie, 2023)."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, stride=2)
        self.places = nn.Parameter(0.1 * torch.randn(1, 4, 8))
        self.time, self.label = nn.Linear(1, 8), nn.Embedding(3, 8)
        self.norm, self.modulation = nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 24)
        self.qkv, self.mix = nn.Linear(8, 24), nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
        self.final = nn.Linear(8, 8)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        """Twice x's channels."""
        hidden = self.patches(x).flatten(2).transpose(1, 2) + self.places
        condition = self.time(t.to(x)[:, None] / len(BARS)) + self.label(y)
        shift, scale, gate = self.modulation(functional.silu(condition))[:, None].chunk(3, dim=-1)
        q, k, v = (
            part.unflatten(-1, (2, 4)).transpose(1, 2)
            for part in self.qkv(self.norm(hidden) * (1 + scale) + shift).chunk(3, dim=-1)
        )
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        hidden = hidden + gate * attended
        tokens = self.final(self.norm(hidden + self.mix(hidden)))
        return functional.fold(tokens.transpose(1, 2), (4, 4), 2, stride=2)


class Narrow(MLP):
    """In bfloat16."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        self.bfloat16()


class Mixed(MLP):
    """Each layer in a precision of its own, the frozen one's bias without gradient."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        self.second.bfloat16()
        self.last.double()
        self.second.bias.requires_grad_(False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Of x's shape."""
        hidden = torch.cat([x.flatten(1), t.to(x)[:, None] / len(BARS)], 1)
        hidden = self.second(self.first(hidden).tanh().to(self.second.weight.dtype)).tanh()
        output: Tensor = self.last(hidden.to(self.last.weight.dtype))
        return output.view_as(x)


class Strided(nn.Module):
    """Convolutions in channels_last around a batch norm and two layers, the weight of one of them transposed."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.inner, self.outer = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
        self.last = nn.Conv2d(6, 1, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.inner.weight.data = self.inner.weight.data.t()
        self.norm.running_mean.uniform_(-0.3, 0.3)  # type: ignore[union-attr]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Of x's shape."""
        hidden = self.norm(self.first(x) + t.to(x)[:, None, None, None] / len(BARS)).relu()
        hidden = self.outer(self.inner(hidden.movedim(1, -1)).tanh()).movedim(-1, 1)
        output: Tensor = self.last(hidden)
        return output


class Viewed(Strided):
    """The same with one weight tied to the other by its memory alone, as its transpose."""

    def __init__(self) -> None:
        """Fresh weights."""
        super().__init__()
        self.outer.weight = nn.Parameter(self.inner.weight.data.t())

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """Keep the tie in another precision too."""
        super()._apply(*args, **kwargs)
        self.outer.weight.data = self.inner.weight.data.t()
        return self


def unet(classes: int | None = None) -> nn.Module:
    """diffusers' own, as small as it gets, with attention."""
    diffusers = imported_diffusers()
    if diffusers is None:
        pytest.skip("diffusers is not installed")
    network: nn.Module = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(4, 8), norm_num_groups=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4, num_class_embeds=classes,
    )  # fmt: skip
    return network
