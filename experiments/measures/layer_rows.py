"""What needs weights beyond a row's measures: layer by layer, the tolerated gap, and snapshots along the runs.

    out/layers/<run>-<average>.json    for each row of out/rows/
    out/layers/<run>-snapshots.json    for each run: its power-function EMA along training

version, what, run, row, method, average
settings      configuration, checkpoint (average, step, sha256), data, device, noise (objective, sigma, relative_sigma,
              rise_bits, seed: the plan's), options: all that the numbers depend on but for rounding
provenance, seconds: as a row's
measures      layers           `layers.measured_layers`: by layer, rises with each image's own
              whole            `layers.whole_rise` by scale, on the same images
              readout          `last_layer.measured_readout`: the last layer's closed forms against measured rises
              tolerance        `noise_tolerance.measured_tolerance` by t
              linearisation    `linearisation.measured_linearisation` by t
              or, of snapshots, step-<n>: the held-out loss, whole rises, rises of rounded weights, the layers' norms

One that could not be taken, as numbers were not finite, is {"failed": why}. As `evaluate` does it, a row is resumed
measure by measure, and a file of other settings is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

import flatness
from experiments.adm.loading import load_state_dict
from experiments.adm.network import ADM
from experiments.configuration import Configuration, current_settings
from experiments.data import Images
from experiments.diffusion.process import Process
from experiments.measures.last_layer import measured_readout
from experiments.measures.layers import WHOLE_NOISES, layers_of, measured_layers, whole_rise
from experiments.measures.linearisation import measured_linearisation
from experiments.measures.noise_tolerance import measured_tolerance
from experiments.measures.options import EvaluationOptions, LayerOptions
from experiments.measures.rows import Checkpoint, check_data, loaded
from experiments.measures.runner import Progress, Task, Work, measured
from experiments.measures.subject import Material, Subject
from experiments.reproduce import DONE
from experiments.tensor_files import read_tensors
from experiments.training.checkpoints import checkpoint_folder, snapshot_files, snapshot_place
from findings.checksums import ResultError
from findings.documents import ResultFile, read_document
from findings.files import hash_file, plain_name
from findings.names import Average, RowName
from flatness import arguments
from flatness.measuring.base import plain
from flatness.weights import direction_norm

LAYERS = "layers"
NOISE = ("objective", "sigma", "relative_sigma", "rise_bits", "seed")
Say = Callable[[str], None]
SNAPSHOTS = "snapshots"


class Plan(NamedTuple):
    """What a folder of `reproduce` is of.

    Attributes:
        folder: it.
        runs: their configurations, by name.
        evaluation: the options of the rows' measures.
        fingerprint: of the data.
    """

    folder: Path
    runs: dict[str, Configuration]
    evaluation: EvaluationOptions
    fingerprint: str

    @classmethod
    def of(cls, folder: Path) -> Plan:
        """Read it.

        Raises:
            ResultError: there is none, or it cannot be read.
        """
        path = folder / "plan.json"
        if not path.exists():
            raise ResultError(f"{folder} has no plan.json; allowed: a folder that `reproduce` wrote")
        settings = read_document(path).get("settings", {})
        try:
            runs = {plain_name(name): Configuration.from_dict(of) for name, of in settings["runs"].items()}
            stored: dict[str, Any] = settings["evaluation"]
            options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items()}
            return cls(folder, runs, EvaluationOptions(**options), settings["data"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ResultError(f"{path} is no plan of `reproduce`: {error!r}") from error

    def checkpoint(self, run: str) -> Checkpoint:
        """A run's last one.

        Raises:
            ResultError: the run is not trained to its end.
        """
        folder = self.folder / "runs" / run
        if not (folder / DONE).exists():
            raise ResultError(f"{folder} is not trained to its end; give the same `reproduce` again, or choose runs")
        return Checkpoint.of(checkpoint_folder(folder, self.runs[run].steps))


class Place(NamedTuple):
    """Where rows are measured, and with what.

    Attributes:
        held_out: images.
        device: where to compute.
        batch_size: images in one pass.
        say: is told a line now and then.
    """

    held_out: Images
    device: torch.device
    batch_size: int
    say: Say

    def watch(self, progress: Progress) -> None:
        """Say which measure begins."""
        if progress.measure:
            self.say(f"{progress.row}: {progress.measure}")


def settings_of(plan: Plan, run: str, checkpoint: Any, options: LayerOptions, place: Place) -> dict[str, Any]:
    """All that a file depends on but for rounding, in JSON's types; checkpoint: which weights."""
    evaluation = dataclasses.asdict(plan.evaluation)
    settings = {
        "configuration": plan.runs[run].to_dict(),
        "checkpoint": checkpoint,
        "data": {"name": place.held_out.name, "fingerprint": place.held_out.fingerprint, "images": len(place.held_out)},
        "device": place.device.type,
        "noise": {name: evaluation[name] for name in NOISE},
        "options": dataclasses.asdict(options),
    }
    return dict(json.loads(json.dumps(settings)))


def subject_of(plan: Plan, run: str, network: nn.Module, images: int, place: Place) -> Subject:
    """A network with so many held-out images: the same, with the same timesteps and noise, for every row."""
    options = dataclasses.replace(plan.evaluation, images=images)
    material = Material(place.held_out, place.held_out, None)
    return Subject(network, Process(plan.runs[run].process), options, material, place.batch_size)


def row(plan: Plan, run: str, average: Average, options: LayerOptions, place: Place) -> dict[str, Any]:
    """The first stage of one row, or what is left of it; a file that is there already is read.

    Raises:
        CheckpointError: the checkpoint is damaged.
        ValueError: the data are others, an option does not fit the run, or a file is of other settings.
    """
    checkpoint = plan.checkpoint(run)
    check_data(checkpoint, Material(place.held_out, place.held_out, None))
    for step in options.tolerance_steps:
        if step >= plan.runs[run].process.steps:
            allowed = f"below the process's {plan.runs[run].process.steps} steps"
            raise arguments.refuse("tolerance_steps", options.tolerance_steps, allowed)
    settings = settings_of(plan, run, checkpoint.settings(average), options, place)
    result = ResultFile(plan.folder / LAYERS / f"{run}-{average}.json", settings, current_settings)

    def work() -> Work:
        network = loaded(checkpoint, average, place.device)
        subject = subject_of(plan, run, network, options.layer_images, place)
        steps = {f"t={t}": t for t in options.tolerance_steps}
        count, points, levels = options.tolerance_images, options.points, options.tolerance_levels
        measures: dict[str, Callable[[], Any]] = {
            "whole": lambda: {scale: whole_rise(subject, scale, options.whole_draws) for scale in WHOLE_NOISES},
            "readout": lambda: measured_readout(subject, options.readout_draws),
            "tolerance": lambda: {name: measured_tolerance(subject, t, count, levels) for name, t in steps.items()},
            "layers": lambda: measured_layers(subject),
        }
        if points:
            measures["linearisation"] = lambda: {
                name: measured_linearisation(subject, t, count, points) for name, t in steps.items()
            }
        return Work({name: Task(run) for name, run in measures.items()})

    about = about_of(plan, run, str(RowName(plan.runs[run].method, average)), average)
    return measured(result, result.path.stem, about, work, place.device, place.watch)


def about_of(plan: Plan, run: str, row: str, average: str) -> dict[str, str]:
    """The head of a document of the first stage."""
    what = "what needs weights beyond a row's measures: layers, tolerated gap, snapshots"
    return {"what": what, "run": run, "row": row, "average": average, "method": plan.runs[run].method}


class SnapshotFile(NamedTuple):
    """A snapshot on the disk.

    Attributes:
        path: of the file.
        gamma: the power-function EMA's exponent.
        steps: that had been made.
    """

    path: Path
    gamma: float
    steps: int

    @property
    def name(self) -> str:
        """Of its measures."""
        return f"step-{self.steps}"

    def settings(self) -> dict[str, Any]:
        """Which weights."""
        return {"gamma": self.gamma, "steps": self.steps, "sha256": hash_file(self.path).sha256}


def chosen(run: Path, count: int) -> list[SnapshotFile]:
    """So many snapshots of a run's shortest power-function EMA, evenly spaced, the last of all among them.

    Raises:
        DamagedError: a snapshot is damaged.
    """
    snapshots = [SnapshotFile(path, *snapshot_place(path)) for path in snapshot_files(run)]
    if not snapshots:
        return []
    shortest = max(one.gamma for one in snapshots)
    of_one = sorted((one for one in snapshots if one.gamma == shortest), key=lambda one: one.steps)
    count = min(count, len(of_one))
    return [of_one[round(len(of_one) * (place + 1) / count) - 1] for place in range(count)]


def snapshots(plan: Plan, run: str, options: LayerOptions, place: Place) -> dict[str, Any] | None:
    """The measures of a run's snapshots, or what is left of them; None where there are none to measure.

    Raises:
        CheckpointError: the checkpoint is damaged.
        ValueError: the data are others, or the file is of other settings.
    """
    checkpoint = plan.checkpoint(run)
    check_data(checkpoint, Material(place.held_out, place.held_out, None))
    files = chosen(plan.folder / "runs" / run, options.snapshots)
    if not files:
        return None
    settings = settings_of(plan, run, {one.name: one.settings() for one in files}, options, place)
    result = ResultFile(plan.folder / LAYERS / f"{run}-{SNAPSHOTS}.json", settings, current_settings)

    def work() -> Work:
        return Work({one.name: Task(functools.partial(_measured, plan, run, one, options, place)) for one in files})

    about = about_of(plan, run, f"{run} snapshots", SNAPSHOTS)
    return measured(result, result.path.stem, about, work, place.device, place.watch)


def _measured(plan: Plan, run: str, one: SnapshotFile, options: LayerOptions, place: Place) -> dict[str, Any]:
    weights, _ = read_tensors(one.path)
    network = ADM(plan.runs[run].network)
    load_state_dict(weights, network, source=str(one.path))
    network = network.to(place.device).eval().requires_grad_(False)
    subject = subject_of(plan, run, network, options.layer_images, place)
    return {
        "steps": one.steps,
        "whole": {scale: whole_rise(subject, scale, options.whole_draws) for scale in WHOLE_NOISES},
        "quantization": {str(bits): _rounded(subject, bits) for bits in plan.evaluation.rise_bits},
        "norms": {name: direction_norm(layer.parameters(recurse=False)) for name, layer in layers_of(network).items()},
    }


def _rounded(subject: Subject, bits: int) -> Any:
    return plain(subject.measured(flatness.quantization_rise, bits).rise)
