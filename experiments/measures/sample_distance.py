"""The Frechet distance of samples to real images, at 32 bits and with rounded weights, and what real images reach.

Standard error and bias are the jackknife's over groups of images, the reference held fixed (`jackknife`). Image i of
the samples is a function of the seed and i, so all rows are sampled from the same noise, and as groups are the same
images in every row, the jackknife's pseudo-values are kept: the differences of two rows' give their difference's error.
The floor is the distance of held-out real images that are not in the reference: samples as good as real ones have it,
at the same number of them, and no row's distance means much below it.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from experiments.distances.frechet import Features, jackknife
from experiments.measures.subject import Subject
from experiments.provenance import provenance
from experiments.sampling.chains import finite_pixels, generate
from experiments.tensor_files import read_tensors, write_tensors
from findings.checksums import parse_object
from findings.names import FULL, distance
from flatness.measuring.base import plain
from flatness.measuring.quantization import quantized

CHUNK = 1000
"""Samples whose features are kept at a time while a distance is under way."""


def of_samples(steps: int, count: int, bits: int) -> Callable[[Subject], dict[str, Any]]:
    """The distance of samples at T' = steps from weights of so many bits: per tensor, symmetric, all weights."""

    def run(subject: Subject) -> dict[str, Any]:
        with rounded(subject.network, bits):
            parts = [
                _features(subject, distance(steps, bits), range(begin, min(begin + CHUNK, count)), steps)
                for begin in range(0, count, CHUNK)
            ]
        return _distance(subject, torch.cat(parts)) | {"steps": steps, "bits": bits}

    return run


def floor(count: int) -> Callable[[Subject], dict[str, Any]]:
    """The distance of so many held-out real images; ValueError where there are fewer that the reference has not."""

    def run(subject: Subject) -> dict[str, Any]:
        there = subject.material.floor_images
        if count > there:
            raise ValueError(f"count is {count}; allowed: at most the {there} held-out images outside the reference")
        return _distance(subject, _space(subject)(subject.real_images(count, "floor")))

    return run


def rounded(network: nn.Module, bits: int) -> AbstractContextManager[nn.Module]:
    """The network with its weights rounded to so many bits, per tensor and symmetric, or as they are at 32."""
    return nullcontext(network) if bits == FULL else quantized(network, bits)


def _space(subject: Subject) -> Features:
    features = subject.material.features
    if features is None:
        raise ValueError("features is None; allowed for a distance: a feature space")
    return features


def _distance(subject: Subject, features: Tensor) -> dict[str, Any]:
    estimate = jackknife(features, subject.material.moments(), subject.options.groups, subject.options.seed)
    return dict(plain(estimate._asdict() | {"extrapolated": estimate.extrapolated, "groups": subject.options.groups}))


def _features(subject: Subject, name: str, images: range, steps: int) -> Tensor:
    """Of some samples (n, D): read where they are kept, and kept otherwise, with what they were made with.

    Raises:
        FloatingPointError: a sample is not finite.
    """
    path = None if subject.work is None else subject.work / f"{name}-{images.start:06d}.safetensors"
    there = None if path is None or not path.exists() else _read(path, subject)
    if there is not None:
        return there
    begin = time.perf_counter()
    held_out, options = subject.material.held_out, subject.options
    batches = generate(
        subject.network,
        subject.process,
        images,
        steps=steps,
        seed=options.seed,
        precision=options.sampling_precision,
        batch_size=subject.batch_size,
        progress=None,
        shape=(held_out.channels, held_out.image_size, held_out.image_size),
    )
    features = torch.cat([_space(subject)(finite_pixels(samples)) for samples in batches])
    if path is not None:
        seconds = round(time.perf_counter() - begin, 3)
        made = json.dumps({"seconds": seconds, "provenance": provenance(subject.device)})
        write_tensors(path, {"features": features}, {"made": made})
    return features


def _read(path: Path, subject: Subject) -> Tensor | None:
    """Kept features, None where they are damaged; when and with what they were made is told to the subject."""
    try:
        tensors, metadata = read_tensors(path)
        made, features = parse_object(metadata["made"]), tensors["features"]
    except (KeyError, ValueError):
        warnings.warn(f"{path} is damaged and made anew", stacklevel=2)
        return None
    subject.resumed.append(made)
    return features
