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

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.configuration import current_settings
from experiments.diffusion.process import Process
from experiments.measures.options import EvaluationOptions
from experiments.measures.rows import (
    Checkpoint,
    check_data,
    check_material,
    check_options,
    loaded,
    row_settings,
)
from experiments.measures.runner import Progress, Task, Work, measured
from experiments.measures.subject import GRADIENT_BATCH, Material, Subject
from experiments.measures.tasks import tasks_of
from findings.documents import ResultFile
from findings.names import Average, RowName


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
