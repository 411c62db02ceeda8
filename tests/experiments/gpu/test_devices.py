"""Without a card: nothing is made on the wrong device, or waits for it more often than the README says."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import experiments
import flatness
from experiments.adm import ADM
from experiments.configuration import PRESETS, Configuration
from experiments.diffusion import Process, ProcessOptions
from experiments.gpu.small import TINY, configured
from experiments.measures.subject import Subject
from experiments.measures.tasks import tasks_of
from experiments.sampling.chains import finite_pixels, generate
from experiments.training import planning
from experiments.training.distributed import Ranks
from experiments.training.state import TrainingState
from tests.experiments.gpu.emulated import DEVICE, EmulatedDevice, WrongDeviceError, emulation
from tests.experiments.measures.small_rows import OPTIONS, PixelFeatures, material

README = Path(experiments.__file__).parent / "README.md"
BY_DESIGN = (
    "experiments/diffusion/timesteps.py",  # the history is the CPU's, the same on all ranks
    "experiments/measures/subject.py real_images",  # which images, before they go to the device
    "experiments/distances/",  # moments and jackknife, in float64
    "flatness/measuring/exposure_bias.py _summary",  # the results
    "flatness/measuring/layer_features.py __init__",  # sums of a few numbers, likewise
)
"""Where tensors of the CPU are made."""
BATCHES, BUFFERS = 2, 1
STEPS = 2


def documented(what: str) -> int:
    """The README's number of waits."""
    (row,) = re.findall(rf"^\| {re.escape(what)} \| (\d+) ", README.read_text(), re.MULTILINE)
    return int(row)


def misplaced(watch: EmulatedDevice) -> list[str]:
    return [where for where in watch.made_on_cpu if not where.startswith(BY_DESIGN)]


# The watch itself: each of these would go unseen if it did nothing.


def test_two_devices_in_one_operation_are_refused() -> None:
    with emulation(), pytest.raises(WrongDeviceError, match="of the device and of the CPU"):
        torch.ones(3, device=DEVICE) + torch.ones(3)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x.cpu(),
        lambda x: bool((x > 0).all()),
        lambda x: x.tolist(),
        lambda x: torch.empty(3).copy_(x),
        lambda x: torch.equal(x, x),
    ],
)
def test_each_way_to_read_a_value_is_a_wait(read: Callable[[Tensor], object]) -> None:
    with emulation() as watch:
        read(torch.ones(3, device=DEVICE))
    assert watch.waits.total() == 1


def test_tensors_of_the_cpu_are_noted_and_scalars_are_not() -> None:
    with emulation() as watch:
        torch.zeros(())
        torch.zeros(2, device=DEVICE)
        assert not watch.made_on_cpu
        torch.zeros(2)
    assert watch.made_on_cpu.total() == 1


def test_held_bytes_are_those_of_living_tensors() -> None:
    with emulation() as watch:
        a = torch.zeros(100, device=DEVICE)
        b = a.view(10, 10)
        del a
        assert watch.held == 400
        del b
        assert (watch.held, watch.peak) == (0, 400)


# What it watches.


def stepped(configuration: Configuration) -> EmulatedDevice:
    """A step after the first, averages included."""
    with emulation() as watch:
        state = TrainingState(configuration, Ranks(device=DEVICE))
        network = configuration.network
        shape = (configuration.global_batch, network.channels, network.image_size, network.image_size)
        pixels = torch.empty(shape, dtype=torch.uint8, device=DEVICE)
        assert state.shadows is not None
        for step in range(2):
            watch.waits.clear()
            watch.made_on_cpu.clear()
            watch.transfers, watch.peak = 0, watch.held
            state.stepper(step, pixels)
            state.shadows.update(step)
    return watch


@pytest.mark.parametrize("timesteps", ["uniform", "second-moment"])
@pytest.mark.parametrize("method", ["adm", "ip", "rwp", "sam", "ip+sam"])
def test_a_training_step(method: Any, timesteps: Any) -> None:
    watch = stepped(configured(tiny=True, method=method, timestep_weights=timesteps))
    assert not misplaced(watch)
    name = "a step of SAM, averages included" if "sam" in method else "a plain step, averages included"
    assert watch.waits.total() == documented(name)
    # Timesteps and their losses' weights: 8 and 4 bytes an image; noise and images are on the device
    assert watch.transfers == 12 * configured(tiny=True).global_batch


def test_a_step_in_micro_batches_waits_no_more() -> None:
    with emulation() as watch:
        state = TrainingState(configured(tiny=True, method="sam"), Ranks(device=DEVICE), micro_batch=2)
        watch.waits.clear()
        state.stepper(0, torch.empty((8, 1, 4, 4), dtype=torch.uint8, device=DEVICE))
    assert watch.waits.total() == documented("a step of SAM, averages included")


@pytest.fixture(scope="module")
def network() -> ADM:
    with torch.device(DEVICE):
        made = ADM(TINY)
    return made.eval().requires_grad_(False)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("steps", [2, 6])
def test_sampling(network: ADM, sampler: Any, steps: int) -> None:
    with emulation() as watch:
        process = Process(ProcessOptions(steps=20))
        for batch in generate(network, process, range(6), steps=steps, sampler=sampler, batch_size=3, progress=False):
            finite_pixels(batch)
    assert not misplaced(watch)
    assert watch.waits.total() == 2 * documented("a batch of samples, whatever T'")


def expected(name: str, tensors: int) -> int:
    """Waits of a measure, by the README's rule: batches and points, buffers, tensors of weights."""

    def points(evaluated: int, calls: int = 1) -> int:
        return evaluated * BATCHES + 2 * BUFFERS * (evaluated + calls)

    o = OPTIONS
    draws, rises = o.readout_draws + 1, len(o.rise_bits)
    return {
        "loss": 3 * BATCHES,
        "lpf-absolute": points(o.lpf_draws + 1),
        "lpf-layer": points(o.lpf_draws + 1),
        "lpf-filter": points(o.lpf_draws + 1),
        "curve-random": points(o.curve_draws * len(o.curve_rms) + 1) + tensors * o.curve_draws,
        "surface": points(o.surface_points**2 + 1) + 2 * tensors,
        "quantization-4": points(2) + 4 * tensors,
        "readout": points(2 * draws + 2 * rises + 1, 3 + rises) + 2 * BATCHES + 7 + tensors,
        "exposure-2": 2 * 2 + 3,
        "exposure-3": 2 * 3 + 3,
        "frechet-floor-24": 0,
        "frechet-floor-30": 0,
        "frechet-2-32": 2 * 3,
        "frechet-2-3": 2 * 3 + 3 * tensors,
        "frechet-3-32": 2 * 4,
    }[name]  # fmt: skip


def test_every_measure(network: ADM) -> None:
    with emulation():
        subject = Subject(network, Process(ProcessOptions(steps=20)), OPTIONS, material(PixelFeatures()), batch_size=8)
        assert len(subject.batches) == BATCHES
    tensors, waits = len(list(network.parameters())), {}
    for name, task in tasks_of(subject).items():
        with emulation() as watch:
            task.run(subject)
        assert not misplaced(watch), name
        waits[name] = watch.waits.total()
    # Along the gradient: the two points of a curve, a pass for the gradient, and two norms a tensor
    gradient = waits.pop("curve-gradient")
    assert gradient <= 2 * BATCHES + 2 * BUFFERS * 4 + 2 * tensors
    assert waits == {name: expected(name, tensors) for name in waits}


FLATTENERS: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "SAM": lambda inner: flatness.SAM(inner, rho=0.05),
    "ASAM": lambda inner: flatness.SAM(inner, rho=0.05, adaptive=True),
    "random SAM": lambda inner: flatness.RandomSAM(inner, rho=0.05),
    "friendly SAM": lambda inner: flatness.FriendlySAM(inner, rho=0.05),
    "random weight perturbation": lambda inner: flatness.RandomWeightPerturbation(inner, sigma=0.05),
    "relative weight perturbation": lambda inner: flatness.RandomWeightPerturbation(inner, sigma=0.05, scale="filter"),
}


@pytest.mark.parametrize("name", FLATTENERS)
def test_a_step_of_a_flattener_of_any_network(name: str) -> None:
    with emulation() as watch:
        with torch.device(DEVICE):
            model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        x = torch.ones(5, 3, device=DEVICE)
        optimizer = FLATTENERS[name](torch.optim.SGD(model.parameters(), lr=0.1))

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        watch.waits.clear()
        optimizer.step(closure)
    assert not watch.made_on_cpu
    assert watch.waits.total() == documented(f"{name}, a step of the optimizer")


# Memory.


@pytest.mark.parametrize("method", ["adm", "sam", "rwp"])
def test_memory_of_a_dry_run_is_what_the_plan_counts(method: Any) -> None:
    """Gradients come as activations go, so a step has less than both at once; temporaries are not in the plan."""
    c = configured(tiny=False, method=method)
    counted = {k: v for k, v in planning.memory(c).items() if not k.startswith("a checkpoint's copy")}
    assert 0.9 < stepped(c).peak / sum(counted.values()) < 1.2


def test_memory_of_the_papers_configuration() -> None:
    c = dataclasses.replace(PRESETS["cifar10"], method="sam", global_batch=16)
    counted = {k: v for k, v in planning.memory(c).items() if not k.startswith("a checkpoint's copy")}
    assert 0.9 < stepped(c).peak / sum(counted.values()) < 1.1


# Compilation.


class Breaking(nn.Module):
    """Reads a value on its way."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x or t, as x's sum has it."""
        return x if float(x.sum()) > 0 else x + t.sum()


def breaks(model: nn.Module, x: Tensor, t: Tensor) -> int:
    torch._dynamo.reset()
    try:
        return int(torch._dynamo.explain(model)(x, t).graph_break_count)
    finally:
        torch._dynamo.reset()


@pytest.mark.parametrize("low", [False, True])
def test_the_compiled_forward_is_one_graph(low: bool) -> None:
    options = dataclasses.replace(TINY, attention_resolutions=(4,), dropout=0.1)
    x, t = torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        assert breaks(ADM(options).train(), x, t) == 0
        if not low:
            assert breaks(Breaking(), x, t) > 0
