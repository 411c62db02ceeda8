"""Counted operations, passes and memory against published figures, hand counts and real tensors."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.adm import ADM
from experiments.configuration import PRESETS, Configuration, SAMOptions
from experiments.training import planning
from experiments.training.trainer import train
from flatness.passes import tf32
from tests.experiments.training.small_runs import NETWORK, STEPS, configured, images, run_options

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("preset", "parameters", "gflop"), [("cifar10", 57_094_662, 18.5), ("lsun-tower", 295_136_454, 219)]
)
def test_published_figures(preset: Any, parameters: int, gflop: float) -> None:
    options = PRESETS[preset].network
    assert planning.parameter_count(options) == parameters
    operations = planning.operations(options)
    assert operations.forward / 1e9 == pytest.approx(gflop, rel=0.005)  # published to three digits
    # Each product's backward pass is two of its size, but the first convolution's input needs none
    assert 2.99 < operations.training / operations.forward < 3.0


def test_a_convolution_counts_two_for_a_multiplication_and_an_addition() -> None:
    """The smallest network by hand: what 16 pixels and one vector of the time embedding go through."""
    convolution, width, pixels = 2 * 9, 32, 16
    embedding = 2 * (width * 4 * width + (4 * width) ** 2)
    block = 2 * convolution * pixels * width * width + 2 * 4 * width * 2 * width
    wide = block + (convolution + 2) * pixels * width * width  # twice the width in, and the skip's 1 x 1 on it
    wide += 2 * pixels * width * width
    attention = pixels * 2 * (3 + 1) * width**2 + 2 * 2 * pixels * pixels * width
    ends = convolution * pixels * width * (1 + 2)
    options = dataclasses.replace(NETWORK, num_res_blocks=1)
    # Way down 1, middle 2 and its attention, way up 2
    assert planning.operations(options).forward == embedding + 3 * block + 2 * wide + attention + ends


def sam(**changes: Any) -> Configuration:
    return configured(method="sam", sam=SAMOptions(**changes))


@pytest.mark.parametrize(
    ("configuration", "passes"),
    [
        (configured(method="adm"), 1),
        (configured(method="ip"), 1),
        (sam(rho=0.1), 2),
        (configured(method="ip+sam"), 2),
        (sam(rho=0.0), 1),
        (sam(sam_schedule="late", late_start=0.75), 1.25),
        (sam(sam_schedule="every-k", every=5), 1 + 3 / STEPS),  # steps 0, 5, 10 of 12
        (sam(ascent_share=0.25), 1.25),  # 2 of 8 images, then all
        (sam(ascent_share=0.01), 1.125),
    ],
)
def test_passes_follow_the_schedule(configuration: Configuration, passes: float) -> None:
    assert planning.passes_per_step(configuration) == pytest.approx(passes, rel=1e-12)
    each = planning.operations(configuration.network).training
    assert planning.flop_per_step(configuration) == pytest.approx(passes * 8 * each, rel=1e-12)


def test_an_ascent_of_whole_micro_batches() -> None:
    assert planning.passes_per_step(sam(ascent_share=0.25), micro_batch=3) == 1 + 3 / 8
    assert planning.passes_per_step(sam(ascent_share=0.25), world=2, micro_batch=3) == 1 + 3 / 4


def kept_in_truth(configuration: Configuration, images: int) -> int:
    """Bytes of the distinct storages that autograd saves of a real pass."""
    network = ADM(configuration.network).train()
    own = {p.untyped_storage().data_ptr() for p in [*network.parameters(), *network.buffers()]}
    saved: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    x = torch.randn(images, 1, configuration.network.image_size, configuration.network.image_size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(x, torch.zeros(images, dtype=torch.int64))
    return sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in own)


@pytest.mark.parametrize("attending", [(), (4,)])
def test_activations_are_those_of_a_real_pass(attending: tuple[int, ...]) -> None:
    network = dataclasses.replace(NETWORK, attention_resolutions=attending, dropout=0.5)
    configuration = dataclasses.replace(configured(), network=network)
    # The CPU's attention kernel also keeps a few numbers for its random state, which the count may not see
    assert planning.activation_bytes(configuration, 6) == pytest.approx(kept_in_truth(configuration, 6), rel=0.01)


def test_checkpointing_and_bfloat16_keep_less() -> None:
    plain = configured()
    checkpointed = dataclasses.replace(plain, network=dataclasses.replace(NETWORK, activation_checkpointing=True))
    whole = planning.activation_bytes(plain, 64)
    # What each block computes again from stays: its input, of 64 x 32 x 16 numbers at least
    blocks = 6
    assert blocks * 64 * 32 * 16 * 4 < planning.activation_bytes(checkpointed, 64) < whole / 2
    assert planning.activation_bytes(dataclasses.replace(plain, precision="bfloat16"), 64) < whole
    assert planning.flop_per_step(checkpointed) == pytest.approx(planning.flop_per_step(plain) * 4 / 3, rel=0.01)


def test_memory_counts_every_copy_of_the_weights() -> None:
    weights = 4 * planning.parameter_count(NETWORK)
    plain = planning.memory(configured())
    activations = planning.activation_bytes(configured(), 8)
    copied = 1 + 2 + 4  # weights, moments, and four averages: EMA, SWA and two power-function EMAs
    assert sum(plain.values()) == weights * (1 + copied + copied) + activations
    assert sum(planning.memory(sam(rho=0.1)).values()) == sum(plain.values()) + weights
    less = planning.memory(configured(), micro_batch=2)
    assert sum(plain.values()) - sum(less.values()) == activations - planning.activation_bytes(configured(), 2)
    of_two = planning.memory(configured(), world=2)
    assert sum(of_two.values()) == weights * (9 + copied) + planning.activation_bytes(configured(), 4)


def test_disk_is_nearly_what_a_run_leaves(tmp_path: Path) -> None:
    configuration = configured()
    train(configuration, run_options(tmp_path), images())
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    checkpoint = sum(path.stat().st_size for path in (tmp_path / "checkpoints/step-00000012").glob("*.safetensors"))
    # Beside the tensors, headers: a tenth of files as small as these
    assert size + checkpoint == pytest.approx(planning.disk(configuration), rel=0.1)


def test_a_step_is_scaled_from_the_timed_pass() -> None:
    timing = planning.Timing(images=2, passes=[3.0, 1.0, 2.0], update=[0.5, 0.3, 0.4], peak_memory=None)
    assert timing.step_seconds(configured()) == pytest.approx(8 / 2 * 2.0 + 0.4)
    assert timing.step_seconds(sam(rho=0.1)) == pytest.approx(2 * 8 / 2 * 2.0 + 0.4)
    assert timing.step_seconds(configured(), world=4) == pytest.approx(2 / 2 * 2.0 + 0.4)
    assert timing.rate(NETWORK) == pytest.approx(planning.operations(NETWORK).training / 1.0)


def test_timing_leaves_torch_as_it_was() -> None:
    random, switches = torch.get_rng_state(), tf32()
    timing = planning.timed(sam(rho=0.1), CPU, images=2, repetitions=3)
    assert torch.equal(torch.get_rng_state(), random)
    assert tf32() == switches
    assert len(timing.passes) == len(timing.update) == 3
    assert all(seconds > 0 for seconds in (*timing.passes, *timing.update))
    assert timing.peak_memory is None


@pytest.mark.parametrize(
    ("averages", "steps", "beginning"),
    [
        ({}, 12, "28.24% of it is the initial weights after 12 steps of decay 0.9; the run is too short for it"),
        ({"ema_start": 0.5}, 6, "it is the weights themselves until step 6, of which 6 are made"),
        ({"ema_start": 0.5}, 12, "53.14% of it is the weights of step 6 after 12 steps of decay 0.9; the run is"),
        ({"ema_warmup": 0.75}, 12, "0.00% of it is the initial weights after 12 steps of decay 0.9, rising by the "
         "exponent 0.75"),
    ],
)  # fmt: skip
def test_the_share_of_the_start_in_words(averages: dict[str, float], steps: int, beginning: str) -> None:
    c = configured(averages=dataclasses.replace(configured().averages, **averages))  # type: ignore[arg-type]
    words = planning.start_in_words(c, steps)
    assert words.startswith(beginning)
    assert ("too short" in words) == ("too short" in beginning or "the run is" in beginning)


def test_a_spent_budget_ends_the_repetitions() -> None:
    assert len(planning.timed(configured(), CPU, images=1, repetitions=50, budget=0.0).passes) == 1
