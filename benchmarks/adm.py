"""A training step of ADM at the CIFAR-10 configuration: ours, the public reference, diffusers' network of that size.

A step is noising, forward pass, hybrid loss, backward pass and Adam. Contenders are interleaved; all hold float32
weights, and those in bfloat16 autocast their forward pass.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.timing import Row, alone, interleaved
from experiments.adm import ADM, ADMOptions
from experiments.diffusion import Process, ProcessOptions
from flatness.optional_imports import imported

REFERENCE = "guided_diffusion"
MISSING = {
    REFERENCE: "not installed: pip install --no-deps guided-diffusion-sdk==1.0.0",
    "diffusers": "not installed: pip install diffusers==0.42.1",
}
LEARNING_RATE = 1e-4
BATCH = {"cpu": 4, "cuda": 128}
ROUNDS = {"cpu": 5, "cuda": 10}
MATRIX = {"cpu": 2048, "cuda": 8192}

Step = Callable[[], None]


def _images(device: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(BATCH[device], 3, 32, 32, generator=generator) * 2 - 1
    return images.to(device), torch.randint(0, 1000, (BATCH[device],), generator=generator).to(device)


def _finished(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _stepper(model: nn.Module, device: str, low: bool, compiled: bool = False) -> Step:
    """A step of a network of our or diffusers' signature, with our process."""
    process = Process(ProcessOptions())
    x_0, t = _images(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
    forward = torch.compile(model) if compiled else model

    def step() -> None:
        optimizer.zero_grad()
        noise = torch.randn_like(x_0)
        x_t = process.q_sample(x_0, t, noise)
        with _precision(device, low):
            output = forward(x_t, t)
        output = output if isinstance(output, Tensor) else output.sample
        process.losses(output, x_0, x_t, t, noise).loss.mean().backward()
        optimizer.step()
        _finished(device)

    return step


def _precision(device: str, low: bool) -> AbstractContextManager[Any]:
    return torch.autocast(device, torch.bfloat16) if low else nullcontext()


def ours(device: str) -> nn.Module:
    """Our network, ready to train."""
    return ADM(ADMOptions()).to(device).train()


def diffusers_network(device: str) -> nn.Module:
    """diffusers' U-Net with the same widths, blocks per level, attention, conditioning and dropout."""
    diffusers = imported("diffusers")
    assert diffusers is not None
    model = diffusers.UNet2DModel(
        sample_size=32,
        out_channels=6,
        layers_per_block=3,
        block_out_channels=(128, 256, 256, 256),
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=32,
        dropout=0.3,
        resnet_time_scale_shift="scale_shift",
        freq_shift=0,
    )
    return model.to(device).train()


def reference_step(device: str, low: bool) -> Step:
    """A step of the public reference as it trains: its own network and losses, AdamW without weight decay."""
    unet, gaussian = imported(f"{REFERENCE}.unet"), imported(f"{REFERENCE}.gaussian_diffusion")
    assert unet is not None
    assert gaussian is not None
    model = unet.UNetModel(
        image_size=32,
        in_channels=3,
        model_channels=128,
        out_channels=6,
        num_res_blocks=3,
        attention_resolutions=(2, 4),
        dropout=0.3,
        channel_mult=(1, 2, 2, 2),
        num_head_channels=32,
        use_scale_shift_norm=True,
        resblock_updown=True,
        use_new_attention_order=True,
    )
    model = model.to(device).train()
    process = gaussian.GaussianDiffusion(
        betas=gaussian.get_named_beta_schedule("cosine", 1000),
        model_mean_type=gaussian.ModelMeanType.EPSILON,
        model_var_type=gaussian.ModelVarType.LEARNED_RANGE,
        loss_type=gaussian.LossType.RESCALED_MSE,
    )
    images, t = _images(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)

    def step() -> None:
        optimizer.zero_grad()
        with _precision(device, low):
            losses = process.training_losses(model, images, t)["loss"]
        losses.mean().backward()
        optimizer.step()
        _finished(device)

    return step


def _contender(name: str, device: str) -> Step | None:
    """The step of a contender by name; None where it is not installed."""
    low = "bfloat16" in name
    if name.startswith("ours"):
        return _stepper(ours(device), device, low, "compiled" in name)
    if imported(name.split(",")[0]) is None:
        return None
    if name.startswith(REFERENCE):
        return reference_step(device, low)
    return _stepper(diffusers_network(device), device, low)


def _matrix_product(device: str, low: bool) -> tuple[Step, float]:
    """A product of two square matrices, and its operations."""
    size = MATRIX[device]
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if low else torch.float32)

    def product() -> None:
        a @ a
        _finished(device)

    return product, 2.0 * size**3


def _operations(name: str) -> float:
    """Floating-point operations of a step: thrice a forward pass, counted on the meta device."""
    with torch.device("meta"):
        model = diffusers_network("meta") if name.startswith("diffusers") else ours("meta")
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, 32, 32), torch.empty(1))
    return 3.0 * counter.get_total_flops()


def _rows(device: str, names: list[str], headline: str) -> list[Row]:
    """Each contender's step, and the headline's against all of them."""
    built = {name: _contender(name, device) for name in names}
    contenders = {name: step for name, step in built.items() if step is not None}
    precisions = {"bfloat16" in name for name in contenders}
    products = {low: _matrix_product(device, low) for low in precisions}
    timed = contenders | {f"product, {'bfloat16' if low else 'float32'}": products[low][0] for low in precisions}
    seconds = interleaved(timed, ROUNDS[device])
    rows = []
    where = f"cifar10, batch {BATCH[device]}, {device}"
    peers = [name for name in contenders if name.startswith(REFERENCE)]
    for name in names:
        if name not in contenders:
            rows.append((f"{where}: {name}", "not measured", MISSING[name.split(",")[0]]))
            continue
        low = "bfloat16" in name
        rate = _operations(name) * BATCH[device] / seconds[name] / 1e9
        peak = products[low][1] / seconds[f"product, {'bfloat16' if low else 'float32'}"] / 1e9
        against = f"; {headline} is {seconds[name] / seconds[headline]:.2f} times as fast"
        if name.startswith("ours"):
            rates = (f"{seconds[peer] / seconds[name]:.2f} times as fast as {peer}" for peer in peers)
            against = "".join(f"; {rate}" for rate in rates)
        rows.append(
            (
                f"{where}: {name}",
                f"{seconds[name]:.3f} s, {BATCH[device] / seconds[name]:.2f} images/s{against}",
                f"{rate:.0f} GFLOP/s, {rate / peak:.0%} of the matrix product's {peak:.0f}",
            )
        )
    return rows


def cpu_step() -> list[Row]:
    """A step on the CPU, with the threads that torch has."""
    return _rows("cpu", ["ours", REFERENCE, "diffusers", "ours, bfloat16"], "ours")


def cuda_step() -> list[Row]:
    """A step on one GPU."""
    if not torch.cuda.is_available():
        return [("cifar10, cuda", "not measured", "no CUDA device")]
    names = ["ours, bfloat16", "ours, bfloat16, compiled", "ours, float32"]
    peers = [f"{peer}, {precision}" for peer in (REFERENCE, "diffusers") for precision in ("float32", "bfloat16")]
    return _rows("cuda", [*names, *peers], "ours, bfloat16")


def _steps(name: str, steps: int) -> None:
    """Train in this process."""
    step = _contender(name, "cpu")
    assert step is not None
    for _ in range(steps):
        step()


def _peak(name: str, device: str) -> float:
    """Peak memory in bytes of a process that trains (cpu), or of what it allocates on the device (cuda)."""
    if device == "cpu":
        return alone(_steps, name, 2)[2]
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    step = _contender(name, device)
    assert step is not None
    step()
    step()
    return torch.cuda.max_memory_allocated()


def memory() -> list[Row]:
    """Peak memory of training, and the sizes of the networks."""
    sizes = {"ours": sum(p.numel() for p in ours("cpu").parameters())}
    if imported("diffusers") is not None:
        sizes["diffusers"] = sum(p.numel() for p in diffusers_network("cpu").parameters())
    sizes[REFERENCE] = sizes["ours"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    suffix = ", bfloat16" if device == "cuda" else ""
    rows = []
    for name in ("ours", REFERENCE, "diffusers"):
        if name != "ours" and imported(name) is None:
            rows.append((f"peak memory: {name}", "not measured", MISSING[name]))
            continue
        peak = _peak(name + suffix, device) / 2**20
        rows.append(
            (
                f"peak memory: {name}{suffix}, batch {BATCH[device]}, {device}",
                f"{peak:.0f} MiB",
                f"{sizes[name] / 1e6:.2f} M parameters, with gradients and Adam {sizes[name] * 16 / 2**20:.0f} MiB",
            )
        )
    return rows


PARTS = (cpu_step, cuda_step, memory)
