"""Some of a run's snapshots as rows: the loss and its rises along training, in out/layers/<run>-snapshots.json."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import flatness
from experiments.adm.loading import load_state_dict
from experiments.adm.network import ADM
from experiments.configuration import current_settings
from experiments.measures import layer_rows
from experiments.measures.layer_options import LayerOptions
from experiments.measures.layer_rows import LAYERS, Place, Plan
from experiments.measures.layers import WHOLE_NOISES, layers_of, whole_rise
from experiments.measures.rows import check_data
from experiments.measures.runner import Task, Work, measured
from experiments.measures.subject import Material, Subject
from experiments.tensor_files import read_tensors
from experiments.training.snapshots import snapshot_files, snapshot_place
from findings.documents import ResultFile
from findings.files import hash_file
from flatness.measuring.base import plain
from flatness.weights import direction_norm

SNAPSHOTS = "snapshots"


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
    found = [SnapshotFile(path, *snapshot_place(path)) for path in snapshot_files(run)]
    if not found:
        return []
    shortest = max(one.gamma for one in found)
    of_one = sorted((one for one in found if one.gamma == shortest), key=lambda one: one.steps)
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
    settings = layer_rows.settings_of(plan, run, {one.name: one.settings() for one in files}, options, place)
    result = ResultFile(plan.folder / LAYERS / f"{run}-{SNAPSHOTS}.json", settings, current_settings)

    def work() -> Work:
        return Work({one.name: Task(functools.partial(_measured, plan, run, one, options, place)) for one in files})

    about = layer_rows.about_of(plan, run, f"{run} snapshots", SNAPSHOTS)
    return measured(result, result.path.stem, about, work, place.device, place.watch)


def _measured(plan: Plan, run: str, one: SnapshotFile, options: LayerOptions, place: Place) -> dict[str, Any]:
    weights, _ = read_tensors(one.path)
    network = ADM(plan.runs[run].network)
    load_state_dict(weights, network, source=str(one.path))
    network = network.to(place.device).eval().requires_grad_(False)
    subject = layer_rows.subject_of(plan, run, network, options.layer_images, place)
    return {
        "steps": one.steps,
        "whole": {scale: whole_rise(subject, scale, options.whole_draws) for scale in WHOLE_NOISES},
        "quantization": {str(bits): _rounded(subject, bits) for bits in plan.evaluation.rise_bits},
        "norms": {name: direction_norm(layer.parameters(recurse=False)) for name, layer in layers_of(network).items()},
    }


def _rounded(subject: Subject, bits: int) -> Any:
    found = flatness.quantization_rise(
        subject.network, subject.objective, subject.batches, bits, seed=subject.options.seed
    )
    return plain(found.rise)
