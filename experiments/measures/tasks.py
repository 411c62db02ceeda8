"""All measures of one row, as tasks that are carried out one by one: each has a name, a cost, and a result for JSON.

Costs in passes of one image through the network (forward; a backward pass counts as two), for N images, D draws:

    loss            N                             lpf-<scale>      N (D + 1), for absolute, layer and filter
    curve-random    N (D distances + 1)           curve-gradient   N (distances + 4)
    surface         N (points^2 + 1)              quantization-b   2 N
    readout         N + first batch + 2 N (D + 1) + 2 N widths
    exposure-T'     2 T' images                   frechet-T'-b     T' samples
    gradient        3 batches of the run's own size

With the presets on fashion-mnist-tiny (0.15 GFLOP an image): demo 6e3, tiny 1.2e5, full 2.3e7 passes a row;
`passes_of` adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from experiments.measures import exposure, sample_distance, weight_noise
from experiments.measures.options import FEWEST_SAMPLES, EvaluationOptions
from experiments.measures.subject import Material, Subject
from findings import names

Measured = dict[str, Any]


class Task(NamedTuple):
    """One measure.

    Attributes:
        run: computes it; the result is in JSON's types.
        passes: of one image through the network.
    """

    run: Callable[[Subject], Measured]
    passes: int


def tasks(
    options: EvaluationOptions,
    images: int,
    exposure_images: int,
    with_distances: bool,
    floors: Sequence[int] = (),
    batch: int | None = None,
) -> dict[str, Task]:
    """All measures of a row, by name, in the order in which they are carried out.

    Args:
        options: of the measures.
        images: held-out images that losses are measured on.
        exposure_images: those of exposure bias.
        with_distances: whether there are features to measure distances in.
        floors: numbers of real images whose distance is measured.
        batch: images of a step of the run, whose gradient is measured; None to leave that out.
    """
    tasks = _of_losses(options, images)
    if batch is not None:
        tasks[names.GRADIENT] = Task(_gradient, 3 * weight_noise.BATCHES * batch)
    for steps in options.sampling_steps:
        run = exposure.measured(steps)
        tasks[names.exposure(steps)] = Task(run, 2 * steps * exposure_images)
    if with_distances:
        tasks |= {names.floor(count): Task(sample_distance.floor(count), 0) for count in floors}
        tasks |= _of_samples(options)
    return tasks


def _of_losses(options: EvaluationOptions, images: int) -> dict[str, Task]:
    tasks = {"loss": Task(weight_noise.held_out_loss, images)}
    for scale in names.SCALES:
        tasks[names.low_pass(scale)] = Task(weight_noise.low_pass(scale), images * (options.lpf_draws + 1))
    curve = options.curve_draws * len(options.curve_rms) + 1
    tasks["curve-random"] = Task(weight_noise.random_curve, images * curve)
    if options.gradient_distances:
        tasks["curve-gradient"] = Task(weight_noise.gradient_curve, images * (len(options.gradient_distances) + 4))
    if options.surface_points:
        tasks["surface"] = Task(weight_noise.surface, images * (options.surface_points**2 + 1))
    for bits in options.rise_bits:
        tasks[names.quantization(bits)] = Task(weight_noise.rounding(bits), 2 * images)
    readout = 2 * (options.readout_draws + 1) + 2 * len(options.rise_bits) + 2
    tasks["readout"] = Task(weight_noise.last_layer, images * readout)
    return tasks


def _gradient(subject: Subject) -> Measured:
    assert subject.run is not None
    return weight_noise.batch_gradients(
        subject.network,
        subject.process,
        subject.run,
        subject.material.reference,
        batches=weight_noise.BATCHES,
        seed=subject.options.seed,
        most=subject.gradient_batch,
    )


def _of_samples(options: EvaluationOptions) -> dict[str, Task]:
    tasks = {}
    for steps, count in zip(options.sampling_steps, options.samples, strict=True):
        for bits in (names.FULL, *(options.bits if steps in options.quantized_steps else ())):
            run = sample_distance.of_samples(steps, count, bits)
            tasks[names.distance(steps, bits)] = Task(run, steps * count)
    return tasks


def tasks_of(subject: Subject) -> dict[str, Task]:
    """The same for a subject, whose held-out split may be smaller than the options ask for."""
    options, material = subject.options, subject.material
    images, exposed = images_of(options, material)
    batch = None if subject.run is None else subject.run.global_batch
    return tasks(options, images, exposed, material.features is not None, floors_of(options, material), batch)


def images_of(options: EvaluationOptions, material: Material) -> tuple[int, int]:
    """Held-out images of losses, and of exposure bias: as many as are asked for, or as there are."""
    held_out = len(material.held_out)
    return min(options.images, held_out), min(options.exposure_images, held_out)


def floors_of(options: EvaluationOptions, material: Material) -> list[int]:
    """Numbers of real images whose distance is measured: as many as samples, or all where there are fewer.

    None where there are no distances, where the reference holds them, or where they are too few for the jackknife.
    """
    most = 0 if material.features is None else material.floor_images
    counts = dict.fromkeys(min(count, most) for count in options.samples)
    return [count for count in counts if count >= max(FEWEST_SAMPLES, 2 * options.groups)]


def passes_of(chosen: Mapping[str, Task]) -> int:
    """All together."""
    return sum(task.passes for task in chosen.values())
