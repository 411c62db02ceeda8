"""What the toy's training costs: all seeds at once against seed by seed, SAM against plain steps."""

from __future__ import annotations

import torch

from benchmarks.timing import Row, interleaved
from toy.workload import all_at_once, gradient_flops, ring_models, seed_by_seed

STEPS = 150
SEEDS = 16


def training() -> list[Row]:
    """Both ways of training, one thread, interleaved; then the cost of SAM."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        models = ring_models(SEEDS)
        seconds = interleaved(
            {
                "at once": lambda: all_at_once(models, STEPS, "adm"),
                "one by one": lambda: seed_by_seed(models, STEPS, "adm"),
                "sam": lambda: all_at_once(models, STEPS, "sam"),
            },
            rounds=3,
        )
    finally:
        torch.set_num_threads(threads)
    rate = gradient_flops(models, 128) * STEPS / seconds["at once"] / 1e9
    what = f"toy, {SEEDS} seeds, {STEPS} steps"
    return [
        (f"{what}: all at once", f"{seconds['at once']:.2f} s, {rate:.0f} GFLOP/s", "one thread"),
        (
            f"{what}: seed by seed",
            f"{seconds['one by one'] / seconds['at once']:.1f} times as long",
            "an ordinary module and optimizer a seed",
        ),
        (f"{what}: SAM", f"{seconds['sam'] / seconds['at once']:.2f} times as long", "two gradients a step"),
    ]


PARTS = (training,)
