"""Source distribution and wheel, built as for a release from a clean copy of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tarfile import open as open_tar
from zipfile import ZipFile

from packaging.metadata import Metadata
from packaging.requirements import Requirement

import flatness

ROOT = Path(__file__).parent.parent.parent
STILL = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
"""The environment's variables without those that put modules on the path of a process, or options before pip's."""


@dataclass(frozen=True)
class Built:
    """What a build left: the copy it was built from, with what that held before, both files, all that was printed."""

    copy: Path
    before: frozenset[Path]
    sdist: Path
    wheel: Path
    printed: str

    @property
    def in_sdist(self) -> dict[str, bytes]:
        """Its files by path below the top folder."""
        with open_tar(self.sdist) as archive:
            files = [(member.name.partition("/")[2], archive.extractfile(member)) for member in archive.getmembers()]
            return {name: file.read() for name, file in files if file is not None}

    @property
    def in_wheel(self) -> dict[str, bytes]:
        """Its files by path."""
        with ZipFile(self.wheel) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    @property
    def metadata(self) -> Metadata:
        """The wheel's; invalid metadata raises."""
        (content,) = (data for name, data in self.in_wheel.items() if name.endswith(".dist-info/METADATA"))
        return Metadata.from_email(content)

    @property
    def requirements(self) -> list[Requirement]:
        """What the wheel declares to need, extras' needs included."""
        return self.metadata.requires_dist or []


def copied(folder: Path) -> Path:
    """The checkout's files, but for those that git ignores, in a new folder."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # git also lists what was removed and not yet committed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def built(folder: Path, *options: str) -> Built:
    """Distributions of a copy of the checkout, without network; a warning is an error.

    Args:
        folder: empty.
        options: for `python -m build`. Without them both, the wheel from the source distribution.

    Raises:
        RuntimeError: the build fails; with what it printed.
    """
    copy, out = copied(folder / "copy"), folder / "dist"
    before = frozenset(copy.rglob("*"))
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *options, str(copy)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=folder, env=STILL | {"PYTHONWARNINGS": "error"}
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    stem = out / f"flatness-{flatness.__version__}"
    return Built(copy, before, Path(f"{stem}.tar.gz"), Path(f"{stem}-py3-none-any.whl"), done.stdout + done.stderr)
