"""Hypothesis profiles: 200 examples a property by default, 10,000 for the thorough run; no deadlines."""

from __future__ import annotations

import os

from hypothesis import settings


def register() -> None:
    """Register the profiles `default` and `thorough`, and load `default`. In CI the search is derandomised.

    `fixed-default` and `fixed-thorough` are derandomised everywhere: for the command line, which prints what it found.
    """
    in_ci = bool(os.environ.get("CI"))
    for name, examples in (("default", 200), ("thorough", 10_000)):
        settings.register_profile(name, max_examples=examples, deadline=None, derandomize=in_ci, print_blob=not in_ci)
        settings.register_profile(
            f"fixed-{name}", max_examples=examples, deadline=None, derandomize=True, database=None
        )
    settings.load_profile("default")
