"""Samples of a run into a folder: what `python -m experiments sample` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from experiments.diffusion import Process
from experiments.provenance import provenance
from experiments.sampling.chains import check_steps, finite_pixels, generate
from experiments.sampling.folder import SampleFolder, Shard
from experiments.sampling.source import SampleSettings, Source, load_source
from experiments.training.distributed import chosen_device
from flatness import arguments
from flatness.progress import Progress, reporter

BATCH_SIZES = {"cpu": 64, "cuda": 256}
"""Images at once by default: small batches stay in a CPU's caches, large ones fill an accelerator."""


class Outcome(NamedTuple):
    """What a call did.

    Attributes:
        made: images made by it.
        found: images of its part that were there before.
        missing: images of other processes' parts that are not there.
        result: samples.json once everything is there; otherwise None.
        device: where it computed.
    """

    made: int
    found: int
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
    found = folder.result()
    if found is not None:
        return Outcome(0, settings.images, 0, found, about["device"])
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
