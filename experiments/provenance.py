"""What a result was computed with: versions, commit and device; nothing that names the computer or its user."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch

import flatness
from findings import provenance as code
from findings.provenance import commit


def provenance(device: torch.device | str = "cpu") -> dict[str, Any]:
    """Versions, commit and device, in JSON's types, for checkpoints and results.

    Args:
        device: where it was computed.
    """
    return {"versions": versions(), "commit": commit(), "device": device_name(torch.device(device))}


def versions() -> dict[str, str | None]:
    """Of everything that computes; CUDA's and cuDNN's are None where torch was built without."""
    cudnn = torch.backends.cudnn.version() if torch.version.cuda else None
    cuda = {"cuda": torch.version.cuda, "cudnn": None if cudnn is None else str(cudnn)}
    return {**code.versions(torch), **cuda, **code.versions(np, flatness)}


def device_name(device: torch.device) -> str:
    """Type and model: "cuda, NVIDIA H100 80GB HBM3", or "cpu, x86_64, 2 threads"."""
    if device.type == "cuda":
        return f"cuda, {torch.cuda.get_device_name(device)}"
    return f"{device.type}, {platform.machine()}, {torch.get_num_threads()} threads"
