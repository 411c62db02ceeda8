"""How long calls take, all that they queue on a device included."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable

import torch

from experiments.training.distributed import synchronize


def seconds_of(device: torch.device, run: Callable[[], object]) -> float:
    """Of one call, from an idle device to an idle device."""
    synchronize(device)
    begin = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - begin


def median_seconds(device: torch.device, calls: int, run: Callable[[int], object]) -> float:
    """Of one of so many calls with 1, 2, ...; the one with 0, which warms up, is not counted."""
    seconds = [seconds_of(device, functools.partial(run, index)) for index in range(calls + 1)]
    return statistics.median(seconds[1:])
