"""The figures' data, computed once and taken through JSON as it is on the way to disk."""

import json
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import pytest

from paper_figs.output import as_json

Data = dict[str, Any]


@cache
def _computed(name: str) -> str:
    return as_json(import_module(f"paper_figs.{name}").compute())


@pytest.fixture
def data_of() -> Callable[[str], Data]:
    """The data of the figure of that name, as `draw` gets it."""
    return lambda name: json.loads(_computed(name))
