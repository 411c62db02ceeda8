"""The short paths to what callers outside need: whole, the things themselves, and loaded when they are used."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import theory

ROOT = Path(theory.__file__).parent.parent


@pytest.mark.parametrize("name", theory.__all__)
def test_a_public_name_is_its_module_s_own(name: str) -> None:
    value = getattr(theory, name)
    assert value.__module__.startswith("theory.model.")
    assert getattr(import_module(value.__module__), name) is value


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="worst_case_of_all"):
        _ = theory.worst_case_of_all


def test_importing_the_room_loads_none_of_it() -> None:
    code = (
        "import sys, theory; assert not [name for name in sys.modules if name.startswith('theory.') or name == 'numpy']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
