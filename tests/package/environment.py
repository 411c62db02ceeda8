"""An environment that holds what some requirements need and nothing else, linked from the one that runs.

So a package that is used and not declared is missing there, without network and without copies of torch.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.package.building import STILL


def closure(requirements: Iterable[Requirement]) -> dict[str, Distribution]:
    """All installed distributions that the requirements need here, directly or not, by canonical name.

    Args:
        requirements: as in `Requires-Dist`; those with an extra's marker are not needed, an extra in brackets is.

    Raises:
        PackageNotFoundError: one is needed and not installed.
    """
    needs: dict[str, Distribution] = {}
    seen = set()
    waiting = [(one, "") for one in requirements]
    while waiting:
        one, extra = waiting.pop()
        if one.marker is not None and not one.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(one.name)
        for wanted in ("", *one.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                needs[name] = distribution(one.name)
                waiting += [(Requirement(text), wanted) for text in needs[name].requires or []]
    return needs


@dataclass(frozen=True)
class Environment:
    """A virtual environment, by its folder."""

    folder: Path

    @property
    def packages(self) -> Path:
        """Where its distributions lie."""
        return self.folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"

    def run(self, command: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """What one of its commands returned and printed, in the folder `cwd`, with nothing else on its path."""
        program = [str(self.folder / "bin" / command), *words]
        return subprocess.run(program, cwd=cwd, capture_output=True, text=True, check=False, env=STILL)


def linked(folder: Path, distributions: Iterable[Distribution]) -> Environment:
    """A new environment with links to the packages of the distributions, and to each file of theirs elsewhere.

    Raises:
        ValueError: a distribution does not say which files it has.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    made = Environment(folder)
    for one in distributions:
        if one.files is None:
            raise ValueError(f"{one.name} does not list its files; allowed: distributions with a RECORD")
        # A folder without __init__.py may be a namespace, which others have a part of
        whole = {file.parts[0] for file in one.files if file.parts[1:] == ("__init__.py",)}
        inside = {file for file in one.files if ".." not in file.parts}  # without commands and manuals
        for name in whole | {str(file) for file in inside if file.parts[0] not in whole}:
            source, target = Path(str(one.locate_file(name))), made.packages / name
            if source.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(source)
    return made


def install(environment: Environment, wheel: Path) -> None:
    """Put a wheel into the environment, and nothing that it needs.

    Raises:
        RuntimeError: pip fails; with what it said.
    """
    python = str(environment.folder / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--python", python]
    words = [*pip, "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=STILL)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
