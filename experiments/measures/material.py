"""The images and features of an evaluation, by name: what the command line asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from experiments import data
from experiments.configuration import Configuration
from experiments.distances.classifier import IMAGE_SIZES, ClassifierFeatures
from experiments.distances.features import Features, ReferenceCache
from experiments.distances.inception import InceptionError, InceptionFeatures
from experiments.measures.options import EvaluationOptions
from experiments.measures.subject import Material

FeaturesName = Literal["auto", "classifier", "inception", "none"]
CACHE = "reference"
"""The folder of cached moments, in a run's folder or beside several."""


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
    asked: FeaturesName, dataset: str, size: int, inception: Path | None, download: bool, device: torch.device | str
) -> Features | None:
    if asked == "none":
        return None
    if asked == "classifier" or (asked == "auto" and dataset == "fashion-mnist"):
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
