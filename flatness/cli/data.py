"""Samples from a folder or a zip of images, an .npz or an .npy, as the network knows them.

Which samples: a random choice without replacement, a function of the seed and of how many there are. Images are
resized or cropped only when told; uint8 is scaled to [-1, 1] and floats are taken as they are. What was passed over or
converted on the way is said and recorded (`Data.remarks`).
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flatness.cli.arrays import Arrays, checked_labels, checked_samples, read_arrays, remark, tensor_of
from flatness.cli.errors import CommandError
from flatness.cli.families.contract import Classes
from flatness.cli.image_data import ImageSource, Pictures, decoded, dimensions, is_grey_image
from flatness.cli.options import DataOptions
from flatness.images import PIXEL_LIMIT
from flatness.weights import derived_seed

Shape = tuple[int, ...]
ALLOWED = "--data is a folder of images, a zip of them, an .npz or an .npy"


@dataclass(frozen=True)
class Data:
    """Samples that are not read yet.

    Attributes:
        name: of the file or folder.
        available: how many there are.
        note: what a person should know of them, or "".
        latents: "scaled" or "raw" where the samples are a pipeline's latents.
    """

    name: str
    available: int
    note: str = ""
    latents: str | None = None

    def chosen(self, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """So many samples (count, ...), float32, and their labels (count, ...) where there are any.

        Raises:
            CommandError: a file cannot be read, or images are of different sizes.
        """
        raise NotImplementedError

    def every_label(self) -> Tensor | None:
        """The labels of all samples, where they are known without reading these."""
        return None

    def captions(self, count: int, seed: int) -> list[str] | None:
        """The captions of the same samples as `chosen`; None where there are none.

        Raises:
            CommandError: some samples have one and others have none.
        """
        return None

    def embeddings(self, count: int, seed: int) -> dict[str, Tensor]:
        """Precomputed embeddings of the same samples as `chosen`, by name."""
        return {}

    def remarks(self) -> list[str]:
        """What a person should know, after samples were read: the note, files passed over, conversions."""
        return [self.note] if self.note else []

    def indices(self, count: int, seed: int) -> list[int]:
        """Which samples are chosen."""
        generator = torch.Generator().manual_seed(derived_seed("samples", seed))
        chosen: list[int] = torch.randperm(self.available, generator=generator)[:count].tolist()
        return chosen


def found_data(
    options: DataOptions, shape: Shape | None, classes: Classes | None = None, latents: Shape | None = None
) -> Data:
    """The samples that the options name.

    Args:
        options: path, size and layout.
        shape: of a sample as the network takes it; None where any will do.
        classes: that the network knows; None for a network without labels, or one of which nothing is known.
        latents: the shape of samples that are already encoded, where there is such a thing.

    Raises:
        CommandError: there are none, they cannot be read, or they do not fit the network; or an option does not apply.
    """
    if options.data is None:
        raise CommandError("--data is missing: a folder or zip of images, an .npz or an .npy")
    path = Path(options.data)
    ending = path.suffix.lower()
    if path.is_dir() or (path.is_file() and ending == ".zip" and zipfile.is_zipfile(path)):
        if options.layout is not None:
            raise CommandError("--layout is for arrays; images say where their channels are")
        if options.latents is not None:
            raise CommandError("--latents is for arrays of latents; images are encoded here")
        return _pictures(path, options, shape, classes)
    if not path.is_file():
        raise CommandError(f"{path} does not exist; {ALLOWED}")
    if ending not in (".npz", ".npy"):
        what = "is no whole zip file" if ending == ".zip" else "is not read"
        raise CommandError(f"{path} {what}; {ALLOWED}")
    for name in ("resize", "pixel_limit"):
        if getattr(options, name) is not None:
            flag = name.replace("_", "-")
            raise CommandError(f"--{flag} is for folders of images; arrays are taken at the size they have")
    return _array(path, options, shape, classes, latents)


@dataclass(frozen=True)
class _Array(Data):
    arrays: Arrays = field(default_factory=lambda: Arrays(np.zeros((0, 1))))  # samples channels first
    labels: Tensor | None = None
    caption: str | None = None

    def chosen(self, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
        indices = self.indices(count, seed)
        x = tensor_of(self.arrays.values[indices])
        if not bool(x.isfinite().all()):
            raise CommandError(f"{self.name} has entries that are not finite")
        return x, None if self.labels is None else self.labels[indices]

    def every_label(self) -> Tensor | None:
        return self.labels

    def captions(self, count: int, seed: int) -> list[str] | None:
        if self.caption is not None or self.arrays.captions is None:
            return None if self.caption is None else [self.caption] * count
        captions = self.arrays.captions
        if captions.dtype.kind not in "US" or captions.shape != (self.available,):
            wrong = f"{self.name} holds captions of shape {captions.shape}, {captions.dtype}"
            raise CommandError(f"{wrong}; allowed: {self.available} strings (a numpy array of type U)")
        every = np.char.decode(captions, "utf-8") if captions.dtype.kind == "S" else captions
        return [str(every[index]) for index in self.indices(count, seed)]

    def embeddings(self, count: int, seed: int) -> dict[str, Tensor]:
        tensors = {}
        for name, values in self.arrays.embeddings.items():
            if len(values) != self.available or values.dtype.kind not in "fiub":
                wrong = f"{self.name} holds {name} of shape {values.shape}, {values.dtype}"
                raise CommandError(f"{wrong}; allowed: numbers ({self.available}, ...)")
            tensors[name] = tensor_of(values[self.indices(count, seed)].astype(np.float32))
        return tensors


def _array(
    path: Path, options: DataOptions, shape: Shape | None, classes: Classes | None, latents: Shape | None
) -> Data:
    arrays = read_arrays(path)
    encoded = latents is not None and latents in _either_way(arrays.values.shape[1:])
    values = checked_samples(path, arrays.values, options.layout, latents if encoded else shape)
    if encoded and options.latents is None:
        raise CommandError(
            f"{path} holds latents, {latents}: say --latents scaled where they are as the network takes them, or "
            "--latents raw where they are as the pipeline's VAE returned them"
        )
    if options.latents is not None and not encoded:
        raise CommandError(f"{path} holds samples of shape {values.shape[1:]}, no latents of the network: --latents")
    labels = arrays.labels
    known = None if labels is None else checked_labels(path, labels, len(values), classes.count if classes else None)
    note = "" if encoded else remark(path.name, values)
    held = Arrays(values, None, arrays.captions, arrays.embeddings)
    return _Array(path.name, len(values), note, options.latents, held, known, options.caption)


def _either_way(shape: Shape) -> set[Shape]:
    return {shape, (shape[-1], *shape[:-1])} if len(shape) == 3 else {shape}


@dataclass(frozen=True)
class _Images(Data):
    source: ImageSource | None = None
    mode: str = "RGB"
    resize: int | None = None
    shape: Shape | None = None
    labels: Tensor | None = None
    pixel_limit: int = PIXEL_LIMIT
    caption: str | None = None
    converted: dict[int, tuple[str, ...]] = field(default_factory=dict)

    def chosen(self, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
        source = self.source
        assert source is not None
        images, indices = [], self.indices(count, seed)
        with source.reading() as read:
            for index in indices:
                content, label = read(index), source.label(index)
                pixels, self.converted[index] = decoded(content, self.mode, self.resize, self.pixel_limit, label)
                images.append(pixels)
        wanted = images[0].shape if self.shape is None else torch.Size(self.shape)
        for index, image in zip(indices, images, strict=True):
            if image.shape != wanted:
                raise CommandError(
                    f"{source.label(index)} has {dimensions(image)} pixels; the network or the first image has "
                    f"{wanted[2]} x {wanted[1]}: --resize N makes squares of N pixels"
                )
        x = torch.stack(images).float() / 127.5 - 1.0
        return x, None if self.labels is None else self.labels[indices]

    def every_label(self) -> Tensor | None:
        return self.labels

    def captions(self, count: int, seed: int) -> list[str] | None:
        assert self.source is not None
        if self.caption is not None:
            return [self.caption] * count
        return self.source.captions(self.indices(count, seed))

    def remarks(self) -> list[str]:
        assert self.source is not None
        words = [*super().remarks(), *self.source.remarks()]
        kinds = [kind for conversions in self.converted.values() for kind in conversions]
        words += [f"{kinds.count(kind)} of {len(self.converted)} images: {kind}" for kind in dict.fromkeys(kinds)]
        return [word for word in words if word]


def _pictures(path: Path, options: DataOptions, shape: Shape | None, classes: Classes | None) -> Data:
    source = Pictures.of(path)
    if len(source) < 2:
        raise CommandError(f"{path} holds {len(source)} images that Pillow reads; allowed: two or more. {source.words}")
    if shape is not None and (len(shape) != 3 or shape[0] not in (1, 3)):
        latents = ": latents, which a pipeline's own VAE makes of images, so give the pipeline's folder"
        hint = latents if len(shape) == 3 else ""
        raise CommandError(f"{path} holds images; the network takes {shape}, neither grey nor colour{hint}")
    if options.resize is not None and options.resize < 1:
        raise CommandError(f"resize is {options.resize}; allowed: at least 1")
    limit = options.most_pixels
    if options.resize is not None and options.resize**2 > limit:
        raise CommandError(
            f"resize is {options.resize}, {options.resize**2} pixels; allowed: at most --pixel-limit, {limit}"
        )
    grey = is_grey_image(source, limit) if shape is None else shape[0] == 1
    labels = None if classes is None else source.labels(classes.count, classes.numbers)
    return _Images(
        name=path.name,
        available=len(source),
        source=source,
        mode="L" if grey else "RGB",
        resize=options.resize,
        shape=shape,
        labels=labels,
        pixel_limit=limit,
        caption=options.caption,
    )


def fingerprint(x: Tensor, labels: Tensor | None, **more: Tensor) -> str:
    """The SHA-256 of the chosen samples, their shape, labels and whatever else a network is given with them."""
    digest = hashlib.sha256(f"{tuple(x.shape)}/{x.dtype}".encode())
    for part in (x, labels, *(more[name] for name in sorted(more))):
        if part is not None:
            digest.update(part.contiguous().numpy().tobytes())
    return digest.hexdigest()
