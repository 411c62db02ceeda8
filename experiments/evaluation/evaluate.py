"""One row of the tables: all measures of one average of one run, in one result file, resumed measure by measure.

version, what, row ("sam+ema"), method, average
settings      configuration, checkpoint (average, step, sha256 of the weights), data, features, evaluation:
              all that the numbers depend on but for rounding
provenance    a list of versions, commit and device, each with the measures that were taken so
seconds       by measure
measures      by name, as `measures.tasks` lists them; estimates are a value with draw_standard_error and
              data_standard_error (`flatness.measurement.Estimate`) or with one standard_error
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from experiments.adm.loading import load_state_dict
from experiments.adm.network import ADM
from experiments.configuration import Configuration
from experiments.diffusion.process import Process
from experiments.evaluation.measures import Task, passes_of, tasks_of
from experiments.evaluation.options import EvaluationOptions
from experiments.evaluation.results import ResultFile
from experiments.evaluation.subject import Material, Subject
from experiments.provenance import provenance
from experiments.training.checkpoints import (
    MANIFEST,
    WEIGHTS,
    CheckpointError,
    load_run,
    newest_good,
    read_configuration,
    shadow_file,
)

Average = Literal["raw", "ema", "swa"]
AVERAGES: tuple[Average, ...] = ("raw", "ema", "swa")


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
        folder: Path | None = run
        if not (run / MANIFEST).exists():
            folder, _ = newest_good(run)
        if folder is None:
            raise CheckpointError(f"{run} holds no checkpoint, and is none")
        return cls(folder, read_configuration(folder))

    def settings(self, average: Average) -> dict[str, Any]:
        """Which weights: the average, the step, and the file's SHA-256.

        Raises:
            CheckpointError: the checkpoint is damaged.
            ValueError: it has no such average.
        """
        try:
            files = json.loads((self.folder / MANIFEST).read_bytes())["files"]
            step = int(json.loads((self.folder / "state.json").read_bytes())["step"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self.folder} is not a whole checkpoint: {error!r}") from error
        name = WEIGHTS if average == "raw" else shadow_file(average)
        if name not in files:
            raise ValueError(f"average is {average!r}, and {self.folder} has none; an SWA begins late in a run")
        return {"average": average, "step": step, "sha256": files[name]["sha256"]}


def label(method: str, average: Average) -> str:
    """A row's name as the paper writes it: "sam", "sam+ema"."""
    return method if average == "raw" else f"{method}+{average}"


def row_settings(
    checkpoint: Checkpoint, average: Average, options: EvaluationOptions, material: Material
) -> dict[str, Any]:
    """All that a row's result depends on, but for rounding, in JSON's types."""
    features = material.features
    space = None if features is None else {"name": features.name, "width": features.width, "sha256": features.identity}
    data = {
        name: {"split": images.split, "images": len(images), "image_size": images.image_size}
        for name, images in (("held_out", material.held_out), ("reference", material.reference))
    }
    found = {
        "configuration": checkpoint.configuration.to_dict(),
        "checkpoint": checkpoint.settings(average),
        "data": {"name": material.held_out.name, "fingerprint": material.held_out.fingerprint, **data},
        "features": space,
        "evaluation": dataclasses.asdict(options),
    }
    return dict(json.loads(json.dumps(found)))


def evaluate(
    run: Path | Checkpoint,
    average: Average,
    options: EvaluationOptions,
    material: Material,
    path: Path,
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 128,
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
        watch: called before each measure and at the end.

    Returns:
        The result.

    Raises:
        CheckpointError: there is no whole checkpoint.
        ValueError: the checkpoint has no such average, images do not fit the network, or the file, or partial
            results, are of other settings; then nothing is changed.
    """
    checkpoint = run if isinstance(run, Checkpoint) else Checkpoint.of(run)
    configuration = checkpoint.configuration
    _check(configuration, material)
    settings = row_settings(checkpoint, average, options, material)
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
        )
        parts = _carried_out(subject, result, name, watch)
        return result.finish(_document(name, configuration, settings, parts))


def loaded(checkpoint: Checkpoint, average: Average, device: torch.device | str = "cpu") -> ADM:
    """The network of a row, in evaluation mode."""
    configuration, state, _ = load_run(checkpoint.folder, average)
    network = ADM(configuration.network)
    load_state_dict(state, network, source=str(checkpoint.folder))
    return network.to(device).eval().requires_grad_(False)


def _check(configuration: Configuration, material: Material) -> None:
    network = configuration.network
    expected = (configuration.dataset, network.channels, network.image_size)
    for images in (material.held_out, material.reference):
        found = (images.name, images.channels, images.image_size)
        if found != expected:
            raise ValueError(f"images are {found} (name, channels, size); allowed: the configuration's, {expected}")


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
    begin = time.perf_counter()
    with _whole_float32():
        found = task.run(subject)
    seconds = round(time.perf_counter() - begin, 3)
    return {"result": found, "seconds": seconds, "provenance": provenance(subject.device)}


@contextlib.contextmanager
def _whole_float32() -> Iterator[None]:
    """No TF32, cuDNN's default: its ten bits would drown what rounding to eight does to a loss."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


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
        same = [entry for entry in found if {k: v for k, v in entry.items() if k != "measures"} == part["provenance"]]
        if same:
            same[0]["measures"].append(measure)
        else:
            found.append({**part["provenance"], "measures": [measure]})
    return found
