"""Without a card: the measures of points, the bridge's, curvature and worst cases make nothing on the wrong device, and
wait for it as often as the README's rule says."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flatness
from experiments.adm import ADM
from experiments.diffusion import Process, ProcessOptions
from experiments.gpu.small import TINY, configured
from experiments.measures import points
from experiments.measures.last_layer import measured_readout
from experiments.measures.layers import NOISES, layers_of, measured_layers, whole_rise
from experiments.measures.linearisation import measured_linearisation
from experiments.measures.noise_tolerance import measured_tolerance
from experiments.measures.points import QUICK, Measure, StudyMaterial
from experiments.measures.subject import Subject
from tests.experiments.gpu.emulated import DEVICE, EmulatedDevice, WrongDeviceError, emulation
from tests.experiments.measures.small_rows import OPTIONS, PixelFeatures, images, material

STEPS, IMAGES, BATCH = 20, 16, 8
BATCHES, BUFFERS = IMAGES // BATCH, 1
SIZES = dataclasses.replace(QUICK, images=IMAGES, rounded_bits=(4,), lpf_images=IMAGES)
SAMPLES = QUICK.samples // BATCH  # batches of samples
BY_DESIGN = (
    "experiments/training/validation.py fixed_batch",  # images, timesteps and noise, before they go to the device
    "experiments/measures/points.py losses",  # which of them
    "experiments/measures/subject.py real_images",
    "experiments/data/batches.py",  # the run's own order of images
    "experiments/diffusion/timesteps.py",  # the history is the CPU's
    "experiments/distances/",  # moments and jackknife, in float64
    "flatness/measuring/exposure_bias.py _summary",  # the results
    "flatness/measuring/layer_features.py __init__",  # sums of a few numbers, likewise
    # Noise that is the same on every device; of one layer, a few images, or once for all weights
    "experiments/measures/last_layer.py drawn",
    "experiments/measures/noise_tolerance.py images_at",
    "experiments/measures/linearisation.py _point",
    "experiments/measures/points.py samplers",
    "experiments/measures/layers.py _spread",  # which images
)
"""Where tensors of the CPU are made."""


@pytest.fixture(scope="module")
def network() -> ADM:
    with torch.device(DEVICE):
        made = ADM(TINY)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def study() -> StudyMaterial:
    """Reference moments are the CPU's, so that they are made there."""
    made = StudyMaterial.of(images("train"), images("test"), PixelFeatures(), SIZES, "cpu")
    return dataclasses.replace(made, device=DEVICE, batch_size=BATCH)


def subject_of(network: nn.Module) -> Subject:
    with emulation():
        made = Subject(network, Process(ProcessOptions(steps=STEPS)), OPTIONS, material(PixelFeatures()), BATCH)
        assert len(made.batches) == BATCHES
    return made


def watched(run: Callable[[], object]) -> EmulatedDevice:
    with emulation() as watch:
        run()
    misplaced = [where for where in watch.made_on_cpu if not where.startswith(BY_DESIGN)]
    assert not misplaced
    return watch


def at_points(evaluated: int, more: int = 1) -> int:
    """Waits of so many evaluations of the loss, buffers compared after each and `more` times beside."""
    return evaluated * BATCHES + 2 * BUFFERS * (evaluated + more)


def expected_of_a_point(measure: Measure, tensors: int) -> int:
    steps, draws = SIZES.worst_case_steps, OPTIONS.lpf_draws
    return {
        "losses": 2 * 2 * BATCHES,  # two losses of two splits
        "distance": 2 * SAMPLES + 3 * tensors * (measure.bits < 32),
        "exposure": 2 * measure.sampling_steps + 3,
        "lpf": 2 * at_points(draws + 1),
        "rounding": at_points(2) + 4 * tensors,
        "worst-case": at_points(steps + 1, 1 + steps) + 2 * tensors * steps,
        "gradient": 2 * SIZES.gradient_batches,
        "samplers": 4 * 2 * SAMPLES,
    }[measure.kind]


POINTS = [
    Measure("losses"), Measure("distance", 2), Measure("distance", 2, 4), Measure("exposure", 3), Measure("lpf"),
    Measure("rounding", 0, 4), Measure("worst-case"), Measure("gradient"), Measure("samplers", 2),
]  # fmt: skip


@pytest.mark.parametrize("measure", POINTS, ids=[measure.name for measure in POINTS])
def test_a_point(measure: Measure, network: ADM, study: StudyMaterial) -> None:
    subject = subject_of(network)
    configuration = dataclasses.replace(configured(tiny=True), process=subject.process.options)
    watch = watched(lambda: points.MEASURES[measure.kind](subject, study, configuration, measure))
    assert watch.waits.total() == expected_of_a_point(measure, len(list(network.parameters())))


def test_every_measure_of_a_point_is_watched() -> None:
    assert {measure.kind for measure in POINTS} == set(points.MEASURES)


def test_the_bridges_measures(network: ADM) -> None:
    subject, names = subject_of(network), list(layers_of(network))[::8]  # of every kind one
    tensors = sum(len(list(network.get_submodule(name).parameters(recurse=False))) for name in names)
    evaluations = 1 + 2 * len(NOISES) * len(names)
    watch = watched(lambda: measured_layers(subject, names))
    assert watch.waits.total() == evaluations * BATCHES + 2 * len(names) + tensors
    watch = watched(lambda: whole_rise(subject, "layer", 2))
    assert watch.waits.total() == at_points(2 * 2 + 1)
    watch = watched(lambda: measured_tolerance(subject, 2, 4, (0.1, 1.0)))
    assert watch.waits.total() == 4 * 2 + 1 + 1  # four laws at two levels, none at all, and their moments
    # What the readout takes: features and loss of a batch, its summary, and rounded weights
    own = 2 * BUFFERS * 2 + 2 * BATCHES + BATCHES + 3
    watch = watched(lambda: measured_readout(subject, 2))
    evaluations = 3 * (1 + 2 * 2) + (1 + 2)  # two scales of noise and dither; rounded weights
    assert watch.waits.total() == own + 3 + evaluations * BATCHES
    watch = watched(lambda: measured_linearisation(subject, 2, 4, 1))
    assert watch.waits.total() == 2 * BUFFERS * 2 + 2 + 1 + 3 + 5  # one batch, one point


class Small(nn.Module):
    """Two layers and a buffer: second derivatives of a whole network take minutes to emulate."""

    def __init__(self) -> None:
        """On the device."""
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """(n, 2)."""
        return self.scale * self.layers(x)


@pytest.fixture
def small() -> tuple[Any, Any, Any]:
    """A model of any kind, a loss and batches on the device."""
    with torch.device(DEVICE):
        model = Small()
    return model, lambda m, x: m(x).square().mean(1), [torch.ones(5, 3, device=DEVICE) for _ in range(BATCHES)]


def test_curvature(small: tuple[Any, Any, Any]) -> None:
    probes, steps, tensors = 3, 4, 4
    watch = watched(lambda: flatness.curvature(*small, probes=probes, max_steps=steps, tolerance=1e-30, progress=False))
    assert not watch.made_on_cpu or all("curvature.py" in where for where in watch.made_on_cpu)
    # A product is looked at for finite numbers; then one inner product, and in Lanczos a norm too
    own = tensors * (2 * probes + 3 * steps + 1)
    assert watch.waits.total() == BATCHES + own + 2 * BUFFERS * (1 + probes + steps + 1)


def test_worst_case_sharpness(small: tuple[Any, Any, Any]) -> None:
    steps, tensors = 3, 4
    watch = watched(lambda: flatness.worst_case_sharpness(*small, steps=steps, progress=False))
    assert not watch.made_on_cpu
    assert watch.waits.total() == at_points(steps + 1, 1 + steps) + 2 * tensors * steps


def test_a_batch_that_was_left_on_the_cpu_is_seen(small: tuple[Any, Any, Any]) -> None:
    model, loss, batches = small
    batches[1] = torch.ones(5, 3)
    with pytest.raises(WrongDeviceError):
        watched(lambda: flatness.worst_case_sharpness(model, loss, batches))
    with pytest.raises(WrongDeviceError):
        watched(lambda: flatness.curvature(model, loss, batches))


def test_a_measure_that_draws_on_the_cpu_is_seen(network: ADM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(points.MEASURES, "lpf", lambda subject, *_: torch.randn(7).to(subject.device))
    with emulation() as watch:
        points.MEASURES["lpf"](subject_of(network), None, None, None)
    assert watch.made_on_cpu
