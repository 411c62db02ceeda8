"""Small networks of many kinds, as sources of the command line: functions that return (model, loss[, process])."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from flatness.adapters import Batch, DiffusionLoss, edm_loss, epsilon_loss, flow_loss, v_loss
from flatness.noise_paths import DiscretePath
from flatness.sampling_process import sampling_process

BARS = torch.linspace(0.98, 0.02, 12, dtype=torch.float64)
SHAPE = (1, 4, 4)


def seeded(kind: type[nn.Module], seed: int = 0) -> Any:
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


def mlp() -> tuple[nn.Module, DiffusionLoss]:
    """The noise's prediction."""
    return seeded(MLP), epsilon_loss(BARS)


def other_mlp() -> tuple[nn.Module, DiffusionLoss]:
    """Another one's."""
    return seeded(MLP, 1), epsilon_loss(BARS)


def crowded() -> tuple[nn.Module, DiffusionLoss]:
    """With all that a measure could disturb."""
    return seeded(Crowded), v_loss(BARS)


def tied_last() -> tuple[nn.Module, DiffusionLoss]:
    """Without a readout of its own."""
    return seeded(TiedLast), flow_loss()


def dit() -> tuple[nn.Module, DiffusionLoss, Any]:
    """Class-conditional, with a process whose variance is learned."""
    model, loss = seeded(DiT), epsilon_loss(BARS, labels="y")
    return model, loss, sampling_process(model, loss, variance="learned", clip=1.0)


def narrow() -> tuple[nn.Module, DiffusionLoss]:
    """Weights in bfloat16, EDM's loss."""
    return seeded(Narrow), edm_loss()


def compiled() -> tuple[nn.Module, DiffusionLoss]:
    """Wrapped by torch.compile."""
    return torch.compile(seeded(MLP), backend="eager"), epsilon_loss(BARS)  # type: ignore[return-value]


def own_loss() -> tuple[nn.Module, Any]:
    """A loss of one's own, on the batches of the command line."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        assert batch.noise is not None
        assert batch.u is not None
        output = model(batch.x_0 + batch.noise, len(BARS) * batch.u)
        return (output - batch.x_0).abs().flatten(1).mean(1)

    return seeded(MLP), loss


def broken() -> tuple[nn.Module, Any]:
    """Finite on two samples, and not on more."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        output = model(batch.x_0, torch.zeros(len(batch.x_0)))
        return output.flatten(1).mean(1) / (1.0 if len(batch.x_0) == 2 else 0.0)

    return seeded(MLP), loss


def hungry() -> tuple[nn.Module, Any]:
    """Wants more memory than there is."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    return seeded(MLP), loss


def hungry_later() -> tuple[nn.Module, Any]:
    """Has memory for six samples at once, and for no more."""

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        if len(batch.x_0) > 6:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return DiffusionLoss(DiscretePath(BARS))(model, batch)

    return seeded(MLP), loss


def nothing() -> int:
    """No source."""
    return 3
