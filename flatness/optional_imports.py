"""Packages that are used where they are installed."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import logging
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any


def hide_an_unusable_torchvision() -> None:
    """Let packages load that import torchvision as soon as it is installed, beside one that cannot be imported.

    A torchvision of another build than torch's (its operators are missing from the CPU build of torch, say) raises when
    imported, and takes diffusers down, which needs none of it here. None in its place reads as not installed.
    """
    if "torchvision" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except Exception:  # whatever it raises, it is of no use
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]


def imported(name: str) -> ModuleType | None:
    """A module, or None where it is not installed. Its warnings about itself are not shown."""
    if name.split(".")[0] == "diffusers":
        hide_an_unusable_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def imported_diffusers() -> ModuleType | None:
    """diffusers, or None where it is not installed."""
    return imported("diffusers")


def diffusers_parameters(name: str) -> dict[str, inspect.Parameter]:
    """What a class of diffusers' is built from, by name; {} where there is no such class."""
    kind: Any = getattr(imported_diffusers(), name, None)
    return {} if kind is None else dict(inspect.signature(kind.__init__).parameters)


def why_not(package: str) -> str:
    """Why a package could not be imported: it "is not installed", or another that it needs is missing."""
    try:
        importlib.import_module(package)
    except ImportError as error:
        if error.name != package:
            return f"cannot be imported ({' '.join(str(error).split())})"
    return "is not installed"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the log lines and warnings of diffusers and transformers about themselves."""
    loggers = [logging.getLogger(name) for name in ("diffusers", "transformers")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
