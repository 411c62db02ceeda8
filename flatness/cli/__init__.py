"""The command line: `flatness measure SOURCE --data ...`, `flatness compare A B ... --data ...`.

Nothing here is imported with the package.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0 done, 1 a measure failed, 2 cannot be done as asked, 130 interrupted."""
    from flatness.cli.command import run

    return run(arguments)
