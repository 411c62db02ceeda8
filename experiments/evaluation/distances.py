"""The Frechet distance of samples to real images, at 32 bits and with rounded weights, and what real images reach.

Standard error and bias are the jackknife's over groups of images, the reference held fixed (see `error`). Image i of
the samples is a function of the seed and i, so all rows are sampled from the same noise. The floor is the distance of
as many held-out real images: samples as good as real ones have it, and no row's distance means much below it.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.data import to_uint8
from experiments.evaluation.error import jackknife
from experiments.evaluation.features import Features
from experiments.evaluation.sampling import generate
from experiments.evaluation.subject import Subject
from experiments.files import write_whole
from flatness.measurement import plain
from flatness.quantization import quantized

FULL = 32
"""Bits of the weights as they are."""
CHUNK = 1000
"""Samples whose features are kept at a time while a distance is under way."""


def of_samples(steps: int, count: int, bits: int) -> Callable[[Subject], dict[str, Any]]:
    """The distance of samples at T' = steps from weights of so many bits: per tensor, symmetric, all weights."""

    def run(subject: Subject) -> dict[str, Any]:
        with _rounded(subject.network, bits):
            parts = [
                _features(subject, f"frechet-{steps}-{bits}", range(begin, min(begin + CHUNK, count)), steps)
                for begin in range(0, count, CHUNK)
            ]
        return _distance(subject, torch.cat(parts)) | {"steps": steps, "bits": bits}

    return run


def floor(count: int) -> Callable[[Subject], dict[str, Any]]:
    """The distance of held-out real images: `count` of them, or all where there are fewer."""

    def run(subject: Subject) -> dict[str, Any]:
        return _distance(subject, _space(subject)(subject.real_images(count, "floor")))

    return run


def _rounded(network: nn.Module, bits: int) -> AbstractContextManager[nn.Module]:
    return nullcontext(network) if bits == FULL else quantized(network, bits)


def _space(subject: Subject) -> Features:
    features = subject.material.features
    if features is None:
        raise ValueError("features is None; allowed for a distance: a feature space")
    return features


def _distance(subject: Subject, features: Tensor) -> dict[str, Any]:
    found = jackknife(features, subject.material.moments(), subject.options.groups, subject.options.seed)
    return dict(plain(found._asdict() | {"extrapolated": found.extrapolated, "groups": subject.options.groups}))


def _features(subject: Subject, name: str, images: range, steps: int) -> Tensor:
    """Of some samples (n, D): read where they are kept, and kept otherwise."""
    kept = None if subject.work is None else subject.work / f"{name}-{images.start:06d}.npy"
    if kept is not None and kept.exists():
        return torch.from_numpy(np.load(kept, allow_pickle=False))
    held_out, process, options = subject.material.held_out, subject.process, subject.options
    batches = generate(
        subject.network,
        process,
        images,
        steps=min(steps, len(process)),
        seed=options.seed,
        precision=options.sampling_precision,
        batch_size=subject.batch_size,
        progress=None,
        shape=(held_out.channels, held_out.image_size, held_out.image_size),
    )
    found = torch.cat([_space(subject)(to_uint8(samples.images).cpu()) for samples in batches])
    if kept is not None:
        stream = io.BytesIO()
        np.save(stream, found.numpy(), allow_pickle=False)
        write_whole(kept, stream.getvalue())
    return found
