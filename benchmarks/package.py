"""What `import flatness` adds to importing torch and numpy, which it needs, and its command line to that.

In fresh processes, the disk's cache warm. Each times one after the other, so that what slows it slows them all.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks.timing import Row

ROUNDS = 11
TIMED = """
import time
start = time.perf_counter()
import numpy, torch
both = time.perf_counter()
import flatness
package = time.perf_counter()
from flatness.cli.command import parser
parser()
command = time.perf_counter()
print(both - start, package - both, command - package)
"""


def _seconds() -> list[float]:
    done = subprocess.run([sys.executable, "-c", TIMED], check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def imports() -> list[Row]:
    """Medians over processes, after one that warms the cache."""
    _seconds()
    torch, package, command = map(statistics.median, zip(*(_seconds() for _ in range(ROUNDS)), strict=True))
    return [
        (
            "import flatness, over importing torch and numpy",
            f"{package:.3f} s more, {1 + package / torch:.3f} times as long",
            f"at most 0.3 s more; torch and numpy {torch:.2f} s",
        ),
        (
            "its command line until options are read, over importing flatness",
            f"{command:.3f} s more, {1 + command / (torch + package):.3f} times as long",
            f"torch, numpy and flatness {torch + package:.2f} s",
        ),
    ]


PARTS = (imports,)
