"""Grids of a run's samples, from its EMA: at every T' as the weights are, and rounded where distances are measured so.

All from the same noise, image i a function of the seed and i: the first of the samples that distances are measured on.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, PngImagePlugin

from experiments.diffusion.process import Process
from experiments.measures.options import EvaluationOptions
from experiments.measures.rows import Checkpoint, loaded
from experiments.measures.sample_distance import rounded
from experiments.sampling.chains import finite_pixels, generate
from experiments.training.validation import grid
from findings.documents import ResultError, refuse_other
from findings.files import write_whole
from findings.names import FULL

SIDE = 8
TEXT = "settings"
"""The key of a grid's settings within the PNG file."""


class Shown(NamedTuple):
    """What a grid shows: samples by so many steps from weights of so many bits."""

    steps: int
    bits: int

    def file_name(self, run: str) -> str:
        """Of the grid of this run."""
        return f"{run}-T{self.steps}-{self.bits}bit.png"


def shown(options: EvaluationOptions) -> list[Shown]:
    """The grids of a run, as its distances: full weights at every T', rounded ones at those of `quantized_steps`."""
    full = [Shown(steps, FULL) for steps in options.sampling_steps]
    return full + [Shown(steps, bits) for steps in options.quantized_steps for bits in options.bits]


def write_grids(
    folder: Path,
    run: str,
    checkpoint: Checkpoint,
    options: EvaluationOptions,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
) -> list[str]:
    """Write those of a run's grids that are not there.

    Args:
        folder: of the grids.
        run: its name.
        checkpoint: of the run.
        options: of the measures: T', bits, precision and seed.
        device: where to compute.
        batch_size: images in one pass.

    Returns:
        One line for each grid that cannot be, since a sample is not finite.

    Raises:
        ResultError: a grid that is there is of other settings, or none; nothing is changed.
        CheckpointError: the checkpoint is damaged.
    """
    failures = []
    for one in shown(options):
        path = folder / one.file_name(run)
        drawn = {"steps": one.steps, "bits": one.bits, "seed": options.seed, "images": SIDE**2}
        settings = checkpoint.settings("ema") | drawn
        if path.exists():
            refuse_other(path, read_text(path), settings)
            continue
        try:
            write_grid(path, _samples(checkpoint, one, options, device, batch_size), settings)
        except FloatingPointError as error:
            failures.append(f"{run}: no grid of samples at T' = {one.steps} and {one.bits} bits: {error}.")
    return failures


def _samples(
    checkpoint: Checkpoint, one: Shown, options: EvaluationOptions, device: torch.device | str, batch_size: int
) -> torch.Tensor:
    with rounded(loaded(checkpoint, "ema", device), one.bits) as network:
        made = list(
            generate(
                network,
                Process(checkpoint.configuration.process),
                range(SIDE**2),
                steps=one.steps,
                seed=options.seed,
                precision=options.sampling_precision,
                batch_size=batch_size,
            )
        )
    for batch in made:
        finite_pixels(batch)
    return torch.cat([batch.images.cpu() for batch in made])


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
