"""Models that torch.compile has wrapped or compiled in place: the module inside, its names, its code run as written."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

WRAPPED = "_orig_mod"
"""How torch.compile's wrapper calls the module inside."""


def uncompiled(model: nn.Module) -> nn.Module:
    """The module that torch.compile has wrapped; any other as it is."""
    inner = getattr(model, WRAPPED, None)
    return inner if isinstance(inner, nn.Module) else model


def plain_name(name: str) -> str:
    """The name of a parameter or module as if nothing had been wrapped."""
    return ".".join(part for part in name.split(".") if part != WRAPPED)


def plain_modules(model: nn.Module) -> list[nn.Module]:
    """All modules but torch.compile's wrappers."""
    return [module for module in model.modules() if uncompiled(module) is module]


@contextmanager
def as_written() -> Iterator[None]:
    """Compiled code runs as it was written inside the block: hooks are called, and it has second derivatives."""
    if "torch._dynamo" not in sys.modules:  # nothing has been compiled, and loading it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
