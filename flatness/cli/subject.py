"""What is measured: a network with its loss and, where it is known, the process it samples by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flatness.compilation import plain_name
from flatness.diffusion.sampling import SamplingProcess
from flatness.measuring.base import Loss

Process = Callable[[Tensor | None], SamplingProcess]


@dataclass(frozen=True)
class Subject:
    """A network with its loss.

    Attributes:
        label: how tables call it.
        model: the network, on the CPU.
        loss: as `flatness.measuring.base` describes it; its batches are `flatness.diffusion.losses.Batch`.
        shape: of a sample as the network takes it; None where that is not known.
        process: what exposure bias is measured with, given the images' labels; None where it is not known.
        no_process: why not.
        about: where it came from and how it was trained, for records.
    """

    label: str
    model: nn.Module
    loss: Loss
    shape: tuple[int, ...] | None = None
    process: Process | None = None
    no_process: str = ""
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> int:
        """How many there are; shared ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def weights_hash(model: nn.Module) -> str:
    """The SHA-256 of all parameters and buffers: names, types, shapes and bits, in the order of the state_dict.

    The same whether the model is compiled or not.
    """
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor):
            digest.update(f"{plain_name(name)}/{tensor.dtype}/{tuple(tensor.shape)}/".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
