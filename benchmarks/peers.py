"""Public implementations that ours are held against, imported where they are installed."""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType


def imported(name: str) -> ModuleType | None:
    """The module, or None where it is not installed. Its warnings about itself are not shown."""
    if name.split(".")[0] == "diffusers":
        _hide_an_unusable_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def _hide_an_unusable_torchvision() -> None:
    """Let diffusers load beside a torchvision of another build than torch's.

    Such a torchvision raises when imported (its operators are missing from the CPU build of torch), and diffusers,
    which needs none of it here, imports it as soon as it is installed. None in its place reads as not installed.
    """
    try:
        importlib.import_module("torchvision")
    except Exception:  # whatever it raises, it is of no use
        sys.modules["torchvision"] = None  # type: ignore[assignment]
