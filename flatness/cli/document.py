"""The JSON document of a command: settings, provenance, data, sources, and every number with its single values."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import flatness
from flatness.cli.data import Data, fingerprint
from flatness.cli.errors import CommandError
from flatness.cli.files import write_whole
from flatness.cli.runner import Common, Measured
from flatness.cli.statistics import by_sample
from flatness.measuring.base import plain

VERSION = 1


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions and device, in JSON's types; nothing that names the computer or its user."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    versions = {"python": platform.python_version(), "torch": str(torch.__version__), "flatness": flatness.__version__}
    with contextlib.suppress(PackageNotFoundError):
        versions["diffusers"] = version("diffusers")
    return {"versions": versions, "device": f"{device.type}, {name}", "threads": torch.get_num_threads()}


def document(
    networks: Sequence[Measured], common: Common, data: Data, differences: Sequence[Mapping[str, Any]] | None = None
) -> Any:
    """Everything for the JSON file, in its types."""
    whole = common_entry(common, data) | {"settings": dataclasses.asdict(common.options)}
    whole |= {"sources": {one.label: _entry(one) for one in networks}}
    return plain(whole | ({"differences": differences} if differences is not None else {}))


def common_entry(common: Common, data: Data) -> dict[str, Any]:
    """What every command records: the data, the place and versions."""
    sample = list(common.x_0.shape[1:])
    return {
        "what": "flatness of diffusion models, measured by `flatness`",
        "version": VERSION,
        "place": {"batch_size": common.place.batch_size, "gradient_batch": common.place.gradient_batch},
        "data": {
            "name": data.name, "available": data.available, "used": len(common.x_0), "shape": sample,
            "labels": common.labels is not None, "remarks": common.remarks,
            "sha256": fingerprint(common.x_0, common.labels),
        },
        "provenance": provenance(common.device),
    }  # fmt: skip


def _entry(one: Measured) -> dict[str, Any]:
    numbers = {}
    for name, quantity in one.quantities.items():
        values = [{"sign": part.sign, "by_sample": by_sample(part)} for part in quantity.parts]
        numbers[name] = {"words": quantity.words, **dataclasses.asdict(quantity.number), "parts": values}
    measures = {name: outcome.result for name, outcome in one.outcomes.items()}
    measures |= {name: {"failed": why} for name, why in one.failed.items()}
    measures |= {name: {"left out": why} for name, why in one.left_out.items()}
    return {"about": one.about, "numbers": numbers, "measures": measures, "seconds": one.seconds}


def write_elsewhere(name: str, content: bytes) -> Path | None:
    """Put a file among temporary files, where it was to be being of no use; its path, None where that fails too."""
    with contextlib.suppress(OSError):
        instead = Path(tempfile.mkdtemp(prefix="flatness-")) / name
        instead.write_bytes(content)
        return instead
    return None


def write_result(path: Path, content: bytes) -> None:
    """Put a file in its place whole, or else among temporary files, so that what took long is not lost.

    Raises:
        CommandError: it is not in its place, and where it is instead.
    """
    try:
        write_whole(path, content)
    except OSError as error:
        instead = write_elsewhere(path.name, content)
        where = "the table is all there is" if instead is None else f"it is {instead} instead"
        raise CommandError(f"{path} cannot be written ({error.strerror or error}); {where}") from error


def json_bytes(value: Any) -> bytes:
    """In UTF-8, indented by one; lists of numbers in one line.

    Raises:
        ValueError: a number is not finite.
    """
    return (_compact(json.loads(json.dumps(value, allow_nan=False)), 0) + "\n").encode()


def _compact(value: Any, depth: int) -> str:
    nested = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if not any(isinstance(item, dict | list) for item in nested):
        return json.dumps(value)
    inner, outer = "\n" + " " * (depth + 1), "\n" + " " * depth
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_compact(item, depth + 1)}" for key, item in value.items()]
        return "{" + inner + ("," + inner).join(lines) + outer + "}"
    return "[" + inner + ("," + inner).join(_compact(item, depth + 1) for item in value) + outer + "]"
