"""The examples that need more than the library needs, imported where that is installed."""

import contextlib
import importlib
import importlib.metadata
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

import pytest


def example(name: str, needs: str) -> ModuleType:
    """The module examples.name; the test module that asks is skipped where the package `needs` is not installed."""
    with warnings.catch_warnings(), _unusable_torchvision_hidden():
        warnings.simplefilter("ignore")  # libraries' words about themselves and each other
        pytest.importorskip(needs)
        return importlib.import_module(f"examples.{name}")


@contextlib.contextmanager
def _unusable_torchvision_hidden() -> Iterator[None]:
    """Within, a torchvision of another build than torch's, which raises when imported, looks as if not installed.

    diffusers and torchmetrics (which Lightning imports) import it as soon as it is installed, which diffusers reads off
    the module and torchmetrics off the package's metadata. Neither needs it here.
    """
    try:
        importlib.import_module("torchvision")
    except Exception:  # whatever it raises, it is of no use
        pass
    else:
        yield
        return

    def version_of(package: str) -> str:
        if package == "torchvision":
            raise importlib.metadata.PackageNotFoundError(package)
        return importlib.metadata.version(package)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torchvision", None)
        with contextlib.suppress(ImportError):
            requirements = importlib.import_module("lightning_utilities.core.imports")
            patch.setattr(requirements, "_version", version_of)
        yield
