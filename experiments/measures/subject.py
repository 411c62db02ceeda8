"""What is measured: one network, with everything that the measures hold fixed for all rows of the tables.

`gathered` finds images and features by name, as the command line asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from experiments import data
from experiments.configuration import Configuration
from experiments.data import Images, to_float
from experiments.diffusion.process import Losses, Process
from experiments.distances.classifier import IMAGE_SIZES, ClassifierFeatures
from experiments.distances.frechet import Features, Moments, ReferenceCache, moments_of
from experiments.distances.inception import InceptionError, InceptionFeatures
from experiments.measures.options import EvaluationOptions
from experiments.training.validation import fixed_batch
from flatness import arguments
from flatness.weights import derived_seed

GRADIENT_BATCH = 32
"""Images in one backward pass: in float32 some 3 GiB for CIFAR-10's network, 25 GiB for the tower's."""
FeaturesName = Literal["auto", "classifier", "inception", "none"]
CACHE = "reference"
"""The folder of cached moments, in a run's folder or beside several."""


class HeldOutBatch(NamedTuple):
    """Part of the held-out images, on the network's device: x_0, x_t and noise (n, C, H, W), steps t (n,)."""

    x_0: Tensor
    x_t: Tensor
    noise: Tensor
    t: Tensor


class Material(NamedTuple):
    """What all rows share.

    Attributes:
        held_out: images that no run has trained on.
        reference: real images that samples are compared with.
        features: in which; None where distances are left out.
        cache: of the reference's moments; None to compute them at each use.
    """

    held_out: Images
    reference: Images
    features: Features | None
    cache: ReferenceCache | None = None

    @property
    def floor_images(self) -> int:
        """Real images that the reference has not seen, whose distance is what samples can reach at best."""
        inside = self.reference.split in ("all", self.held_out.split)
        return 0 if inside else len(self.held_out)

    def moments(self) -> Moments:
        """The reference's moments.

        Raises:
            ValueError: there are no features.
        """
        if self.features is None:
            raise ValueError("features is None; allowed for a distance: a feature space")
        if self.cache is not None:
            return self.cache.moments(self.reference, self.features)
        return moments_of(self.reference.pixels, self.features)


@dataclass(frozen=True)
class Subject:
    """One network, as the measures see it.

    Attributes:
        network: (x, timesteps of the original process) -> output, with ADM's channels; in evaluation mode, on the
            device where everything is computed.
        process: the whole one that it was trained in.
        options: of all measures.
        material: images and features.
        batch_size: images in one pass; changes results by rounding only.
        work: where unfinished measures keep what they have; None to keep nothing.
        gradient_batch: images in one backward pass, which keeps what a forward pass lets go; as `batch_size` otherwise.
        resumed: seconds and provenance of what a measure found kept by an earlier process.
        run: that trained the network, where the gradient over its own batches is measured.
    """

    network: nn.Module
    process: Process
    options: EvaluationOptions
    material: Material
    batch_size: int = 128
    work: Path | None = None
    gradient_batch: int = GRADIENT_BATCH
    resumed: list[dict[str, Any]] = field(default_factory=list)
    run: Configuration | None = None

    def __post_init__(self) -> None:
        """Check what the measures rely on."""
        arguments.module("network", self.network)
        arguments.count("batch_size", self.batch_size, at_least=1)
        arguments.count("gradient_batch", self.gradient_batch, at_least=1)
        if any(module.training for module in self.network.modules()):
            raise ValueError("network is in training mode; allowed: evaluation mode, as dropout would be on")

    @property
    def device(self) -> torch.device:
        """Of the network's weights."""
        return next(self.network.parameters()).device

    @cached_property
    def batches(self) -> Sequence[HeldOutBatch]:
        """The held-out images with their timesteps and noise: a function of the options and the images alone."""
        chosen = self.material.held_out
        count = min(self.options.images, len(chosen))
        fixed = fixed_batch(chosen, self.process, count, derived_seed("evaluation", self.options.seed))
        batches = []
        for part in torch.arange(count).split(self.batch_size):
            x_0, t, noise = (tensor[part].to(self.device) for tensor in (fixed.x_0, fixed.t, fixed.noise))
            batches.append(HeldOutBatch(x_0, self.process.q_sample(x_0, t, noise), noise, t))
        return batches

    @property
    def gradient_batches(self) -> Sequence[HeldOutBatch]:
        """The same images in parts that a backward pass has memory for."""
        gradient_batches = []
        for batch in self.batches:
            parts = (tensor.split(self.gradient_batch) for tensor in batch)
            gradient_batches += [HeldOutBatch(*part) for part in zip(*parts, strict=True)]
        return gradient_batches

    def losses(self, network: nn.Module, batch: HeldOutBatch) -> Losses:
        """The training loss of each image and its parts, (n,)."""
        output = network(batch.x_t, self.process.network_timesteps(batch.t))
        return self.process.losses(output, batch.x_0, batch.x_t, batch.t, batch.noise)

    def objective(self, network: nn.Module, batch: HeldOutBatch) -> Tensor:
        """The loss whose flatness is measured, of each image, (n,)."""
        losses = self.losses(network, batch)
        return losses.mse if self.options.objective == "mse" else losses.loss

    def squared_error(self, network: nn.Module, batch: HeldOutBatch) -> Tensor:
        """The mean squared error of the predicted noise, of each image, (n,)."""
        return self.losses(network, batch).mse

    def measured(self, measure: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        """A measure of `flatness`, of the objective on these images; the seed is the options' where none is given."""
        settings = {"seed": self.options.seed, **settings}
        return measure(self.network, self.objective, self.batches, *arguments, **settings)

    def real_images(self, count: int, label: str) -> Tensor:
        """Up to so many held-out images (n, C, H, W), uint8: a function of the options, the images and the label."""
        images = self.material.held_out
        seed = derived_seed("evaluation", label, self.options.seed)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        return images.gather(order[:count])

    def scaled_images(self, count: int, label: str) -> Tensor:
        """The same as the network knows them: in [-1, 1], on its device."""
        return to_float(self.real_images(count, label)).to(self.device)


def gathered(
    configuration: Configuration,
    options: EvaluationOptions,
    folder: Path,
    *,
    root: Path | None = None,
    features: FeaturesName = "auto",
    inception: Path | None = None,
    download: bool = False,
    device: torch.device | str = "cpu",
) -> Material:
    """Everything that rows of this configuration are measured with.

    Args:
        configuration: names the data set and the image size.
        options: name the reference's split.
        folder: the cache of moments is made in it.
        root: the data root.
        features: "auto" takes the shipped classifier for Fashion-MNIST and Inception for all else; "none" leaves
            distances out.
        inception: the file of Inception's weights, where they are not in torch's folder.
        download: fetch Inception's weights where they are missing.
        device: where features are computed.

    Raises:
        ValueError: images, or the features' weights, are not there.
    """
    name, size = configuration.dataset, configuration.network.image_size
    held_out = data.load(name, "test", size, root)
    reference = data.load(name, options.reference_split, size, root)
    space = _space(features, name, size, inception, download, device)
    return Material(held_out, reference, space, ReferenceCache(folder / CACHE))


def _space(
    choice: FeaturesName, dataset: str, size: int, inception: Path | None, download: bool, device: torch.device | str
) -> Features | None:
    if choice == "none":
        return None
    if choice == "classifier" or (choice == "auto" and dataset == "fashion-mnist"):
        if dataset != "fashion-mnist" or size not in IMAGE_SIZES:
            raise ValueError(
                f"features is 'classifier' for {dataset} at {size} pixels; allowed: for fashion-mnist at "
                f"{' or '.join(map(str, IMAGE_SIZES))}"
            )
        return ClassifierFeatures(size, device)
    try:
        return InceptionFeatures(inception, device, download=download)
    except InceptionError as error:
        raise ValueError(f"{error}; --features none leaves distances out") from error
