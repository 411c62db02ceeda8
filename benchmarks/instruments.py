"""What the instruments cost: SAM's step against two gradient passes, the low-pass filter against its forward passes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import Row, alone, interleaved
from flatness import SAM, low_pass_filter

ROUNDS = 5
WIDE = 1024
"""Of the network whose memory is measured: beside its weights, what the allocator keeps or not is little."""
DRAWS = 10
PEER = "pytorch_optimizer"


def network(width: int = 256) -> nn.Module:
    """A convolutional network of 4.7 million parameters on images (3, 16, 16), predicting an image."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1)]
    for _ in range(8):
        layers += [nn.GroupNorm(32, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)]
    return nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))


def _closure(model: nn.Module, zero_grad: Callable[[], None], images: Tensor) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        zero_grad()
        loss = (model(images) - images).square().mean()
        loss.backward()
        return loss

    return closure


def _images(number: int = 16) -> Tensor:
    return torch.randn(number, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def _adam(model: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(model.parameters(), lr=1e-4)


def _plain_steps(steps: int) -> int:
    model = network(WIDE)
    adam = _adam(model)
    closure = _closure(model, adam.zero_grad, _images(1))
    for _ in range(steps):
        closure()
        adam.step()
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _sam_steps(steps: int) -> int:
    model = network(WIDE)
    sam = SAM(_adam(model), rho=0.05)
    closure = _closure(model, sam.zero_grad, _images(1))
    for _ in range(steps):
        sam.step(closure)
    return sum(p.numel() * p.element_size() for p in model.parameters())


def sam() -> list[Row]:
    """Time of a step, and peak memory of a process that only trains."""
    images = _images()
    plain, ours = network(), network()
    adam = _adam(plain)
    closure = _closure(plain, adam.zero_grad, images)
    wrapped = SAM(_adam(ours), rho=0.05)
    ours_closure = _closure(ours, wrapped.zero_grad, images)

    def two_plain_passes() -> None:
        closure()
        closure()
        adam.step()

    contenders: dict[str, Callable[[], Any]] = {
        "two passes": two_plain_passes,
        "ours": lambda: wrapped.step(ours_closure),
    }
    if importlib.util.find_spec(PEER):
        peer_sam = importlib.import_module(PEER).SAM
        theirs = network()
        peer = peer_sam(theirs.parameters(), torch.optim.Adam, rho=0.05, lr=1e-4)
        theirs_closure = _closure(theirs, peer.zero_grad, images)

        def peer_step() -> None:
            theirs_closure()
            peer.step(theirs_closure)

        contenders["peer"] = peer_step
    seconds = interleaved(contenders, ROUNDS)
    weights, _, plain_peak = alone(_plain_steps, 3)
    _, _, sam_peak = alone(_sam_steps, 3)
    against_peer = f"{seconds['ours'] / seconds['peer']:.3f} times {PEER}'s SAM" if "peer" in seconds else f"no {PEER}"
    return [
        ("SAM step over two passes and a step", f"{seconds['ours'] / seconds['two passes']:.3f} times", against_peer),
        (
            "SAM peak memory over plain training",
            f"{(sam_peak - plain_peak) / weights:.2f} copies of the weights",
            f"weights {weights / 2**20:.0f} MiB, peak {sam_peak / 2**20:.0f} MiB",
        ),
    ]


def lpf() -> list[Row]:
    """The low-pass filter with n draws against n + 1 bare forward passes over the same batches."""
    model = network().eval()
    batches = [_images(32)]

    def loss(model: nn.Module, images: Tensor) -> Tensor:
        return (model(images) - images).square().mean(dim=(1, 2, 3))

    @torch.no_grad()
    def bare() -> None:
        for _ in range(DRAWS + 1):
            loss(model, batches[0])

    def measured() -> None:
        low_pass_filter(model, loss, batches, draws=DRAWS, progress=False)

    seconds = interleaved({"bare": bare, "measured": measured}, ROUNDS)
    ratio = seconds["measured"] / seconds["bare"]
    return [
        (
            f"LPF with {DRAWS} draws over {DRAWS + 1} forward passes",
            f"{ratio:.3f} times",
            f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M weights, 32 images",
        )
    ]


PARTS = (sam, lpf)
