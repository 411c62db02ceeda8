"""Networks, images, features and options so small that a row is measured in a second."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from experiments.configuration import Configuration
from experiments.data import Images
from experiments.diffusion import Process, ProcessOptions
from experiments.measures.options import EvaluationOptions
from experiments.measures.subject import Material, Subject
from tests.experiments.training.small_runs import BASE

FINGERPRINT = "sha256:" + "0" * 64
OPTIONS = EvaluationOptions(
    images=16,
    lpf_draws=2,
    curve_rms=(0.01,),
    curve_draws=2,
    gradient_distances=(0.1,),
    surface_points=3,
    rise_bits=(4,),
    readout_draws=2,
    sampling_steps=(2, 3),
    exposure_images=8,
    samples=(24, 30),
    bits=(3,),
    quantized_steps=(2,),
    groups=4,
)
CONFIGURATION: Configuration = dataclasses.replace(BASE, steps=4)


class PixelFeatures:
    """Features that the tests can compute themselves: the pixels in [-1, 1]."""

    def __init__(self, width: int = 16) -> None:
        """For images of so many pixels."""
        self.name, self.width, self.identity = "pixels", width, "0" * 64

    def __call__(self, images: UInt8[Tensor, "N C H W"]) -> Float[Tensor, "N D"]:
        """The pixels."""
        return images.flatten(1).float() / 127.5 - 1.0


def images(split: str, count: int = 40, size: int = 4, spread: float = 0.6) -> Images:
    """Normal ones of this standard deviation, other ones for each split."""
    draw = torch.Generator().manual_seed(SPLITS[split])
    values = spread * torch.randn(count, 1, size, size, generator=draw)
    pixels = values.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return Images(pixels, "fashion-mnist", split, FINGERPRINT)


SPLITS = {"train": 1, "test": 2}


def material(features: Any = None, **changes: Any) -> Material:
    """Of small images; without distances where no features are given."""
    return Material(images("test", **changes), images("train", **changes), features)


class Readout(nn.Module):
    """ADM's calling convention with one layer of weights: a convolution of fixed functions of x and t."""

    def __init__(self, seed: int = 0) -> None:
        """Weights of a size that makes a loss of about 1."""
        super().__init__()
        self.last = nn.Conv2d(3, 2, 3, padding=1)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.last.weight.copy_(0.3 * torch.randn(self.last.weight.shape, generator=draw))
            self.bias.copy_(0.3 * torch.randn(2, generator=draw))

    @property
    def bias(self) -> Tensor:
        """(2,)."""
        assert self.last.bias is not None
        return self.last.bias

    @staticmethod
    def features(x: Tensor, t: Tensor) -> Tensor:
        """(N, 3, H, W)."""
        time = (t / 1000.0).view(-1, 1, 1, 1).to(x)
        return torch.cat([x, torch.relu(x) + time, torch.sin(3 * x) * (1 - time)], dim=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The noise, and the variance's channel."""
        return self.last(self.features(x, t))


def subject(network: nn.Module, options: EvaluationOptions = OPTIONS, **changes: Any) -> Subject:
    """The network under the cosine process of 1000 steps."""
    arguments: dict[str, Any] = {"material": material(), "batch_size": 7} | changes
    return Subject(network.eval(), Process(ProcessOptions()), options, **arguments)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder by name, hidden ones too."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
