"""What a result was computed with: versions, commit and device; nothing that names the computer or its user."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

import flatness

ROOT = Path(__file__).parent.parent


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Versions, commit and device, in JSON's types, for checkpoints and results.

    Args:
        device: where it was computed.
    """
    return {"versions": versions(), "commit": commit(), "device": device_name(torch.device(device))}


def versions() -> dict[str, str | None]:
    """Of everything that computes; CUDA's and cuDNN's are None where torch was built without."""
    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "cudnn": None if cudnn is None else str(cudnn),
        "numpy": np.__version__,
        "flatness": flatness.__version__,
    }


def device_name(device: torch.device) -> str:
    """Type and model: "cuda, NVIDIA H100 80GB HBM3", or "cpu, x86_64, 2 threads"."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return f"{device.type}, {platform.machine()}, {torch.get_num_threads()} threads"


@functools.cache
def commit(root: Path = ROOT) -> str | None:
    """The checkout's commit when first asked, with "+changes" where files differ from it; None outside of one."""
    try:
        head, status = (_git(root, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain")))
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if status else "")


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
