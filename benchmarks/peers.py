"""Public implementations that ours are held against, imported where they are installed."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from flatness.optional_imports import hide_an_unusable_torchvision


def imported(name: str) -> ModuleType | None:
    """The module, or None where it is not installed. Its warnings about itself are not shown."""
    if name.split(".")[0] == "diffusers":
        hide_an_unusable_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None
