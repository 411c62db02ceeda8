"""What training images cost: our batches against a torch DataLoader over the same tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.timing import Row, interleaved
from experiments.data import Batches, Images

SETTINGS = (("cifar10", 50_000, 3, 32, 128), ("lsun-tower", 20_000, 3, 64, 256))
"""Data set, images, channels, size, batch: the paper's, with a part of LSUN's images."""
STEPS = 60
ROUNDS = 5


def _images(name: str, number: int, channels: int, size: int) -> Images:
    pixels = torch.randint(256, (number, channels, size, size), dtype=torch.uint8)
    return Images(pixels, name, "train", "sha256:benchmark")


def _read_ours(batches: Batches) -> None:
    for step in range(STEPS):
        batches.batch(step)


def _read_ahead(batches: Batches) -> None:
    with batches.stream(last_step=STEPS) as stream:
        for _ in stream:
            pass


def _read_theirs(loader: DataLoader[tuple[torch.Tensor, ...]]) -> None:
    for _, _batch in zip(range(STEPS), loader, strict=False):
        pass


def _contenders(images: Images, batch: int) -> dict[str, Callable[[], None]]:
    plain, mirrored = Batches(images, batch, seed=0, flip=False), Batches(images, batch, seed=0)
    loader = DataLoader(TensorDataset(images.pixels), batch, shuffle=True, drop_last=True)
    return {
        "theirs": lambda: _read_theirs(loader),
        "ours": lambda: _read_ours(plain),
        "mirrored": lambda: _read_ours(mirrored),
        "ahead": lambda: _read_ahead(mirrored),
    }


def batches() -> list[Row]:
    """Both shuffle, on one thread; then ours with mirroring, and made ahead on a thread for a reader with no work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    try:
        for name, number, channels, size, batch in SETTINGS:
            seconds = interleaved(_contenders(_images(name, number, channels, size), batch), ROUNDS)
            ratios = {ours: seconds["theirs"] / seconds[ours] for ours in ("ours", "mirrored", "ahead")}
            rows.append(
                (
                    f"{name}, batches of {batch} at {size} x {size}",
                    f"{STEPS * batch / seconds['ours']:,.0f} images/s: {ratios['ours']:.1f} times the DataLoader's; "
                    f"{ratios['mirrored']:.1f} with random flips, {ratios['ahead']:.1f} also by a thread",
                    "torch's DataLoader over the same tensor, shuffled, no workers, no flips",
                )
            )
    finally:
        torch.set_num_threads(threads)
    return rows


PARTS = (batches,)
