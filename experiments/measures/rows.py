"""One row of the tables: all measures of one average of one run, in one result file, resumed measure by measure.

version, what, row ("sam+ema"), method, average
share_of_start  of an EMA, how much of it is the weights that the run began from
settings      configuration, checkpoint (average, step, sha256 of the weights), data (and how many images were used),
              features, device (its kind), evaluation: all that the numbers depend on but for rounding
provenance    a list of versions, commit and device, each with the measures that were taken so, in part at least
seconds       by measure
measures      by name, as `measures.tasks` lists them; estimates are a value with draw_standard_error and
              data_standard_error (`flatness.measuring.base.Estimate`) or with one standard_error. One that could not be
              taken, as numbers were not finite, is {"failed": why}, and is not tried again
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments.adm.loading import load_state_dict
from experiments.adm.network import ADM
from experiments.configuration import Configuration, current_settings
from experiments.diffusion.process import Process
from experiments.measures.options import EvaluationOptions
from experiments.measures.runner import Progress, Task, Work, measured
from experiments.measures.subject import GRADIENT_BATCH, Material, Subject
from experiments.measures.tasks import floors_of, images_of, tasks_of
from experiments.training.checkpoints import (
    MANIFEST,
    WEIGHTS,
    CheckpointError,
    load_run,
    read_configuration,
    shadow_file,
    verify,
    whole_checkpoint,
)
from findings.checksums import ResultError, read_json
from findings.documents import ResultFile
from findings.names import AVERAGES, Average, RowName

STATE = "state.json"


class Checkpoint(NamedTuple):
    """A run's checkpoint, not yet read.

    Attributes:
        folder: of the checkpoint.
        configuration: of the run.
    """

    folder: Path
    configuration: Configuration

    @classmethod
    def of(cls, run: Path) -> Checkpoint:
        """The newest whole one of a run's folder, or the one whose folder is given.

        Raises:
            CheckpointError: there is none.
        """
        folder = whole_checkpoint(run)
        return cls(folder, read_configuration(folder))

    def averages(self) -> tuple[Average, ...]:
        """Those that it holds.

        Raises:
            CheckpointError: the checkpoint is damaged.
        """
        held: list[Average] = []
        for average in AVERAGES:
            with contextlib.suppress(ValueError):
                self.settings(average)
                held.append(average)
        return tuple(held)

    def settings(self, average: Average) -> dict[str, Any]:
        """Which weights: the average, the step, and the file's SHA-256.

        Raises:
            CheckpointError: the checkpoint is damaged.
            ValueError: it has no such average.
        """
        try:
            files = read_json(self.folder / MANIFEST)["files"]
            step = int(verify(self.folder, (STATE,))["step"])
        except (ResultError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self.folder} is not a whole checkpoint: {error!r}") from error
        name = WEIGHTS if average == "raw" else shadow_file(average)
        if name not in files:
            raise ValueError(f"average is {average!r}, and {self.folder} has none; an SWA begins late in a run")
        try:
            return {"average": average, "step": step, "sha256": files[name]["sha256"]}
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{self.folder / MANIFEST} has no checksum of {name}") from error


def row_settings(
    checkpoint: Checkpoint,
    average: Average,
    options: EvaluationOptions,
    material: Material,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """All that a row's result depends on, but for rounding, in JSON's types.

    The kind of device is part of it: the generators that weights' noise and exposure bias's noise come from give other
    numbers on another.
    """
    features = material.features
    space = None if features is None else {"name": features.name, "width": features.width, "sha256": features.identity}
    data: dict[str, dict[str, Any]] = {
        name: {"split": images.split, "images": len(images), "image_size": images.image_size}
        for name, images in (("held_out", material.held_out), ("reference", material.reference))
    }
    data["held_out"]["trained_on"] = checkpoint.configuration.train_split == "all"
    losses, exposure = images_of(options, material)
    used = {"losses": losses, "exposure": exposure, "floors": floors_of(options, material)}
    settings = {
        "configuration": checkpoint.configuration.to_dict(),
        "checkpoint": checkpoint.settings(average),
        "data": {"name": material.held_out.name, "fingerprint": material.held_out.fingerprint, **data, "used": used},
        "features": space,
        "device": torch.device(device).type,
        "evaluation": dataclasses.asdict(options),
    }
    return dict(json.loads(json.dumps(settings)))


def loaded(checkpoint: Checkpoint, average: Average, device: torch.device | str = "cpu") -> ADM:
    """The network of a row, in evaluation mode."""
    configuration, state, _ = load_run(checkpoint.folder, average)
    network = ADM(configuration.network)
    load_state_dict(state, network, source=str(checkpoint.folder))
    return network.to(device).eval().requires_grad_(False)


def check_options(configuration: Configuration, options: EvaluationOptions) -> None:
    """Refuse what runs of this configuration cannot be asked for.

    Raises:
        ValueError: T' is larger than T.
    """
    longest = configuration.process.steps
    if max(options.sampling_steps) > longest:
        raise ValueError(f"sampling_steps is {options.sampling_steps}; allowed: at most the process's {longest} steps")


def check_material(configuration: Configuration, material: Material) -> None:
    """Refuse images that are not the configuration's.

    Raises:
        ValueError: they are of another name, number of channels or size.
    """
    network = configuration.network
    expected = (configuration.dataset, network.channels, network.image_size)
    for images in (material.held_out, material.reference):
        given = (images.name, images.channels, images.image_size)
        if given != expected:
            raise ValueError(f"images are {given} (name, channels, size); allowed: the configuration's, {expected}")


def check_data(checkpoint: Checkpoint, material: Material) -> None:
    """Refuse images that are not of the data that the run was trained on.

    Raises:
        CheckpointError: the checkpoint is damaged.
        ValueError: the data's fingerprint is another one.
    """
    trained = verify(checkpoint.folder, (STATE,)).get("data")
    for images in (material.held_out, material.reference):
        if images.fingerprint != trained:
            raise ValueError(
                f"images ({images.split}) have the fingerprint {images.fingerprint}; allowed: {trained}, that of the "
                f"data which {checkpoint.folder} was trained on"
            )


def evaluate(
    run: Path | Checkpoint,
    average: Average,
    options: EvaluationOptions,
    material: Material,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
    gradient_batch: int = GRADIENT_BATCH,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """Measure a row, or what is left of it, and write its file; a file that is there already is read.

    Args:
        run: a run's folder, or a checkpoint.
        average: which of the run's weights.
        options: of the measures.
        material: images and features.
        path: of the result file.
        device: where to compute.
        batch_size: images in one pass.
        gradient_batch: images in one backward pass.
        watch: called before each measure and at the end.

    Returns:
        The result.

    Raises:
        CheckpointError: there is no whole checkpoint.
        ValueError: the checkpoint has no such average, its process has too few steps, images do not fit the network or
            are not of the data it was trained on, or the file, or partial results, are of other settings; then nothing
            is changed.
    """
    checkpoint = run if isinstance(run, Checkpoint) else Checkpoint.of(run)
    configuration = checkpoint.configuration
    check_options(configuration, options)
    check_material(configuration, material)
    check_data(checkpoint, material)
    settings = row_settings(checkpoint, average, options, material, device)
    result = ResultFile(path, settings, current_settings)
    name = str(RowName(configuration.method, average))

    def work() -> Work:
        subject = Subject(
            loaded(checkpoint, average, device),
            Process(configuration.process),
            options,
            material,
            batch_size,
            result.work,
            gradient_batch,
            run=configuration,
        )
        tasks = {of: Task(functools.partial(task.run, subject), task.passes) for of, task in tasks_of(subject).items()}
        return Work(tasks, subject.resumed)

    about = {
        "what": "one row of the paper's tables: every measure of one average of one run",
        "row": name,
        "method": configuration.method,
        "average": settings["checkpoint"]["average"],
    }
    if average == "ema":
        steps = settings["checkpoint"]["step"]
        about["share_of_start"] = configuration.ema.share_of_start(steps)
    return measured(result, name, about, work, device, watch)
