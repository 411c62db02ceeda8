"""One build, and one environment with its wheel, for all tests of a process."""

from __future__ import annotations

import pytest

from tests.package.building import Built, built
from tests.package.environment import Environment, closure, install, linked


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def bare(build: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel, with what it declares, and nothing else."""
    made = linked(tmp_path_factory.mktemp("bare") / "environment", closure(build.requirements).values())
    install(made, build.wheel)
    return made
