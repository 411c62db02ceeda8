"""Float32 that is float32: on CUDA, TF32 rounds factors to ten bits, in convolutions by torch's default."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


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
