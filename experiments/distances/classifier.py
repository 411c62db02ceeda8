"""Features of a small classifier of Fashion-MNIST, which ships with the project, for want of Inception's.

The distance in these features is the *Frechet distance in classifier features*. It is no FID, and no number of the one
compares with a number of the other, nor with one in the features of another classifier or image size.

There is one network for each image size. One for all would learn to ignore what the smallest size does not hold, and
its features would then hardly see blur; trained at a single size, each is held to all detail that its images have.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from flatness import arguments

IMAGE_SIZES = (8, 16, 32)
CLASSES = 10
WIDTH = 64
WEIGHTS = Path(__file__).parent / "weights"
_STRIDES = {8: (1, 1, 1), 16: (1, 1, 2), 32: (1, 2, 2)}
_CHANNELS = (16, 32, 64)
_SIDE = 4


class Classifier(nn.Module):
    """Three convolutions, each with batch normalisation and ReLU, a hidden layer of the same kind, a linear layer.

    The hidden layer sees where things are, unlike a mean over positions: the garments are aligned.
    """

    def __init__(self, image_size: int) -> None:
        """Random weights, for square greyscale images of 8, 16 or 32 pixels a side.

        Raises:
            ValueError: another image size.
        """
        super().__init__()
        if image_size not in IMAGE_SIZES:
            raise arguments.refuse("image_size", image_size, " or ".join(map(str, IMAGE_SIZES)))
        self.image_size = image_size
        layers: list[nn.Module] = []
        channels = 1
        for out, stride in zip(_CHANNELS, _STRIDES[image_size], strict=True):
            layers += [nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        layers += [nn.MaxPool2d(2), nn.Flatten()]
        layers += [nn.Linear(channels * _SIDE**2, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(WIDTH, CLASSES)

    def features(self, images: UInt8[Tensor, "N 1 S S"]) -> Float[Tensor, "N {WIDTH}"]:
        """The hidden layer's activations, none negative."""
        return self.body(images.float() / 127.5 - 1)

    def forward(self, images: UInt8[Tensor, "N 1 S S"]) -> Float[Tensor, "N {CLASSES}"]:
        """The logits of the ten classes."""
        return self.head(self.features(images))


def weights_path(image_size: int) -> Path:
    """The weights that ship with the project; its record lies beside it as JSON."""
    return WEIGHTS / f"fashion_mnist_classifier_{image_size}.safetensors"


def read_record(weights: Path) -> dict[str, Any]:
    """What is known of a file of weights: script, seed, versions, test accuracy, digest.

    Raises:
        ValueError: no readable record beside the weights.
    """
    path = weights.with_suffix(".json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); allowed: the JSON that training writes") from error
    if not isinstance(record, dict) or not isinstance(record.get("sha256"), str):
        raise ValueError(f"{path} names no sha256; allowed: the JSON that training writes")
    return record


class ClassifierFeatures:
    """The classifier's penultimate layer as a feature space; fulfils `Features`.

    Attributes:
        name: names classifier and image size.
        width: features an image.
        identity: SHA-256 of the weights' file.
        network: the classifier, in evaluation mode, without gradients.
    """

    def __init__(
        self, image_size: int, device: torch.device | str = "cpu", batch: int = 500, weights: Path | None = None
    ) -> None:
        """Load the shipped weights, or others of the same form.

        Args:
            image_size: 8, 16 or 32.
            device: where to compute.
            batch: most images in one pass.
            weights: a safetensors file with its JSON record beside it; the shipped one by default.

        Raises:
            ValueError: another image size or batch; weights that are not there, or not what their record says.
        """
        self.network = Classifier(image_size)
        self._batch = arguments.count("batch", batch, at_least=1)
        self._device = torch.device(device)
        path = weights or weights_path(image_size)
        record = read_record(path)
        if record.get("image_size") != image_size:
            raise ValueError(f"{path} is for image size {record.get('image_size')}; allowed: {image_size}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"weights at {path} cannot be read ({error})") from error
        self.identity = hashlib.sha256(content).hexdigest()
        if self.identity != record["sha256"]:
            raise ValueError(f"{path} has SHA-256 {self.identity}; allowed: its record's, {record['sha256']}")
        self.network.load_state_dict(safetensors.torch.load(content))
        self.network.to(self._device).eval().requires_grad_(False)
        self.name = f"fashion-mnist-classifier-{image_size}"
        self.width = WIDTH
        self.record = record

    def __call__(self, images: UInt8[Tensor, "N 1 S S"]) -> Float[Tensor, "N {WIDTH}"]:
        """Features of images, float32, on the CPU.

        Raises:
            ValueError: images of another type, size or number of channels.
        """
        pixels = self._checked(images)
        with torch.no_grad():
            parts = [self.network.features(part.to(self._device)).cpu() for part in pixels.split(self._batch)]
        return torch.cat(parts) if parts else torch.empty(0, WIDTH)

    def classes(self, images: UInt8[Tensor, "N 1 S S"]) -> Int[Tensor, " N"]:
        """The most likely class of each image.

        Raises:
            ValueError: images of another type, size or number of channels.
        """
        with torch.no_grad():
            return self.network.head(self(images).to(self._device)).argmax(dim=1).cpu()

    def _checked(self, images: Tensor) -> Tensor:
        size = self.network.image_size
        fits = isinstance(images, Tensor) and images.dtype == torch.uint8 and images.shape[1:] == (1, size, size)
        if not fits:
            raise arguments.refuse("images", images, f"a uint8 tensor of shape (N, 1, {size}, {size})")
        return images
