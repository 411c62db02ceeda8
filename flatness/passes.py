"""What passes share: the gradients at hand, their norm, torch's random states, and float32 that is float32.

On CUDA TF32 rounds factors to ten bits, in convolutions by torch's default; `whole_float32` keeps them whole.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor

from flatness.sharding import is_sharded, sum_over_shards

RandomState = dict[torch.device, Tensor]

CHUNK = 2**18
"""Elements that are cast to float64 at a time for a norm on the CPU."""


def gradients_of(parameters: list[Tensor]) -> list[Tensor]:
    """The gradients of those parameters that have one.

    Raises:
        RuntimeError: none has, or one is sparse.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        raise RuntimeError("no parameter has a gradient: run backward (a closure does so itself) before")
    if any(g.layout is not torch.strided for g in gradients):
        raise RuntimeError("a parameter has a sparse gradient, of which SAM takes no norm: use sparse=False")
    return gradients


def _in_memory_order(tensor: Tensor) -> Tensor:
    """The entries in a row, as they lie in memory: no copy of a tensor in channels_last either."""
    return tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True)).reshape(-1)


@torch.no_grad()
def whole_norm(tensors: list[Tensor]) -> float:
    """The L2 norm over all tensors together, summed in float64; over all processes where they are sharded.

    On the CPU torch's float32 sum errs by a per cent at 20 million elements, and its float64 sum of float32 is slow.
    """
    if any(is_sharded(t) for t in tensors):
        return math.sqrt(float(sum_over_shards(tensors, lambda parts: _norm(parts).square())))
    return _norm(tensors).item()


def _norm(tensors: list[Tensor]) -> Tensor:
    on_cpu = [_in_memory_order(t) for t in tensors if t.device.type == "cpu"]
    elsewhere = [t for t in tensors if t.device.type != "cpu"]
    size = min(CHUNK, max((len(t) for t in on_cpu), default=0))
    wide = torch.empty(size, dtype=torch.float64)  # one, used again: fresh ones fragment the heap
    norms = [torch.linalg.vector_norm(wide[: len(part)].copy_(part)) for t in on_cpu for part in t.split(CHUNK)]
    if elsewhere:
        dtype = torch.float32 if elsewhere[0].device.type == "mps" else torch.float64  # MPS has no float64
        norms += torch._foreach_norm(elsewhere, 2, dtype=dtype)
    if not norms:  # of shards without an entry
        return torch.zeros((), dtype=torch.float64, device=tensors[0].device if tensors else "cpu")
    return torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms])).double()


def random_state(parameters: list[Tensor]) -> RandomState:
    """The states of torch's default generators on the CPU and on the parameters' devices."""
    state = {torch.device("cpu"): torch.get_rng_state()}
    for device in {p.device for p in parameters if p.device.type != "cpu"}:
        which = [] if device.type == "mps" else [device]
        state[device] = torch.get_device_module(device).get_rng_state(*which)
    return state


def set_random_state(state: RandomState) -> None:
    """Put torch's default generators to the states noted by `random_state`."""
    for device, value in state.items():
        which = [] if device.type in ("cpu", "mps") else [device]
        (torch if device.type == "cpu" else torch.get_device_module(device)).set_rng_state(value, *which)


def tf32() -> dict[str, bool]:
    """Whether torch may round to TF32 on CUDA: in matrix products, and in cuDNN's convolutions."""
    return {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32}


@contextlib.contextmanager
def whole_float32() -> Iterator[None]:
    """Within, neither may; on leaving, both are as before. Bfloat16 by autocast is not affected."""
    before = tf32()
    _allow(dict.fromkeys(before, False))
    try:
        yield
    finally:
        _allow(before)


def _allow(switches: dict[str, bool]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = switches["matmul"]
    torch.backends.cudnn.allow_tf32 = switches["cudnn"]
