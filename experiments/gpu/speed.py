"""Section 2: images a second and memory of training steps, as far as the section's minutes reach.

Steps are the trainer's own, on random images that lie on the card already; the loader is timed apart. Shares are of the
card's own rate in large bfloat16 matrix products, measured first: what the network's operations, counted as `plan`
counts them, take of it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from experiments.adm import ADM
from experiments.configuration import PRESETS, Configuration
from experiments.data import Batches
from experiments.gpu.options import GPUOptions
from experiments.gpu.record import Record, median_seconds, seconds_of
from experiments.gpu.small import configured, made_images
from experiments.training import planning
from experiments.training.distributed import Ranks, fastest_convolutions, synchronize
from experiments.training.randomness import default_generators_kept
from experiments.training.state import TrainingState
from flatness.passes import whole_float32

Precision = Literal["float32", "bfloat16"]
VARIANTS: dict[str, tuple[Precision, Mapping[str, Any] | None]] = {
    "float32": ("float32", None),
    "bfloat16": ("bfloat16", None),
    "bfloat16 compiled": ("bfloat16", {}),
    "bfloat16 CUDA graphs": ("bfloat16", {"mode": "reduce-overhead"}),
}
"""Precision, and what torch.compile is given; None without it."""
IMAGES = {"cifar10": 128, "lsun-tower": 32}
"""In one pass: a whole step of CIFAR-10; of the tower an eighth, as on the eight cards of a node."""
NEEDS = {"cifar10": 10.0, "lsun-tower": 20.0}
"""Seconds that a variant takes at least; COMPILATION more where it is compiled."""
COMPILATION = 45.0
MATRIX = {"cuda": 8192, "cpu": 256}
"""Side of the matrices."""
STEPS = 10


def run(options: GPUOptions, device: torch.device, record: Record) -> None:
    """Rates, steps by variant, SAM over plain, averages, the loader, and the reference where it is given."""
    side = MATRIX["cpu" if options.tiny else "cuda"]
    record.part("matrix products", lambda: matrix_rates(device, side))
    rate = record.parts["matrix products"].get("bfloat16_flops", 0.0)
    subjects = {"cifar10": PRESETS["cifar10"], "lsun-tower": PRESETS["lsun-tower"]}
    images = dict(IMAGES)
    variants = dict(VARIANTS)
    if options.tiny:
        subjects, images = {"cifar10": configured(tiny=True)}, {"cifar10": 2}
        # Traced as ever, but built by no compiler, which takes a minute of a CPU
        variants = {name: (p, None if c is None else {"backend": "eager"}) for name, (p, c) in VARIANTS.items()}
    first = subjects["cifar10"]
    for preset, configuration in subjects.items():
        for variant, (precision, compile_options) in variants.items():
            needs = 0.0 if options.tiny else NEEDS[preset] + COMPILATION * (compile_options is not None)
            timed = functools.partial(
                variant_timed, configuration, device, images[preset], precision, compile_options, rate
            )
            record.part(f"{preset} {variant}", timed, needs)
        if preset == "cifar10":
            low = dataclasses.replace(first, precision="bfloat16", global_batch=images[preset])
            steps = 2 if options.tiny else STEPS
            record.part("SAM over plain", functools.partial(sam_over_plain, low, device, steps))
            record.part("averages", functools.partial(averages, low, device, steps))
            count = 40 if options.tiny else 50_000
            record.part("loader", functools.partial(loader, low, device, count, 2 * steps))
            if options.reference is not None:
                beside = functools.partial(reference_beside, options.reference, low, device, steps)
                record.part("public reference", beside)


def matrix_rates(device: torch.device, side: int) -> dict[str, Any]:
    """FLOP/s of a product of two square matrices, in bfloat16 and in float32 without TF32; the best of a few."""
    rates: dict[str, Any] = {"side": side}
    with whole_float32():
        for name, dtype in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
            a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
            seconds = [seconds_of(device, functools.partial(torch.matmul, a, b)) for _ in range(6)]
            rates[f"{name}_flops"] = 2 * side**3 / min(seconds[1:])
    return rates


def variant_timed(
    configuration: Configuration,
    device: torch.device,
    images: int,
    precision: Precision,
    compile_options: Mapping[str, Any] | None,
    matrix_rate: float,
) -> dict[str, Any]:
    """A step of plain training in one pass of so many images.

    Args:
        configuration: network and process.
        device: where.
        images: in the pass.
        precision: of the pass.
        compile_options: for torch.compile; None without it.
        matrix_rate: FLOP/s that shares are of; 0 where it was not measured.
    """
    c = dataclasses.replace(configuration, precision=precision)
    compiled = compile_options is not None
    timing = planning.timed(c, device, images, compiled, compile_options=compile_options, budget=8.0)
    seconds = statistics.median(timing.passes) + statistics.median(timing.update)
    flops = timing.rate(c.network)
    result = {
        "images": images,
        "precision": precision,
        "compile": None if compile_options is None else dict(compile_options),
        "step_seconds": seconds,
        "images_per_second": images / seconds,
        "flops": flops,
        "peak_bytes": timing.peak_memory,
        "counted_activation_bytes": planning.activation_bytes(c, images),
    }
    return result | ({"share_of_bfloat16_matrix_rate": flops / matrix_rate} if matrix_rate else {})


def sam_over_plain(configuration: Configuration, device: torch.device, steps: int) -> dict[str, Any]:
    """Seconds of a step by method, whole steps with draws and update; the ratio that two passes make 2 of."""
    ratios = {}
    for method in ("adm", "sam"):
        with _state(dataclasses.replace(configuration, method=method), device) as (state, pixels):
            ratios[method] = median_seconds(device, steps, lambda index: state.stepper(index, pixels))
    return {"adm_seconds": ratios["adm"], "sam_seconds": ratios["sam"], "ratio": ratios["sam"] / ratios["adm"]}


def averages(configuration: Configuration, device: torch.device, steps: int) -> dict[str, Any]:
    """Seconds of renewing EMA, SWA and power-function EMAs, beside those of the step they come after."""
    with _state(dataclasses.replace(configuration, method="adm"), device) as (state, pixels):
        assert state.shadows is not None
        step = median_seconds(device, steps, lambda index: state.stepper(index, pixels))
        update = median_seconds(device, steps, state.shadows.update)
    return {"step_seconds": step, "averages_seconds": update, "share": update / (step + update)}


def loader(configuration: Configuration, device: torch.device, count: int, steps: int) -> dict[str, Any]:
    """The share of its time that a run waits for images, with a data set of so many in memory."""
    images = made_images(configuration, count)
    batches = Batches(images, configuration.global_batch, configuration.seed, configuration.flip)
    with (
        _state(dataclasses.replace(configuration, method="adm"), device) as (state, _),
        batches.stream(0, device=device, last_step=steps + 1) as stream,
    ):
        begin = waited = 0.0
        for step, pixels in stream:
            state.stepper(step, pixels)
            if step == 0:  # the permutation is drawn, and cuDNN tries its algorithms
                synchronize(device)
                begin, waited = time.perf_counter(), stream.seconds_waited
        synchronize(device)
        seconds = time.perf_counter() - begin
        waited = stream.seconds_waited - waited
    return {"steps": steps, "seconds": seconds, "waited_seconds": waited, "share_waited": waited / seconds}


def reference_beside(path: Path, configuration: Configuration, device: torch.device, steps: int) -> dict[str, Any]:
    """Forward, backward and AdamW of the public implementation's network beside ours of the same options, in float32.

    Raises:
        ImportError: the folder's package cannot be imported.
        RuntimeError: its network has other weights than ours.
    """
    options = configuration.network
    with _first_on_path(path):
        unet = importlib.import_module("guided_diffusion.unet")
        theirs = unet.UNetModel(
            image_size=options.image_size,
            in_channels=options.channels,
            model_channels=options.model_channels,
            out_channels=2 * options.channels,
            num_res_blocks=options.num_res_blocks,
            attention_resolutions=tuple(options.image_size // side for side in options.attention_resolutions),
            dropout=options.dropout,
            channel_mult=options.channel_mult,
            num_head_channels=options.num_head_channels,
            use_scale_shift_norm=True,
            resblock_updown=True,
            use_new_attention_order=True,
        )
    ours = ADM(options)
    theirs.load_state_dict(ours.state_dict())
    batch = made_images(configuration, configuration.global_batch).pixels.float().div(127.5).sub(1).to(device)
    t = torch.arange(len(batch), device=device)
    timings = {}
    with whole_float32(), fastest_convolutions(device), default_generators_kept(device):
        for name, network in (("reference", theirs), ("ours", ours)):
            step = _network_step(network.to(device).train(), batch, t)
            timings[name] = median_seconds(device, steps, step)
            network.cpu()
    seconds = {f"{name}_seconds": value for name, value in timings.items()}
    return seconds | {"images": len(batch), "speedup": timings["reference"] / timings["ours"]}


def _network_step(network: nn.Module, x: Tensor, t: Tensor) -> Callable[[int], object]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=0.0, fused=True)

    def step(index: int) -> None:
        optimizer.zero_grad()
        network(x, t).square().mean().backward()
        optimizer.step()

    return step


@contextmanager
def _first_on_path(path: Path) -> Iterator[None]:
    sys.path.insert(0, str(path))
    try:
        yield
    finally:
        sys.path.remove(str(path))


@contextmanager
def _state(configuration: Configuration, device: torch.device) -> Iterator[tuple[TrainingState, Tensor]]:
    """A run's state before its first step, torch set up as by the trainer, and a batch on the device."""
    with fastest_convolutions(device), whole_float32(), default_generators_kept(device):
        state = TrainingState(configuration, Ranks(device=device))
        yield state, made_images(configuration, configuration.global_batch).pixels.to(device)
