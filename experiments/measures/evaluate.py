"""One row of the tables: all measures of one average of one run, in one result file, resumed measure by measure.

version, what, row ("sam+ema"), method, average
settings      configuration, checkpoint (average, step, sha256 of the weights), data (and how many images were used),
              features, device (its kind), evaluation: all that the numbers depend on but for rounding
provenance    a list of versions, commit and device, each with the measures that were taken so, in part at least
seconds       by measure
measures      by name, as `measures.tasks` lists them; estimates are a value with draw_standard_error and
              data_standard_error (`flatness.measuring.base.Estimate`) or with one standard_error. One that could not be
              taken, as numbers were not finite, is {"failed": why}, and is not tried again
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from experiments.configuration import Configuration
from experiments.diffusion.process import Process
from experiments.measures.options import EvaluationOptions
from experiments.measures.rows import (
    Average,
    Checkpoint,
    check_data,
    check_material,
    check_options,
    label,
    loaded,
    row_settings,
)
from experiments.measures.subject import GRADIENT_BATCH, Material, Subject
from experiments.measures.tasks import Task, passes_of, tasks_of
from experiments.provenance import provenance
from findings.documents import FAILED, ResultFile, json_text
from flatness.precision import whole_float32


class Progress(NamedTuple):
    """How far a row has come.

    Attributes:
        row: its label.
        measure: the one that begins now; "" when all are done.
        done, total: measures.
        share: of the row's passes that are done.
    """

    row: str
    measure: str
    done: int
    total: int
    share: float


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
    result = ResultFile(path, settings)
    name = label(configuration.method, average)
    found = result.finished()
    if found is not None:
        count = len(found["measures"])
        watch(Progress(name, "", count, count, 1.0))
        return found
    with result.begun():
        subject = Subject(
            loaded(checkpoint, average, device),
            Process(configuration.process),
            options,
            material,
            batch_size,
            result.work,
            gradient_batch,
        )
        parts = _carried_out(subject, result, name, watch)
        return result.finish(_document(name, configuration, settings, parts))


def _carried_out(
    subject: Subject, result: ResultFile, name: str, watch: Callable[[Progress], None]
) -> dict[str, dict[str, Any]]:
    """Every measure's part, those that were kept included."""
    todo = tasks_of(subject)
    parts: dict[str, dict[str, Any]] = {}
    for measure, task in todo.items():
        part = result.part(measure)
        if part is None:
            watch(_progress(name, measure, parts, todo))
            part = _measured(subject, task)
            result.keep(measure, part)
        parts[measure] = part
    watch(_progress(name, "", parts, todo))
    return parts


def _progress(name: str, measure: str, parts: Mapping[str, Any], todo: Mapping[str, Task]) -> Progress:
    done = passes_of({of: task for of, task in todo.items() if of in parts})
    return Progress(name, measure, len(parts), len(todo), done / max(passes_of(todo), 1))


def _measured(subject: Subject, task: Task) -> dict[str, Any]:
    """A measure's part. Where numbers are not finite it has failed, which does not keep the others from being taken."""
    begin = time.perf_counter()
    subject.resumed.clear()
    try:
        with whole_float32():
            found = task.run(subject)
        json_text(found)
    except (ValueError, FloatingPointError) as error:
        found = {FAILED: str(error)}
    seconds = time.perf_counter() - begin + sum(part["seconds"] for part in subject.resumed)
    made: list[dict[str, Any]] = []
    for about in (*(part["provenance"] for part in subject.resumed), provenance(subject.device)):
        if about not in made:
            made.append(about)
    return {"result": found, "seconds": round(seconds, 3), "provenance": made}


def _document(
    name: str, configuration: Configuration, settings: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "what": "one row of the paper's tables: every measure of one average of one run",
        "row": name,
        "method": configuration.method,
        "average": settings["checkpoint"]["average"],
        "settings": settings,
        "provenance": _provenances(parts),
        "seconds": {measure: part["seconds"] for measure, part in parts.items()},
        "measures": {measure: part["result"] for measure, part in parts.items()},
    }


def _provenances(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Versions, commit and device, with the measures that were taken so: one entry, but for a row that was resumed."""
    found: list[dict[str, Any]] = []
    for measure, part in parts.items():
        for about in part["provenance"]:
            same = [entry for entry in found if {k: v for k, v in entry.items() if k != "measures"} == about]
            if same:
                same[0]["measures"].append(measure)
            else:
                found.append({**about, "measures": [measure]})
    return found
