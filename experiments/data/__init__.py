"""Real images: cifar10, lsun-tower, ffhq and fashion-mnist, as uint8, checked, and in a reproducible order."""

from __future__ import annotations

import os
from importlib import import_module

from experiments.data.batches import Batches
from experiments.data.caching import Preparation
from experiments.data.images import SPLITS, Images, to_float, to_uint8
from experiments.data.roots import DataError, check_named
from flatness import arguments

__all__ = ["DATASETS", "SPLITS", "Batches", "DataError", "Images", "Preparation", "load", "to_float", "to_uint8"]

DATASETS = ("cifar10", "lsun-tower", "ffhq", "fashion-mnist")


DECODED = ("lsun-tower", "ffhq")
"""Those whose images are decoded into a cache."""


def load(
    name: str,
    split: str = "train",
    image_size: int | None = None,
    root: str | os.PathLike[str] | None = None,
    *,
    preparation: Preparation | None = None,
) -> Images:
    """A split of a data set.

    Args:
        name: one of DATASETS.
        split: "train", "test" (held out) or "all"; each data set's module says what they are.
        image_size: in pixels; None for the data set's own.
        root: the data root; None for the environment variable FLATNESS_DATA, else ./data.
        preparation: for lsun-tower and ffhq, how their cache is made and used; the others need none.

    Raises:
        DataError: files are missing, short, corrupt or not the published ones.
        OSError: a cache cannot be written.
        ValueError: an argument is not as above.
    """
    module = import_module("experiments.data." + arguments.choice("name", name, DATASETS).replace("-", "_"))
    arguments.choice("split", split, SPLITS)
    size = module.DEFAULT_SIZE if image_size is None else arguments.count("image_size", image_size, at_least=1)
    check_named(name, root)
    extra = {"preparation": preparation or Preparation()} if name in DECODED else {}
    images: Images = module.load(split, size, root, **extra)
    return images
