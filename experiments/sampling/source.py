"""What samples are of: the weights of a run, one of its averages, at full precision or rounded to a few bits."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from experiments.adm import ADM
from experiments.adm.loading import load_state_dict
from experiments.configuration import Configuration
from experiments.sampling.chains import ChainOptions
from experiments.training.checkpoints import MANIFEST, CheckpointError, load_run, newest_good
from experiments.training.randomness import initialized_by
from findings.files import hash_file
from findings.names import FULL
from flatness import arguments
from flatness.measuring.quantization import FEWEST_BITS, GRANULARITIES, MOST_BITS, SCHEMES, quantize_weights

"""Bits of weights that are used as they are."""
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """What is asked for: with the weights, all that the samples depend on but for rounding.

    Raises:
        ValueError: a field is not as its line says, or two of them do not fit each other.
    """

    images: int = 1000
    """How many: those with the numbers from 0."""
    average: str = "ema"
    """The weights: "raw", or an average that the run carries ("ema", "swa", "power-0.05")."""
    bits: int = FULL
    """32 for the weights as they are; 2 to 16 for every one of them rounded to a grid, without calibration."""
    granularity: Literal["tensor", "channel"] = "tensor"
    """One grid for each tensor, or for each of its output channels."""
    scheme: Literal["symmetric", "minmax"] = "symmetric"
    """A grid around zero, or between a tensor's extremes."""
    shard_size: int = 512
    """Images in one file, which is what an interruption loses at most."""
    chain: ChainOptions = field(default_factory=ChainOptions)
    """How they are sampled."""

    def __post_init__(self) -> None:
        """Check all fields."""
        arguments.count("images", self.images, at_least=1)
        arguments.instance("average", self.average, str)
        arguments.choice("granularity", self.granularity, GRANULARITIES)
        arguments.choice("scheme", self.scheme, SCHEMES)
        arguments.count("shard_size", self.shard_size, at_least=1)
        arguments.instance("chain", self.chain, ChainOptions)
        if self.bits != FULL:
            if (
                isinstance(self.bits, bool)
                or not isinstance(self.bits, int)
                or not FEWEST_BITS <= self.bits <= MOST_BITS
            ):
                allowed = f"{FULL}, or a whole number from {FEWEST_BITS} to {MOST_BITS}"
                raise arguments.refuse("bits", self.bits, allowed)
            return
        for name, usual in (("granularity", "tensor"), ("scheme", "symmetric")):
            if getattr(self, name) != usual:
                raise arguments.refuse(name, getattr(self, name), f"{usual!r} with 32 bits, where nothing is rounded")


@dataclass(frozen=True)
class Source:
    """The weights of a checkpoint.

    Attributes:
        configuration: the run's.
        weights: float32, on the CPU, by name.
        step: how many had been made.
        average: which weights.
        manifest_sha256: of the checkpoint's manifest, which has the hashes of all its files.
    """

    configuration: Configuration
    weights: dict[str, Tensor]
    step: int
    average: str
    manifest_sha256: str

    def network(self, settings: SampleSettings, device: torch.device | str = "cpu") -> nn.Module:
        """The network in evaluation mode. Weights are rounded before they are moved, so alike for every device."""
        with initialized_by(0):
            network = ADM(self.configuration.network)
        load_state_dict(self.weights, network, f"the checkpoint after step {self.step}, {self.average}")
        if settings.bits != FULL:
            network = quantize_weights(network, settings.bits, granularity=settings.granularity, scheme=settings.scheme)
        return network.to(device).eval()

    def identity(self, settings: SampleSettings) -> dict[str, Any]:
        """All that the samples depend on but for rounding, in JSON's types."""
        asked = dataclasses.asdict(settings)
        chain = asked.pop("chain")
        run = {
            "configuration": self.configuration.to_dict(),
            "step": self.step,
            "manifest_sha256": self.manifest_sha256,
        }
        return {"format": FORMAT, **asked, **chain, "run": run}


def load_source(path: Path | str, average: str) -> Source:
    """The weights of a run's newest whole checkpoint, or of a checkpoint.

    Raises:
        CheckpointError: there is none, or it is not whole, or of another version.
        ValueError: the run has no such average, or it has not begun.
    """
    folder = _checkpoint(Path(path))
    # Before the files: a manifest that is exchanged meanwhile is found out by their hashes
    manifest = hash_file(folder / MANIFEST).sha256
    try:
        configuration, weights, step = load_run(folder, average)
    except ValueError as error:
        raise ValueError(str(error).replace("shadow is", "average is", 1)) from error
    return Source(configuration, weights, step, average, manifest)


def _checkpoint(path: Path) -> Path:
    if not path.is_dir():
        raise CheckpointError(f"{path} is no folder; allowed: a run's, or a checkpoint's")
    if (path / MANIFEST).exists():
        return path
    newest, _ = newest_good(path)
    if newest is None:
        raise CheckpointError(f"{path} holds no whole checkpoint, and is none")
    return newest
