"""The figures' data, computed once and taken through JSON as it is on the way to disk."""

import json
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from findings import toy_study, trained
from findings.trained import RUNS_VARIABLE
from paper_figs.build import as_json

Data = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_runs_of_the_person_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUNS_VARIABLE, "")  # so that it is put back, whatever a test sets
    monkeypatch.delenv(RUNS_VARIABLE)


@cache
def _computed(name: str) -> str:
    return as_json(import_module(f"paper_figs.figures.{name}").compute())


@pytest.fixture
def data_of() -> Callable[[str], Data]:
    """The data of the figure of that name, as `draw` gets it."""
    return lambda name: json.loads(_computed(name))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results folder of a checkout without studies."""
    monkeypatch.setattr(trained, "ROOT", tmp_path)
    return tmp_path / "results"


@pytest.fixture(scope="module")
def toy() -> Data:
    return dict(json.loads(toy_study.RESULTS.read_bytes()))
