"""Samples of a run, or of one of its averages, rounded or not, into a folder: `python -m experiments sample`."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from experiments.adm import ADM
from experiments.adm.loading import load_state_dict
from experiments.configuration import Configuration
from experiments.diffusion import Process
from experiments.provenance import provenance
from experiments.sampling.chains import ChainOptions, check_steps, finite_pixels, generate
from experiments.sampling.folder import FORMAT, SampleFolder, Shard
from experiments.training.checkpoints import MANIFEST, load_run, whole_checkpoint
from experiments.training.distributed import chosen_device
from experiments.training.randomness import initialized_by
from findings.files import hash_file
from findings.names import FULL
from flatness import arguments
from flatness.measuring.quantization import FEWEST_BITS, GRANULARITIES, MOST_BITS, SCHEMES, quantize_weights
from flatness.progress import Progress, reporter

BATCH_SIZES = {"cpu": 64, "cuda": 256}
"""Images at once by default: small batches stay in a CPU's caches, large ones fill an accelerator."""


class Outcome(NamedTuple):
    """What a call did.

    Attributes:
        made: images made by it.
        there: images of its part that were there before.
        missing: images of other processes' parts that are not there.
        result: samples.json once everything is there; otherwise None.
        device: where it computed.
    """

    made: int
    there: int
    missing: int
    result: dict[str, Any] | None
    device: str


def sample_into(
    out: Path | str,
    run: Path | str,
    settings: SampleSettings,
    *,
    batch_size: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    local_rank: int = 0,
    part: int = 0,
    parts: int = 1,
    progress: Progress = None,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Make the samples that are missing in the folder; where none is, put them together.

    Several processes can share the work: number `part` of `parts` makes every `parts`-th shard, and whichever finds all
    shards there puts them together. None waits for another.

    Args:
        out: the folder; see `experiments.sampling.folder`.
        run: a run's folder, whose newest checkpoint is taken, or a checkpoint's.
        settings: what is asked for.
        batch_size: most images at once; 64 on the CPU and 256 on CUDA by default.
        device: where to sample; auto takes CUDA where there is one.
        local_rank: which of the CUDA devices.
        part, parts: see above.
        progress: see `flatness.progress`.
        say: told in a line what is done.

    Raises:
        CheckpointError: there is no whole checkpoint of this version.
        ValueError: an argument is not as above, the run has no such average, or the folder holds something else.
        FloatingPointError: an image is not finite; its shard is not written.
        OSError: the disk is full, or else.
    """
    if arguments.count("part", part) >= arguments.count("parts", parts, at_least=1):
        raise arguments.refuse("part", part, f"a whole number below parts, {parts}")
    place = chosen_device(device, local_rank)
    usual = BATCH_SIZES[place.type]
    size = usual if batch_size is None else arguments.count("batch_size", batch_size, at_least=1)
    source = load_source(run, settings.average)
    process = Process(source.configuration.process)
    check_steps(process, settings.chain)
    network = source.configuration.network
    side = network.image_size
    folder = SampleFolder(Path(out), source.identity(settings), (side, side, network.channels))
    about = provenance(place)
    merged = folder.result()
    if merged is not None:
        return Outcome(0, settings.images, 0, merged, about["device"])
    folder.claim()
    todo = folder.missing(part, parts)
    own = sum(len(shard.images) for shard in folder.shards[part::parts])
    count = sum(len(shard.images) for shard in todo)
    say(_beginning(source, settings, own, own - count, about["device"]))
    if todo:
        made_with = {"batch_size": size, **about}
        _make(folder, todo, source.network(settings, place), process, settings, size, made_with, progress)
    rest = folder.missing()
    result = None if rest else folder.finish(about)
    return Outcome(count, own - count, sum(len(shard.images) for shard in rest), result, about["device"])


def _make(
    folder: SampleFolder,
    todo: list[Shard],
    network: nn.Module,
    process: Process,
    settings: SampleSettings,
    batch_size: int,
    made_with: dict[str, Any],
    progress: Progress,
) -> None:
    total, done = sum(len(shard.images) for shard in todo), 0
    report = reporter("sampling", total, progress)
    for shard in todo:
        begin, pixels = time.perf_counter(), []
        for batch in generate(network, process, shard.images, batch_size=batch_size, **asdict(settings.chain)):
            pixels.append(finite_pixels(batch))
            done += len(batch.indices)
            report(done, total)
        seconds = round(time.perf_counter() - begin, 3)
        folder.write(shard, torch.cat(pixels), {"seconds": seconds, **made_with})


def _beginning(source: Source, settings: SampleSettings, own: int, there: int, device: str) -> str:
    c, chain = source.configuration, settings.chain
    weights = f"{source.average}, {settings.bits} bits"
    sampler = f"{chain.sampler}, {chain.steps} steps, seed {chain.seed}"
    resumed = f"; {there} of them are there" if there else ""
    return f"{c.dataset} {c.method} after step {source.step}, {weights}: {own} images, {sampler}, on {device}{resumed}"


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
        settings_asked = dataclasses.asdict(settings)
        chain = settings_asked.pop("chain")
        run = {
            "configuration": self.configuration.to_dict(),
            "step": self.step,
            "manifest_sha256": self.manifest_sha256,
        }
        return {"format": FORMAT, **settings_asked, **chain, "run": run}


def load_source(path: Path | str, average: str) -> Source:
    """The weights of a run's newest whole checkpoint, or of a checkpoint.

    Raises:
        CheckpointError: there is none, or it is not whole, or of another version.
        ValueError: the run has no such average, or it has not begun.
    """
    folder = whole_checkpoint(Path(path))
    # Before the files: a manifest that is exchanged meanwhile is found out by their hashes
    manifest = hash_file(folder / MANIFEST).sha256
    try:
        configuration, weights, step = load_run(folder, average)
    except ValueError as error:
        raise ValueError(str(error).replace("shadow is", "average is", 1)) from error
    return Source(configuration, weights, step, average, manifest)
