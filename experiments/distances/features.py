"""What a feature space is, the moments of images in it, and the cache of those of real images."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import Protocol

from jaxtyping import Float, UInt8
from rich.progress import track
from torch import Tensor

from experiments.data import Images
from experiments.distances.frechet import Moments
from flatness import arguments

PASS = 1000
"""Images between two updates of moments and progress bar."""


class Features(Protocol):
    """A map from images to feature vectors that never changes.

    Attributes:
        name: for people and file names.
        width: D, features an image.
        identity: SHA-256 of the weights; distances compare only in features of the same identity.
    """

    name: str
    width: int
    identity: str

    def __call__(self, images: UInt8[Tensor, "N C H W"]) -> Float[Tensor, "N D"]:
        """Features of images."""


def moments_of(images: UInt8[Tensor, "N C H W"], features: Features, progress: bool = False) -> Moments:
    """The moments of the images' features.

    Raises:
        ValueError: no image, or images that the features do not take.
    """
    if not len(arguments.instance("images", images, Tensor)):
        raise arguments.refuse("images", images, "at least one image")
    moments = Moments(features.width)
    for part in track(images.split(PASS), f"features, {features.name}", disable=not progress, transient=True):
        moments.update(features(part))
    return moments


class ReferenceCache:
    """Moments of real images on disk, computed once for each data set, split, image size and feature space."""

    def __init__(self, folder: Path) -> None:
        """Kept in this folder, which is made when the first file is written."""
        self._folder = Path(folder)

    def path(self, images: Images, features: Features) -> Path:
        """Where the moments of these images in these features are kept."""
        about = self._about(images, features)
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        return self._folder / f"{images.name}-{images.split}-{images.image_size}-{features.name}-{digest}.safetensors"

    def moments(self, images: Images, features: Features) -> Moments:
        """The moments: read where they are kept, computed and kept otherwise.

        A file that is damaged or about something else is never used: a warning says so, and it is computed anew.
        """
        path, about = self.path(images, features), self._about(images, features)
        if path.exists():
            try:
                return self._read(path, about, images)
            except ValueError as error:
                warnings.warn(f"cached reference statistics are computed anew: {error}", stacklevel=2)
        moments = moments_of(images.pixels, features)
        moments.to_file(path, about)
        return moments

    @staticmethod
    def _about(images: Images, features: Features) -> dict[str, str]:
        return {
            "dataset": images.name,
            "split": images.split,
            "fingerprint": images.fingerprint,
            "images": "x".join(map(str, images.pixels.shape)),
            "features": features.name,
            "identity": features.identity,
            "width": str(features.width),
        }

    @staticmethod
    def _read(path: Path, about: dict[str, str], images: Images) -> Moments:
        moments = Moments.from_file(path, about)
        if moments.count != len(images) or str(moments.width) != about["width"]:
            raise ValueError(f"{path} is of {moments.count} images; allowed: {len(images)}")
        return moments
