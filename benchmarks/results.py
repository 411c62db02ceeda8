"""What benchmarks measured as one JSON document: each room's rows, with what they were measured on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import Row
from experiments import provenance as computed
from flatness.cli.document import json_bytes, write_whole

VERSION = 1
COLUMNS = ("measured", "result", "against")
PEERS = ("scipy", "diffusers", "pytorch-optimizer", "guided-diffusion-sdk")
"""Distributions that rooms hold ours against."""


def provenance() -> dict[str, Any]:
    """Versions, peers' too, commit, devices and cores; nothing that names the computer or its user."""
    provenance = computed.provenance("cpu")
    if torch.cuda.is_available():
        provenance["device"] += f"; {computed.device_name(torch.device('cuda'))}"
    return provenance | {
        "versions": provenance["versions"] | {name: _installed(name) for name in PEERS},
        "cores": os.cpu_count(),
    }


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def entry(title: str, rows: Iterable[Row], where: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """A room of the document.

    Args:
        title: one line that says what is measured.
        rows: of its table.
        where: the provenance.
        seconds: that the room took.
    """
    return {
        "title": title,
        "provenance": dict(where),
        "wall_seconds": round(seconds, 1),
        "rows": [dict(zip(COLUMNS, row, strict=True)) for row in rows],
    }


def read(path: Path) -> dict[str, Any]:
    """The rooms of a document by name; none where there is no such file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else.
    """
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, dict) or entries.get("version") != VERSION or not isinstance(entries.get("rooms"), dict):
        raise ValueError(f"{path} is no results of benchmarks; allowed: a file that --out wrote, or a new one")
    rooms: dict[str, Any] = entries["rooms"]
    return rooms


def write(path: Path, rooms: Mapping[str, Any], order: Sequence[str]) -> None:
    """Write a document whole or not at all, its rooms in the order given; those that it does not name come last.

    Raises:
        OSError: it cannot be written; what was there before is intact.
    """
    names = [name for name in order if name in rooms]
    names += [name for name in rooms if name not in order]
    whole = {
        "what": "speed and memory beside peers, measured by `python -m benchmarks --out FILE`",
        "version": VERSION,
        "rooms": {name: rooms[name] for name in names},
    }
    write_whole(path, json_bytes(whole))
