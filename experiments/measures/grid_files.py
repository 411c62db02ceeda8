"""Grids of samples as PNG files that hold the settings they were made with."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin

from experiments.training.grids import grid
from findings.documents import ResultError
from findings.files import write_whole

SIDE = 8
TEXT = "settings"
"""The key of a grid's settings within the PNG file."""


def write_grid(path: Path, images: torch.Tensor, settings: dict[str, Any]) -> None:
    """Images (n, C, H, W) in [-1, 1] as a PNG file that holds its settings."""
    about = PngImagePlugin.PngInfo()
    about.add_text(TEXT, json.dumps(settings))
    stream = io.BytesIO()
    grid(images, SIDE).save(stream, format="PNG", pnginfo=about)
    write_whole(path, stream.getvalue())


def read_text(path: Path) -> dict[str, Any]:
    """The settings of such a file.

    Raises:
        ResultError: it has none.
    """
    try:
        with Image.open(path) as image:
            return dict(json.loads(image.info[TEXT]))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ResultError(f"{path} is no grid of samples written here ({error!r}); nothing was changed") from error
