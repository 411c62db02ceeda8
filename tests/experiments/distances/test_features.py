"""Moments of images and the cache of reference statistics: computed once, verified, never another data set's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.data import Images
from experiments.distances.frechet import ReferenceCache, moments_of


class PixelFeatures:
    """Three pixels of an image, and a count of calls."""

    name = "pixels"
    width = 3

    def __init__(self, identity: str = "0" * 64) -> None:
        self.identity = identity
        self.seen = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.flatten(1)[:, :3].double()


def _images(number: int = 2300, split: str = "train", fingerprint: str = "sha256:" + "a" * 64) -> Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (number, 1, 4, 4), generator=generator, dtype=torch.uint8)
    return Images(pixels, "fashion-mnist", split, fingerprint)


def test_moments_of_images_are_those_of_their_features() -> None:
    """More images than one pass takes."""
    images, features = _images(), PixelFeatures()
    moments = moments_of(images.pixels, features)
    everything = images.pixels.flatten(1)[:, :3].double()
    assert features.seen == moments.count == 2300
    torch.testing.assert_close(moments.covariance, everything.T.cov(), rtol=1e-12, atol=1e-8)  # a few thousand terms
    with pytest.raises(ValueError, match="images"):
        moments_of(images.pixels[:0], features)


def test_the_second_time_nothing_is_computed(tmp_path: Path) -> None:
    images, features = _images(), PixelFeatures()
    cache = ReferenceCache(tmp_path / "statistics")
    first = cache.moments(images, features)
    second = ReferenceCache(tmp_path / "statistics").moments(images, features)
    assert features.seen == len(images)
    assert torch.equal(first.mean, second.mean)
    assert torch.equal(first.scatter, second.scatter)
    assert len(list((tmp_path / "statistics").iterdir())) == 1


@pytest.mark.parametrize(
    ("images", "features"),
    [
        (_images(split="test"), PixelFeatures()),
        (_images(fingerprint="sha256:" + "b" * 64), PixelFeatures()),
        (_images(number=2299), PixelFeatures()),
        (_images(), PixelFeatures(identity="1" * 64)),
    ],
    ids=["split", "data", "number", "weights"],
)
def test_anything_else_is_computed_on_its_own(tmp_path: Path, images: Images, features: PixelFeatures) -> None:
    cache = ReferenceCache(tmp_path)
    cache.moments(_images(), PixelFeatures())
    cache.moments(images, features)
    assert features.seen == len(images)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "another's"])
def test_a_damaged_file_is_not_used(tmp_path: Path, damage: str) -> None:
    images, features, cache = _images(), PixelFeatures(), ReferenceCache(tmp_path)
    right = cache.moments(images, features)
    path = cache.path(images, features)
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-8])
    elif damage == "flipped":
        path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    else:
        other = _images(split="test")
        cache.moments(other, features)
        cache.path(other, features).replace(path)
    with pytest.warns(UserWarning, match="computed anew"):
        again = cache.moments(images, features)
    assert torch.equal(again.scatter, right.scatter)
    seen = features.seen
    assert torch.equal(cache.moments(images, features).scatter, right.scatter)
    assert features.seen == seen  # the damaged file was replaced
