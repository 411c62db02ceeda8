"""Small networks of many kinds, as sources of the command line: functions that return (model, loss[, process])."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor, nn

from flatness.diffusion.losses import Batch, DiffusionLoss, edm_loss, epsilon_loss, flow_loss, v_loss
from flatness.diffusion.noise_paths import DiscretePath
from flatness.diffusion.sampling import sampling_process
from tests.flatness.networks import BARS, MLP, Crowded, DiT, Narrow, TiedLast, seeded, unet


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


def diffusers_unet() -> tuple[nn.Module, DiffusionLoss]:
    """Of another package, whose output is an object."""
    return seeded(unet), epsilon_loss(BARS)


def labelled_unet() -> tuple[nn.Module, DiffusionLoss]:
    """The same, class-conditional."""
    return seeded(functools.partial(unet, 3)), epsilon_loss(BARS, labels="class_labels")


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


def stored_nowhere() -> tuple[nn.Module, DiffusionLoss]:
    """A network whose weights have shapes alone."""
    return seeded(MLP).to("meta"), epsilon_loss(BARS)


def nothing() -> int:
    """No source."""
    return 3
