"""Timing that a shared machine does not spoil: contenders interleaved, medians, memory from a process of its own."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = tuple[str, str, str]
"""What was measured, the result, what it is held against."""


def interleaved(contenders: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each contender over `rounds` rounds, in each of which every one runs once, after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        call()
    for _ in range(rounds):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def peak_memory() -> int:
    """The largest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on Linux getrusage counts what the parent had when it forked; VmHWM begins anew
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _measured(call: Callable[..., Any], arguments: tuple[Any, ...], pipe: Any) -> None:
    start = time.perf_counter()
    result = call(*arguments)
    spent = time.perf_counter() - start
    pipe.send((result, spent, peak_memory()))


def alone(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float, int]:
    """(result, seconds, peak resident bytes) of a call in a fresh process; `call` at the top level of a module."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(call, arguments, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError as error:
        raise RuntimeError(f"{call.__name__}{arguments} ended without a result") from error
    finally:
        process.join()
