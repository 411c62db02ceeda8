"""What `import flatness` loads beside torch and numpy: itself and Python's own modules, and nothing that takes time."""

from __future__ import annotations

import json
import subprocess
import sys

COUNTED = """
import json, sys
import numpy, torch
before = set(sys.modules)
import {module}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded(module: str) -> set[str]:
    """The modules that are loaded with one, in a process that has torch and numpy."""
    code = COUNTED.format(module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def foreign(modules: set[str]) -> set[str]:
    """The packages among modules that are neither ours nor Python's nor numpy's or torch's own."""
    return {name.split(".")[0] for name in modules} - sys.stdlib_module_names - {"flatness", "numpy", "torch"}


def test_the_package_is_imported_with_nothing_but_torch_and_numpy() -> None:
    modules = loaded("flatness")
    assert foreign(modules) == set()
    # nor with its command line, nor with what torch loads when it is asked for
    slow = ("flatness.cli", "torch._dynamo", "torch._inductor", "torch.onnx", "torch.utils.tensorboard")
    assert not [name for name in modules if name.startswith(slow)]


def test_a_foreign_package_would_be_seen() -> None:
    assert "rich" in foreign(loaded("flatness.cli.report"))
