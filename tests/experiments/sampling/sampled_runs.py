"""A trained run so small that a sample takes a millisecond, samples of it, and how their folders are compared."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from experiments.diffusion import ProcessOptions
from experiments.sampling.chains import ChainOptions
from experiments.sampling.run import Outcome, SampleSettings, sample_into
from experiments.training.trainer import train
from tests.experiments.training.small_runs import configured, images, run_options

SETTINGS = SampleSettings(images=22, shard_size=8, chain=ChainOptions(steps=4))
SHARDS = ("samples-00000-00007", "samples-00008-00015", "samples-00016-00021")


def trained(out: Path) -> Path:
    """A run of twelve steps."""
    train(configured(process=ProcessOptions(steps=12), learning_rate=0.05), run_options(out), images())
    return out


def made(out: Path, run: Path, settings: SampleSettings = SETTINGS, **options: Any) -> Outcome:
    """On the CPU, five images at once."""
    return sample_into(out, run, settings, **{"batch_size": 5, "device": "cpu", "progress": False, **options})


def contents(folder: Path, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """All files."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name not in without}


def timeless(folder: Path) -> dict[str, bytes]:
    """All files without times in them."""
    return {name: data for name, data in contents(folder).items() if name == "settings.json" or name[-5:] != ".json"}


def read(out: Path) -> ndarray:
    """All images."""
    with np.load(out / "samples.npz", allow_pickle=False) as archive:
        assert archive.files == ["arr_0"]
        images: ndarray = archive["arr_0"]
    return images


def changed(**changes: Any) -> SampleSettings:
    """SETTINGS with changes, the chain's among them."""
    names = {field.name for field in dataclasses.fields(ChainOptions)}
    chain = dataclasses.replace(SETTINGS.chain, **{k: v for k, v in changes.items() if k in names})
    return dataclasses.replace(SETTINGS, chain=chain, **{k: v for k, v in changes.items() if k not in names})
