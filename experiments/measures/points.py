"""One run measured along its way: losses, distances, exposure bias and flatness of the weights put aside at its points.

    out/points/<run>.json

A raw row that is one checkpoint says little: distances scatter from one late step of a run to another. So runs put
their weights aside at several points (`train --points`), and this measures them: distances and losses at all of them,
the rest at the late ones or once, at the end (`plan_of`). Every run of a study meets the same images, timesteps, noise
and draws.

Distances are two, in the classifier's features (Frechet) and of pixels (energy), and each is there twice: `choosing`,
of the first half of the samples to one half of the reference images, by which a dose may be chosen, and `reported`, of
the second half to the other.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

import flatness
from experiments.configuration import Configuration, current_settings
from experiments.data import Images, to_float
from experiments.diffusion.process import Process
from experiments.distances.energy import Reference
from experiments.distances.frechet import Features, Moments, jackknife, moments_of
from experiments.measures import exposure, weight_noise
from experiments.measures.options import EvaluationOptions
from experiments.measures.rows import Average, Checkpoint, check_data, loaded
from experiments.measures.runner import Progress, Task, Work, measured
from experiments.measures.sample_distance import rounded
from experiments.measures.subject import Material, Subject
from experiments.measures.weight_noise import batch_gradients, trained_on
from experiments.sampling.chains import finite_pixels, generate
from experiments.training.checkpoints import point_folder
from experiments.training.validation import fixed_batch
from findings.documents import ResultFile
from findings.ladder import LATE
from flatness import arguments
from flatness.measuring.base import plain, standard_error
from flatness.weights import derived_seed

FOLDER = "points"


@dataclass(frozen=True)
class PointOptions:
    """How finely points are measured: sizes that make a run's measuring cost about as much as its training."""

    images: int = 4096
    """Held-out images of a loss, and as many of the training images (with repetition where there are fewer)."""
    samples: int = 2000
    """Of a distance at T' = 20: half to choose a dose by, half to report."""
    long_samples: int = 1024
    """Of a distance at T' = 100, likewise."""
    rounded_bits: tuple[int, ...] = (8, 4, 3)
    """Widths of the rounded weights that are sampled from and whose loss is measured."""
    exposure_images: int = 500
    """Chains of exposure bias at T' = 20."""
    long_exposure_images: int = 128
    """Chains of exposure bias at T' = 100."""
    lpf_images: int = 2048
    """Images of the low-pass filter, of worst cases and of rounding."""
    lpf_draws: int = 12
    """Draws of the low-pass filter."""
    sigma: float = 0.01
    """Absolute weight noise of the low-pass filter, and of the weights that both samplers are tried with."""
    worst_case_radius: float = 0.05
    """Radius of the ball in which the loss is climbed, in the L2 norm over all weights."""
    worst_case_steps: int = 5
    """Steps of the climb."""
    gradient_batches: int = 64
    """Batches of the run's own size from which the mean norm of their gradients is taken."""
    reference: int = 4096
    """Real images in each half of the reference of pixels; the moments take all of each half."""
    groups: int = 16
    """Of samples, for the jackknife of the distance in features."""
    seed: int = 0
    """All draws are a function of it."""

    def __post_init__(self) -> None:
        """Check all fields."""
        for name in ("images", "exposure_images", "long_exposure_images", "lpf_images", "lpf_draws"):
            arguments.count(name, getattr(self, name), at_least=2)
        arguments.count("groups", self.groups, at_least=2)
        for name in ("samples", "long_samples"):
            if arguments.count(name, getattr(self, name), at_least=4 * self.groups) % 2:
                raise arguments.refuse(name, getattr(self, name), "an even number")
        for bits in self.rounded_bits:
            if not 2 <= arguments.count("rounded_bits", bits) <= 16:
                raise arguments.refuse("rounded_bits", bits, "whole numbers from 2 to 16")
        arguments.count("worst_case_steps", self.worst_case_steps, at_least=1)
        arguments.count("gradient_batches", self.gradient_batches, at_least=2)
        arguments.count("reference", self.reference, at_least=2)
        arguments.count("seed", self.seed)
        for name in ("sigma", "worst_case_radius"):
            arguments.number(name, getattr(self, name), above=0)


SMALL = PointOptions(
    images=1024,
    samples=512,
    long_samples=192,
    exposure_images=128,
    long_exposure_images=32,
    lpf_images=512,
    lpf_draws=8,
    gradient_batches=16,
)
"""For networks that cost some ten times as much a pass as `fashion-mnist-mini`."""
QUICK = PointOptions(
    images=64,
    samples=64,
    long_samples=64,
    exposure_images=8,
    long_exposure_images=4,
    lpf_images=16,
    lpf_draws=2,
    worst_case_steps=2,
    gradient_batches=2,
    reference=64,
    groups=8,
)
"""Everything runs, nothing is settled."""
SizesName = Literal["full", "small", "quick"]
SIZES: dict[SizesName, PointOptions] = {"full": PointOptions(), "small": SMALL, "quick": QUICK}


class Halves(NamedTuple):
    """Half of the reference, as both distances take it.

    Attributes:
        moments: of its features.
        pixels: of some of its images.
    """

    moments: Moments
    pixels: Reference


@dataclass(frozen=True)
class StudyMaterial:
    """What all runs of a study are measured with.

    Attributes:
        training: the images that runs are trained on, or draw their own from.
        held_out: images that no run has seen.
        features: of the distance.
        options: of the measures.
        choosing, reporting: the two halves of the training split as references.
        device: where to compute.
        batch_size: images in one pass.
    """

    training: Images
    held_out: Images
    features: Features
    options: PointOptions
    choosing: Halves
    reporting: Halves
    device: torch.device
    batch_size: int = 128

    @classmethod
    def of(
        cls, training: Images, held_out: Images, features: Features, options: PointOptions, device: torch.device | str
    ) -> StudyMaterial:
        """Compute both halves' moments and distances."""
        everything = training.drawn(len(training), derived_seed("reference halves", options.seed))
        middle = len(everything) // 2
        halves = []
        for part in (slice(None, middle), slice(middle, None)):
            pixels = everything.pixels[part]
            halves.append(Halves(moments_of(pixels, features), Reference(pixels[: options.reference])))
        return cls(training, held_out, features, options, halves[0], halves[1], torch.device(device))


class Measure(NamedTuple):
    """One measure of a point.

    Attributes:
        kind: a key of `MEASURES`.
        sampling_steps: T', where it samples; else 0.
        bits: of the weights, where they are rounded; 32 as they are.
    """

    kind: str
    sampling_steps: int = 0
    bits: int = 32

    @property
    def name(self) -> str:
        """For people and file names; the document has the fields."""
        steps = f"-{self.sampling_steps}" * bool(self.sampling_steps)
        return f"{self.kind}{steps}" + f"-{self.bits}" * (self.bits != 32)


class Point(NamedTuple):
    """Weights of a run to be measured.

    Attributes:
        step: how many had been made.
        average: of the weights.
        measures: which.
    """

    step: int
    average: Average
    measures: tuple[Measure, ...]

    @property
    def name(self) -> str:
        """For people and file names."""
        return f"{self.average}-{self.step}"


def plan_of(steps: int, points: tuple[int, ...], method: str, options: PointOptions) -> list[Point]:
    """What is measured where, of a run of so many steps with weights put aside at these points, its end among them.

    Raises:
        ValueError: the last step is not among the points.
    """
    if steps not in points:
        raise arguments.refuse("points", points, f"steps up to the run's last, {steps}, and that one among them")
    late = [point for point in sorted(points) if point >= LATE * steps]
    long = {late[0], late[len(late) // 2], late[-1]}
    losses, short_distance, short_exposure = Measure("losses"), Measure("distance", 20), Measure("exposure", 20)
    longer = (Measure("distance", 100), Measure("exposure", 100))
    rounded = tuple(Measure("distance", 20, bits) for bits in options.rounded_bits)
    flat = (Measure("lpf"), *(Measure("rounding", 0, bits) for bits in options.rounded_bits))
    once = (Measure("worst-case"), Measure("gradient"))
    chosen: list[Point] = []
    for point in sorted(points):
        everywhere = (losses, short_distance)
        if point in late:
            more = (*longer, *rounded) if point in long else ()
            chosen.append(Point(point, "raw", (*everywhere, short_exposure, *flat, *more, *(once * (point == steps)))))
        else:
            chosen.append(Point(point, "raw", everywhere))
        if point < late[0] or point == late[0] != steps:
            chosen.append(Point(point, "ema", everywhere))
    whole = (losses, short_distance, short_exposure, *flat, *longer, *once)
    samplers = (Measure("samplers", 100),) if method == "adm" else ()
    chosen.append(Point(steps, "ema", (*whole, *rounded, *samplers)))
    chosen.append(Point(steps, "swa", whole))
    return chosen


def passes_of(measure: Measure, options: PointOptions, configuration: Configuration) -> int:
    """What a measure costs, in passes of one image forward; a backward pass counts as two."""
    steps = measure.sampling_steps
    short = steps <= LONGEST_SHORT
    return {
        "losses": 2 * options.images,
        "distance": steps * (options.samples if short else options.long_samples),
        "exposure": 2 * steps * (options.exposure_images if short else options.long_exposure_images),
        "lpf": 2 * options.lpf_images * (options.lpf_draws + 1),
        "rounding": 2 * options.lpf_images,
        "worst-case": options.lpf_images * (3 * options.worst_case_steps + 2),
        "gradient": 3 * options.gradient_batches * configuration.global_batch,
        "samplers": 4 * steps * options.long_samples,
    }[measure.kind]


def run_points(
    run: Path,
    name: str,
    points: tuple[int, ...],
    material: StudyMaterial,
    path: Path,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure a run at its points, or what is left of it, and write its file; one that is there already is read.

    Args:
        run: the run's folder.
        name: of the run in the material.
        points: steps at which weights were put aside.
        material: see there.
        path: of the file.
        say: is told a line now and then.

    Raises:
        CheckpointError: a point is missing or damaged.
        ValueError: the data are others, or the file is of other settings.
    """
    folders = {step: Checkpoint.of(point_folder(run, step)) for step in points}
    configuration = next(iter(folders.values())).configuration
    todo = plan_of(configuration.steps, tuple(points), configuration.method, material.options)
    for checkpoint in folders.values():
        check_data(checkpoint, Material(material.held_out, material.training, material.features))
    settings = {
        "configuration": configuration.to_dict(),
        "points": {point.name: folders[point.step].settings(point.average) for point in todo},
        "data": {
            "name": material.held_out.name,
            "fingerprint": material.held_out.fingerprint,
            "image_size": material.held_out.image_size,
            "held_out": len(material.held_out),
            "training": len(material.training),
        },
        "features": {"name": material.features.name, "sha256": material.features.identity},
        "device": material.device.type,
        "options": dataclasses.asdict(material.options),
    }

    def work() -> Work:
        tasks: dict[str, Task] = {}
        for point in todo:
            subject = functools.cache(functools.partial(_subject, folders[point.step], point.average, material))
            for measure in point.measures:
                run = functools.partial(_measured, measure, subject, material, configuration)
                tasks[f"{point.name} {measure.name}"] = Task(run)
        return Work(tasks)

    def watch(progress: Progress) -> None:
        if progress.measure:
            say(f"{progress.row}: {progress.measure}")

    listed = [
        {"name": f"{point.name} {measure.name}", "step": point.step, "weights": point.average, **measure._asdict()}
        for point in todo
        for measure in point.measures
    ]
    about = {
        "what": "a run's weights along its way, measured",
        "run": name,
        "method": configuration.method,
        "points": listed,
    }
    result = ResultFile(path, dict(json.loads(json.dumps(settings))), current_settings)
    return measured(result, path.stem, about, work, material.device, watch)


def _subject(checkpoint: Checkpoint, average: Average, material: StudyMaterial) -> Subject:
    network = loaded(checkpoint, average, material.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    options = material.options
    evaluation = EvaluationOptions(
        images=options.lpf_images, sigma=options.sigma, lpf_draws=options.lpf_draws, seed=options.seed
    )
    images = Material(material.held_out, material.training, material.features)
    return Subject(network, Process(checkpoint.configuration.process), evaluation, images, material.batch_size)


def _measured(
    measure: Measure, subject: Callable[[], Subject], material: StudyMaterial, configuration: Configuration
) -> Any:
    return MEASURES[measure.kind](subject(), material, configuration, measure)


def losses(subject: Subject, material: StudyMaterial, configuration: Configuration, measure: Measure) -> dict[str, Any]:
    """The loss of held-out images, and of those that the run was trained on, in as many draws of timestep and noise.

    Timesteps are stratified; where the training images are fewer than the draws, each is met several times.
    """
    count, losses = material.options.images, {}
    for name, images in (("held_out", material.held_out), ("training", trained_on(material.training, configuration))):
        repeated = _repeated(images, count)
        batch = fixed_batch(repeated, subject.process, count, derived_seed("points", name, material.options.seed))
        values: dict[str, list[Tensor]] = {"loss": [], "mse": []}
        for part in torch.arange(count).split(material.batch_size):
            x_0, t, noise = (tensor[part].to(material.device) for tensor in (batch.x_0, batch.t, batch.noise))
            x_t = subject.process.q_sample(x_0, t, noise)
            with torch.no_grad():
                output = subject.network(x_t, subject.process.network_timesteps(t))
                of_images = subject.process.losses(output, x_0, x_t, t, noise)
            for key, of in values.items():
                of.append(getattr(of_images, key).double().cpu())
        for key, of in values.items():
            whole = torch.cat(of)
            losses[f"{name}_{key}"] = {"value": float(whole.mean()), "standard_error": standard_error(whole)}
    return losses


def _repeated(images: Images, count: int) -> Images:
    """The images as often as it takes to draw so many."""
    times = -(-count // len(images))
    if times == 1:
        return images
    return dataclasses.replace(images, pixels=images.pixels.repeat(times, 1, 1, 1), labels=None)


def distance(
    subject: Subject, material: StudyMaterial, configuration: Configuration, measure: Measure
) -> dict[str, Any]:
    """Both distances of samples, of weights of the measure's bits, to both halves of the reference; copies.

    `copies` is the share of samples whose nearest training image is less than a third as far as the second nearest
    (Yoon et al., 2023), of runs on a part of the images.
    """
    steps = measure.sampling_steps
    count = material.options.samples if steps <= LONGEST_SHORT else material.options.long_samples
    samples = _samples(subject, material, steps, count, measure.bits)
    distances = _distances(samples, material)
    if configuration.training_images is not None:
        distances["copies"] = copies(samples, trained_on(material.training, configuration).pixels)
    return distances


LONGEST_SHORT = 50
"""T' up to which samples are cheap enough for the larger number of them."""


def _samples(
    subject: Subject, material: StudyMaterial, steps: int, count: int, bits: int = 32, sampler: str = "ddpm"
) -> Tensor:
    """(count, C, H, W), uint8; image i is the same function of i in every run."""
    shape = (material.held_out.channels, material.held_out.image_size, material.held_out.image_size)
    with rounded(subject.network, bits):
        batches = generate(
            subject.network, subject.process, range(count), steps=steps, sampler=sampler, seed=material.options.seed,
            batch_size=material.batch_size, progress=None, shape=shape,
        )  # fmt: skip
        return torch.cat([finite_pixels(batch) for batch in batches])


def _distances(samples: Tensor, material: StudyMaterial) -> dict[str, Any]:
    distances: dict[str, Any] = {}
    for name, half, part in zip(
        ("choosing", "reported"), (material.choosing, material.reporting), samples.chunk(2), strict=True
    ):
        frechet = jackknife(material.features(part), half.moments, material.options.groups, material.options.seed)
        energy = half.pixels.distance(part)
        distances[name] = {
            "features": {
                "value": frechet.extrapolated,
                "standard_error": frechet.standard_error,
                "biased": frechet.value,
            },
            "pixels": {"value": energy.value, "standard_error": energy.standard_error},
        }
    return distances | {"samples": len(samples)}


def copies(samples: Tensor, training: Tensor) -> dict[str, float]:
    """The share of samples that are copies of training images, and its binomial standard error.

    Args:
        samples, training: uint8, (n, C, H, W) and (m, C, H, W), m at least 2.
    """
    points, real = (to_float(images).flatten(1) for images in (samples, training))
    nearest = torch.cat([torch.cdist(part, real).topk(2, largest=False).values for part in points.split(1000)])
    share = float((nearest[:, 0] < nearest[:, 1] / 3).double().mean())
    return {"value": share, "standard_error": (share * (1 - share) / len(samples)) ** 0.5}


def exposure_bias(
    subject: Subject, material: StudyMaterial, configuration: Configuration, measure: Measure
) -> dict[str, Any]:
    """The epsilon-norm gap: the mean over steps of its absolute value, and of the signed one."""
    options, steps = material.options, measure.sampling_steps
    count = options.exposure_images if steps <= LONGEST_SHORT else options.long_exposure_images
    shortened = dataclasses.replace(subject, options=dataclasses.replace(subject.options, exposure_images=count))
    result = exposure.measured(steps)(shortened)
    return {name: result[name] for name in ("mean_absolute_gap", "mean_signed_gap")}


def low_pass(
    subject: Subject, material: StudyMaterial, configuration: Configuration, measure: Measure
) -> dict[str, Any]:
    """The low-pass filter's value and rise, at absolute and at filter-relative noise."""
    result = {}
    for scale in ("absolute", "filter"):
        whole = weight_noise.low_pass(scale)(subject)
        result[scale] = {name: whole[name] for name in ("value", "rise")}
    return result


def rounding_rise(
    subject: Subject, material: StudyMaterial, configuration: Configuration, measure: Measure
) -> dict[str, Any]:
    """The rise of the held-out loss when weights are rounded to the measure's bits."""
    return {"rise": weight_noise.rounding(measure.bits)(subject)["rise"]}


def worst_case(
    subject: Subject, material: StudyMaterial, configuration: Configuration, measure: Measure
) -> dict[str, Any]:
    """The rise of the held-out loss at the end of a climb in a ball around the weights."""
    options = material.options
    sharpness = subject.measured(
        flatness.worst_case_sharpness,
        rho=options.worst_case_radius,
        steps=options.worst_case_steps,
        seed=options.seed,
    )
    return {"rise": plain(sharpness.rise), "radius": options.worst_case_radius}


def gradient(
    subject: Subject, material: StudyMaterial, configuration: Configuration, measure: Measure
) -> dict[str, Any]:
    """What SAM's dose is made of, of the images that the run was trained on."""
    options = material.options
    return batch_gradients(
        subject.network,
        subject.process,
        configuration,
        material.training,
        batches=options.gradient_batches,
        seed=options.seed,
        most=material.batch_size,
    )


def samplers(
    subject: Subject, material: StudyMaterial, configuration: Configuration, measure: Measure
) -> dict[str, Any]:
    """Distances by ancestral sampling and by DDIM, of the weights and of the weights with noise."""
    network, count = subject.network, material.options.long_samples
    generator = torch.Generator().manual_seed(derived_seed("samplers", material.options.seed))
    moved = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(
                material.options.sigma * torch.randn(parameter.shape, generator=generator).to(material.device)
            )
    distances: dict[str, Any] = {}
    for weights, one in (("clean", network), ("noisy", moved)):
        with_weights = dataclasses.replace(subject, network=one)
        for sampler in ("ddpm", "ddim"):
            distances[f"{weights}_{sampler}"] = _distances(
                _samples(with_weights, material, measure.sampling_steps, count, sampler=sampler), material
            )
    return distances


MEASURES: Mapping[str, Callable[..., Any]] = {
    "losses": losses,
    "distance": distance,
    "exposure": exposure_bias,
    "lpf": low_pass,
    "rounding": rounding_rise,
    "worst-case": worst_case,
    "gradient": gradient,
    "samplers": samplers,
}
