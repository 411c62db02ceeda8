"""What is measured: a network with its loss and, where it is known, the process it samples by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from flatness.cli.encoding import Encoder
from flatness.cli.families.contract import Classes
from flatness.diffusion.losses import DiffusionLoss
from flatness.diffusion.sampling import SamplingProcess
from flatness.measuring.base import Loss
from flatness.modules import plain_name

Process = Callable[[Tensor | None], SamplingProcess]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Encoding:
    """How samples become what a pipeline's network takes.

    Attributes:
        encoder: the pipeline's own parts.
        rebound: the loss and the process for samples of a shape, with rows of embeddings by name.
        latents: the shape of an encoded sample at the configuration's size; None where it has none.
        multiple: what sides of images are multiples of, where other sizes are taken too; 0 where they are not.
    """

    encoder: Encoder
    rebound: Callable[[Shape, Mapping[str, Tensor]], tuple[DiffusionLoss, Process | None]]
    latents: Shape | None = None
    multiple: int = 0


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
        classes: that the network knows; None where it takes none, or nothing is known of them.
        about: where it came from and how it was trained, for records.
        applied: names of the options that said how it was trained.
        encoding: how samples are encoded for it; None where they are taken as they are.
        remarks: what a person should know of how it is measured.
    """

    label: str
    model: nn.Module
    loss: Loss
    shape: Shape | None = None
    process: Process | None = None
    no_process: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    classes: Classes | None = None
    applied: frozenset[str] = frozenset()
    encoding: Encoding | None = None
    remarks: tuple[str, ...] = ()

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
