"""What a run takes before it is made: parameters, operations, memory, and the time that a few steps predict.

Operations are counted by torch over the network's own forward and backward pass, without computing them: a
multiplication and an addition are two, and only matrix products and convolutions count. Published figures that this
convention gives: 18.5 GFLOP per image forward for ADM at 32 x 32 (CIFAR-10), 219 at 64 x 64 (LSUN tower).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.adm.network import ADM
from experiments.adm.options import ADMOptions
from experiments.configuration import Configuration
from experiments.training.checkpoints import KEPT, snapshot_steps
from experiments.training.distributed import Ranks, fastest_convolutions
from experiments.training.randomness import default_generators_kept
from experiments.training.step import TrainingStep, ascent_size, sam_schedule
from flatness.passes import whole_float32

LARGEST_START = 0.01
"""Of an EMA: a run is too short for it where more than this is the weights that it began from."""
FLOAT32 = 4
"""Bytes."""
ADAM_MOMENTS = 2


class Operations(NamedTuple):
    """FLOP for one image.

    Attributes:
        forward: one forward pass.
        training: forward and backward.
    """

    forward: int
    training: int


@functools.cache
def operations(options: ADMOptions) -> Operations:
    """The network's operations for one image, counted on tensors that hold no numbers."""
    # Attention as plain matrix products: the counter does not know the fused kernel of the CPU
    network = _empty(dataclasses.replace(options, activation_checkpointing=False))
    with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH):
        tensors = _fake_tensors(network)
        with FlopCounterMode(display=False) as counter:
            output = functional_call(network, tensors, _inputs(options, 1))
            forward = counter.get_total_flops()
            output.sum().backward()
        return Operations(forward, counter.get_total_flops())


@functools.cache
def parameter_count(options: ADMOptions) -> int:
    """How many numbers the network's parameters hold."""
    return sum(p.numel() for p in _empty(options).parameters())


def perturbed_share(configuration: Configuration) -> float:
    """The share of a run's steps at which SAM perturbs; 0 with methods without SAM."""
    if not configuration.perturbs_weights or configuration.sam.rho == 0:
        return 0.0
    schedule = sam_schedule(configuration.sam, configuration.steps)
    return sum(schedule(step) for step in range(configuration.steps)) / configuration.steps


def passes_per_step(configuration: Configuration, world: int = 1, micro_batch: int | None = None) -> float:
    """Forward and backward passes of an image at a step, in the mean over the run: 1, with SAM up to 2.

    A step that perturbs passes the ascent's share of the images once, in whole micro-batches, then all of them.
    """
    images = configuration.global_batch // world
    ascent = ascent_size(configuration.sam.ascent_share, images, micro_batch) / images
    return 1 + perturbed_share(configuration) * ascent


def flop_per_step(configuration: Configuration) -> float:
    """Of a step over the global batch, in the mean over the run; activation checkpointing's second forward included."""
    counted = operations(configuration.network)
    again = counted.forward if configuration.network.activation_checkpointing else 0
    return passes_per_step(configuration) * configuration.global_batch * (counted.training + again)


def activation_bytes(configuration: Configuration, images: int) -> int:
    """What autograd keeps of one pass over so many images, counted on tensors that hold no numbers.

    Not counted: temporaries, the allocator's slack, and with activation checkpointing what one block keeps while its
    backward pass computes it again.
    """
    saved: dict[int, Tensor] = {}  # the tensors too, or a storage's address would be given to another

    def keep(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    def keep_input(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        keep(given[0])

    network = _empty(configuration.network)
    for module in network.modules():
        if getattr(module, "checkpointed", False):  # what it computes again from is kept outside of autograd's view
            module.register_forward_pre_hook(keep_input)
    with FakeTensorMode():
        tensors = _fake_tensors(network)
        own = {tensor.untyped_storage()._cdata for tensor in tensors.values()}
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=configuration.precision == "bfloat16"),
        ):
            functional_call(network, tensors, _inputs(configuration.network, images))
        return sum(tensor.untyped_storage().nbytes() for key, tensor in saved.items() if key not in own)


def _empty(options: ADMOptions) -> nn.Module:
    """The network without numbers, ready for `_fake_tensors`."""
    with torch.device("meta"):
        return ADM(options)


def _fake_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers that hold no numbers either, but pass for the CPU's, as autocast demands."""
    weights = {
        name: torch.empty_strided(p.shape, p.stride(), dtype=p.dtype, requires_grad=True)
        for name, p in network.named_parameters()
    }
    return weights | {n: torch.empty_strided(b.shape, b.stride(), dtype=b.dtype) for n, b in network.named_buffers()}


def _inputs(options: ADMOptions, images: int) -> tuple[Tensor, Tensor]:
    x = torch.zeros(images, options.channels, options.image_size, options.image_size)
    return x, torch.zeros(images, dtype=torch.int64)


def micro_batch_of(configuration: Configuration, micro_batch: int | None, world: int) -> int:
    """Images in one pass of one rank."""
    images = -(-configuration.global_batch // world)
    return images if micro_batch is None else min(micro_batch, images)


def memory(configuration: Configuration, micro_batch: int | None = None, world: int = 1) -> dict[str, int]:
    """Bytes on a device, by what they are for; activations as `activation_bytes`, for one micro-batch.

    Of several ranks the first alone holds the averages, and a checkpoint's copy while it is written: on the device
    where that has room for it (`experiments.training.state.has_room`), otherwise on the CPU.
    """
    weights = FLOAT32 * parameter_count(configuration.network)
    averages = 2 + len(configuration.averages.power_widths)
    of_first = "; rank 0" if world > 1 else ""
    bytes_of = {
        "weights": weights,
        "gradients": weights,
        "Adam's moments": ADAM_MOMENTS * weights,
        f"averages ({averages}{of_first})": averages * weights,
        f"a checkpoint's copy (where there is room{of_first})": (1 + ADAM_MOMENTS + averages) * weights,
    }
    if configuration.perturbs_weights:
        bytes_of["SAM's copy of the weights"] = weights
    if configuration.method == "rwp":
        bytes_of["the weights' copy and noise"] = 2 * weights
    if world > 1:
        bytes_of["gradients on their way between ranks"] = weights
    images = micro_batch_of(configuration, micro_batch, world)
    return bytes_of | {f"activations of {images} images": activation_bytes(configuration, images)}


def disk(configuration: Configuration) -> int:
    """Bytes of a finished run's folder, nearly: checkpoints, one more while it is written, and snapshots."""
    widths = len(configuration.averages.power_widths)
    checkpoint = 1 + ADAM_MOMENTS + 2 + widths
    copies = (KEPT + 1) * checkpoint + widths * len(snapshot_steps(configuration.steps))
    return copies * FLOAT32 * parameter_count(configuration.network)


@dataclass(frozen=True)
class Timing:
    """A few steps, timed.

    Attributes:
        images: in the pass that was timed.
        passes: seconds of its forward and backward pass, one entry a repetition.
        update: seconds of the optimizer's update, the same.
        peak_memory: bytes that torch held at most on a CUDA device; None on others.
    """

    images: int
    passes: list[float]
    update: list[float]
    peak_memory: int | None

    @property
    def seconds_per_image(self) -> float:
        """Median over the repetitions."""
        return statistics.median(self.passes) / self.images

    def step_seconds(self, configuration: Configuration, world: int = 1) -> float:
        """A step of the run, in the mean: passes scaled to a rank's share of the global batch, and the update once."""
        passes = passes_per_step(configuration, world) * configuration.global_batch / world
        return passes * self.seconds_per_image + statistics.median(self.update)

    def rate(self, options: ADMOptions) -> float:
        """FLOP/s in the passes."""
        return operations(options).training / self.seconds_per_image


def timed(
    configuration: Configuration,
    device: torch.device,
    images: int,
    compiled: bool = False,
    repetitions: int = 5,
    budget: float = 20.0,
    compile_options: Mapping[str, Any] | None = None,
) -> Timing:
    """Make a few plain steps of so many random images, the first one not counted; nothing is written.

    Args:
        configuration: its network, process and precision are used.
        device: where.
        images: in one pass.
        compiled: torch.compile the network.
        repetitions: at most.
        budget: seconds; no repetition is begun after them.
        compile_options: what torch.compile is given beside the network.

    Raises:
        torch.OutOfMemoryError: the device's memory does not hold it.
    """
    plain = dataclasses.replace(configuration, method="adm", global_batch=images, timestep_weights="uniform")
    with _as_in_training(device):
        network: nn.Module = ADM(configuration.network).to(device).train()
        step = TrainingStep(plain, network, Ranks(device=device), compiled=compiled, compile_options=compile_options)
        side = configuration.network.image_size
        shape = (images, configuration.network.channels, side, side)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).to(device)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        passes, update = [], []
        begin = time.perf_counter()
        for index in range(1 + repetitions):
            whole = _seconds(device, lambda: step(index, pixels))  # noqa: B023  called at once
            own = _seconds(device, step.sam.optimizer.step)
            if index:
                passes.append(max(whole - own, 1e-9))
                update.append(own)
            if passes and time.perf_counter() - begin > budget:
                break
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return Timing(images, passes, update, peak)


@contextlib.contextmanager
def _as_in_training(device: torch.device) -> Iterator[None]:
    """Torch set up as by the trainer; on leaving, that and the generators are as before."""
    with fastest_convolutions(device), whole_float32(), default_generators_kept(device):
        yield


def _seconds(device: torch.device, run: Callable[[], object]) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    begin = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def start_in_words(c: Configuration, steps: int) -> str:
    """What share of a run's EMA, after so many steps, is the weights that it began from."""
    rule, share = c.ema, c.ema.share_of_start(steps)
    if rule.start and steps <= rule.start:
        return f"it is the weights themselves until step {rule.start}, of which {steps} are made"
    began = f"the weights of step {rule.start}" if rule.start else "the initial weights"
    rising = "" if rule.warmup is None else f", rising by the exponent {rule.warmup:g}"
    words = f"{share:.2%} of it is {began} after {steps} steps of decay {rule.decay:g}{rising}"
    return words + ("; the run is too short for it" if share > LARGEST_START else "")
