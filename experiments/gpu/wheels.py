"""What has to be carried to a machine without a network: the wheels of the sections' packages, and their sizes.

`wheels.json` beside this file has them for one platform, torch with CUDA's libraries included, which a build for the
CPU does not bring. It is made where there is a network, again whenever a pin changes:

    python -m experiments.gpu.wheels        asks pip which wheels there are, and the index how large; writes wheels.json
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from findings.documents import json_text
from findings.files import write_whole

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PACKAGES = {
    "torch": "torch", "numpy": "numpy", "scipy": "scipy", "rich": "rich", "tyro": "tyro", "lmdb": "lmdb",
    "pillow": "PIL", "safetensors": "safetensors", "tensorboard": "tensorboard", "jaxtyping": "jaxtyping",
}  # fmt: skip
"""Distributions, and what they are imported as."""
RECORDED = Path(__file__).with_name("wheels.json")
OF_CUDA = re.compile(r"(nvidia|cuda|triton)(-|$)")
PATIENCE = 60.0
"""Seconds for one answer of the index."""


class Wheel(NamedTuple):
    """One file.

    Attributes:
        name: the distribution's, normalised.
        version: of it.
        size: of the file, in bytes.
    """

    name: str
    version: str
    size: int

    @property
    def of_cuda(self) -> bool:
        """Whether a build of torch for the CPU does without it."""
        return OF_CUDA.match(self.name) is not None


def normalised(name: str) -> str:
    """As the index compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def recorded(path: Path = RECORDED) -> dict[str, Wheel]:
    """By name."""
    document = json.loads(path.read_bytes())
    return {name: Wheel(name, wheel["version"], wheel["bytes"]) for name, wheel in document["wheels"].items()}


def resolved(packages: Sequence[str], constraints: Path) -> dict[str, Any]:
    """What pip would install from PyPI in an empty environment: its report. Nothing is installed.

    Raises:
        RuntimeError: pip failed; says what it said.
    """
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary", ":all:"]
    command += ["--quiet", "--report", "-", "--constraint", str(constraints), *packages]
    # Folders of wheels that are configured here may hold other builds
    environment = {k: v for k, v in os.environ.items() if k not in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")}
    done = subprocess.run(command, env=environment | {"PIP_CONFIG_FILE": os.devnull}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"pip ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def weighed(url: str) -> int:
    """Bytes of a file of the index, which is not fetched."""
    with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PATIENCE) as answer:
        return int(answer.headers["Content-Length"])


def document(report: dict[str, Any]) -> dict[str, Any]:
    """The report as `wheels.json` has it."""
    where = report["environment"]
    wheels = {
        normalised(item["metadata"]["name"]): {
            "version": item["metadata"]["version"],
            "bytes": weighed(item["download_info"]["url"]),
        }
        for item in report["install"]
    }
    return {
        "what": "wheels that the sections of `python -m experiments gpu` need, from PyPI",
        "platform": f"CPython {where['python_version']}, {where['sys_platform']}, {where['platform_machine']}",
        "wheels": dict(sorted(wheels.items())),
    }


def main() -> None:
    """Renew the record."""
    write_whole(RECORDED, json_text(document(resolved(list(PACKAGES), CONSTRAINTS))))
    wheels = recorded().values()
    print(f"{RECORDED}: {len(wheels)} wheels, {sum(wheel.size for wheel in wheels) / 2**20:,.0f} MiB")


if __name__ == "__main__":
    main()
