"""Section 4: the ladder's fourth rung, as far as the minutes reach.

adm, and SAM at two radii, on Fashion-MNIST at 32 x 32 by the preset `fashion-mnist`, as many steps as half of the time
allows; then every row measured, at sizes that the other half allows. The folder OUT/rung4 is one of `reproduce`: rows
and tables, and points, by which the ladder judges. A few steps and passes are timed first, from which lengths and sizes
follow; a folder that holds a plan is gone on with as it was planned.
"""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from experiments import data
from experiments.adm import ADM
from experiments.configuration import PRESETS, Configuration, RunOptions
from experiments.data import Images
from experiments.distances.classifier import IMAGE_SIZES, ClassifierFeatures
from experiments.distances.frechet import ReferenceCache
from experiments.gpu.options import RADII, GPUOptions
from experiments.gpu.record import Record, median_seconds
from experiments.gpu.small import configured, made_images
from experiments.measures.options import EVALUATIONS, EvaluationOptions
from experiments.measures.points import PointOptions, passes_of, plan_of
from experiments.measures.subject import CACHE, Material
from experiments.measures.tasks import passes_of as row_passes
from experiments.measures.tasks import tasks
from experiments.reproduce import Matrix, Run, matrix, shortened
from experiments.training import planning
from findings.documents import read_document
from findings.ladder import LadderError, Study
from findings.ladder_claims import Selection
from findings.names import AVERAGES
from flatness.passes import whole_float32

FOLDER = "rung4"
RESULTS = Path(__file__).parents[2] / "results"
STUDIES = ("fashion-mnist-mini", "fashion-mnist-tiny")
"""Whose radii, chosen by their raw rows' distances as the paper chose its own, are taken over."""
TRAINING = 0.5
"""Share of the time that training gets."""
FEWEST_STEPS, ROUNDED_TO = 200, 20
LATE = (0.8, 0.9, 1.0)
"""Shares of the run after which weights are put aside: raw rows are means over late points."""
PASS_SECONDS = 60.0
"""Seconds with fewer of which the rung is not begun on a card."""
TIMED_STEPS = 5


class Sizes(NamedTuple):
    """How finely rows and points are measured."""

    rows: EvaluationOptions
    points: PointOptions


def sizes(divisor: int) -> Sizes:
    """The sizes of `reproduce`, all but the fewest that its measures take divided by a power of two."""
    whole, points = EVALUATIONS["tiny"], PointOptions()
    rows = dataclasses.replace(
        whole, images=max(whole.images // divisor, 64), surface_points=0, exposure_images=max(48 // divisor, 16)
    )  # fmt: skip
    parts = ("images", "exposure_images", "long_exposure_images", "lpf_images")
    changed: dict[str, Any] = {name: max(getattr(points, name) // divisor, 16) for name in parts}
    changed |= {
        name: max(getattr(points, name) // divisor // 2 * 2, 4 * points.groups) for name in ("samples", "long_samples")
    }
    changed["gradient_batches"] = max(points.gradient_batches // divisor, 4)
    return Sizes(rows, dataclasses.replace(points, **changed))


DIVISORS = (1, 2, 4, 8, 16)


def run(options: GPUOptions, device: torch.device, record: Record) -> None:
    """Radii, plan, runs, rows and tables."""
    record.part("plan", lambda: planned(options, device, record.left), needs=0.0 if options.tiny else PASS_SECONDS)
    plan = record.parts["plan"]
    if "steps" in plan:
        record.part("study", lambda: carried_out(options, device, plan))


def planned(options: GPUOptions, device: torch.device, seconds: float) -> dict[str, Any]:
    """Radii, steps and sizes, from timed steps and passes; or those of the plan that is there."""
    there = options.out / FOLDER / "plan.json"
    if there.exists():
        return _plan_there(there)
    radii, source = chosen_radii(options.radii)
    base = _base(options, device)
    if options.tiny:
        return {"radii": list(radii), "radii_from": source, "steps": base.steps, "divisor": None, "points": []}
    timing = planning.timed(base, device, base.global_batch)
    step = statistics.median(timing.passes) + statistics.median(timing.update)
    forward = _forward_seconds(base, device)
    runs = 1 + 2 * len(radii)  # SAM's steps are two passes
    steps = max(FEWEST_STEPS, int(TRAINING * seconds / (runs * step)) // ROUNDED_TO * ROUNDED_TO)
    passes = {divisor: measuring_passes(base, steps, radii, sizes(divisor)) for divisor in DIVISORS}
    left = seconds - steps * runs * step
    divisor = next((d for d in DIVISORS if passes[d] * forward <= left), DIVISORS[-1])
    return {
        "radii": list(radii),
        "radii_from": source,
        "steps": steps,
        "divisor": divisor,
        "points": points_of(steps),
        "step_seconds": step,
        "forward_seconds_per_image": forward,
        "training_seconds": steps * runs * step,
        "measuring_seconds": passes[divisor] * forward,
    }


def chosen_radii(given: Sequence[float], results: Path = RESULTS) -> tuple[tuple[float, float], str]:
    """Two radii, and where they come from: the command line, the studies that are recorded, or the defaults.

    A study's is the one whose raw rows have the least distance to the choosing half; where both chose the same, or
    one study alone is recorded, its own and three times it.
    """
    if given:
        return (given[0], given[1]), "given"
    radii = []
    for name in STUDIES:
        try:
            dose = Study(results / name / "points").dose_of(Selection("sam", "raw", "chosen"))
        except LadderError:
            continue
        if isinstance(dose, float) and dose > 0:
            radii.append(dose)
    if not radii:
        return RADII, "the default, as no study with points is recorded"
    first, last = min(radii), max(radii)
    return (first, 3 * first if last == first else last), f"results of {' and '.join(STUDIES)}"


def points_of(steps: int) -> list[int]:
    """Steps after which weights are put aside."""
    return [round(share * steps) for share in LATE]


def measuring_passes(base: Configuration, steps: int, radii: Sequence[float], chosen: Sizes) -> int:
    """Passes of one image forward that all rows and points take."""
    methods = ("adm", *("sam" for _ in radii))
    c = dataclasses.replace(base, steps=steps)
    points = sum(
        passes_of(measure, chosen.points, c)
        for method in methods
        for point in plan_of(steps, tuple(points_of(steps)), method, chosen.points)
        for measure in point.measures
    )
    row = row_passes(tasks(chosen.rows, chosen.rows.images, chosen.rows.exposure_images, True))
    return points + len(methods) * len(AVERAGES) * row


def carried_out(options: GPUOptions, device: torch.device, plan: dict[str, Any]) -> dict[str, Any]:
    """Train and measure; what the rows are, shortly."""
    base = shortened(_base(options, device), plan["steps"])
    runs = matrix(base, plan["radii"], methods=("adm", "sam"))
    chosen = Sizes(SMALLEST, PointOptions()) if plan["divisor"] is None else sizes(plan["divisor"])
    folder, size = options.out / FOLDER, base.network.image_size
    train, test = _images(options, base)
    features = ClassifierFeatures(size, device) if size in IMAGE_SIZES else None
    material = Material(test, train, features, ReferenceCache(folder / "runs" / CACHE))
    whole = Matrix(
        folder,
        runs,
        chosen.rows,
        train,
        material,
        run_options=lambda out: _run_options(out, device, base.steps, tuple(plan["points"])),
        device=device,
        batch_size=64 if device.type == "cpu" else 512,
        points=tuple(plan["points"]),
        point_options=chosen.points,
    )
    results = whole.carried_out()
    return {
        "folder": FOLDER,
        "runs": [run.name for run in runs],
        "rows": len(results.results),
        "rows_with_failed_measures": sum(_failed(row) for row in results.results),
        "images_trained_on": len(runs) * base.steps * base.global_batch,
        "losses": {_name(runs, index): _loss(row) for index, row in enumerate(results.results)},
        "statement": results.statement,
    }


SMALLEST = EvaluationOptions(
    images=8,
    lpf_draws=2,
    curve_rms=(0.01,),
    curve_draws=2,
    gradient_distances=(0.1,),
    surface_points=0,
    rise_bits=(4,),
    readout_draws=2,
    sampling_steps=(2,),
    exposure_images=4,
    samples=(24,),
    bits=(4,),
    quantized_steps=(2,),
    groups=4,
)
"""Of a rehearsal."""


def _base(options: GPUOptions, device: torch.device) -> Configuration:
    """What all runs have in common, for as many steps as the preset says."""
    if options.tiny:
        return dataclasses.replace(configured(tiny=True), steps=4)
    precision: Literal["float32", "bfloat16"] = "bfloat16" if device.type == "cuda" else "float32"
    return dataclasses.replace(PRESETS["fashion-mnist"], precision=precision)


def _images(options: GPUOptions, base: Configuration) -> tuple[Images, Images]:
    """Training and held-out images."""
    if options.tiny:
        return made_images(base, 40), made_images(base, 32, "test")
    size = base.network.image_size
    return data.load(base.dataset, "train", size, options.data), data.load(base.dataset, "test", size, options.data)


def _run_options(out: Path, device: torch.device, steps: int, points: tuple[int, ...]) -> RunOptions:
    return RunOptions(
        out=out,
        device="cuda" if device.type == "cuda" else "cpu",
        checkpoint_every=max(steps // 4, 1),
        log_every=max(steps // 20, 1),
        sample_every=0,
        points=points,
    )


def _forward_seconds(base: Configuration, device: torch.device, images: int = 512) -> float:
    """Of one image, in float32 as rows are measured."""
    network = ADM(base.network).to(device).eval().requires_grad_(False)
    x = torch.zeros(images, base.network.channels, base.network.image_size, base.network.image_size, device=device)
    t = torch.zeros(images, dtype=torch.int64, device=device)
    with whole_float32(), torch.no_grad():
        return median_seconds(device, TIMED_STEPS, lambda index: network(x, t)) / images


def _plan_there(path: Path) -> dict[str, Any]:
    """The steps, radii and sizes of a plan that `reproduce` wrote; its sizes are those of one divisor."""
    settings = read_document(path)["settings"]
    configurations = [Configuration.from_dict(stored) for stored in settings["runs"].values()]
    points = settings.get("points", {})
    divisor = next((d for d in DIVISORS if points and _plain(sizes(d).points) == points["options"]), None)
    return {
        "radii": [c.sam.rho for c in configurations if c.perturbs_weights],
        "radii_from": "the plan that was there",
        "steps": configurations[0].steps,
        "divisor": divisor,
        "points": list(points.get("at", [])),
    }


def _plain(options: PointOptions) -> Any:
    return json.loads(json.dumps(dataclasses.asdict(options)))


def _failed(row: dict[str, Any]) -> bool:
    return any("failed" in measure for measure in row["measures"].values())


def _name(runs: Sequence[Run], index: int) -> str:
    return f"{runs[index // len(AVERAGES)].name}+{AVERAGES[index % len(AVERAGES)]}"


def _loss(row: dict[str, Any]) -> float:
    loss = row["measures"]["loss"]
    return float(loss["mse"]["value"]) if "mse" in loss else math.nan
