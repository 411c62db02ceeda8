"""Hypothesis profiles: 200 examples a property by default, 10,000 for the thorough run; no deadlines."""

from __future__ import annotations

import os

from hypothesis import settings


def register() -> None:
    """Register the profiles `default` and `thorough`, and load `default`. In CI the search is derandomised."""
    fixed = bool(os.environ.get("CI"))
    settings.register_profile("default", max_examples=200, deadline=None, derandomize=fixed, print_blob=not fixed)
    settings.register_profile("thorough", max_examples=10_000, deadline=None, derandomize=fixed, print_blob=not fixed)
    settings.register_profile("fixed", max_examples=200, deadline=None, derandomize=True, database=None)
    settings.load_profile("default")
