"""Measures carried out one by one: resumed where they were stopped, each with its seconds and provenance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from experiments.provenance import provenance
from findings.documents import FAILED, ResultFile, json_text
from flatness.precision import whole_float32


def measured(
    result: ResultFile,
    about: Mapping[str, Any],
    tasks: Callable[[], Mapping[str, Callable[[], Any]]],
    device: torch.device,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The file's document, from its parts, those of an earlier process included.

    Args:
        result: the file and its partial results.
        about: what stands at the document's head.
        tasks: gives the measures by name; asked where the file is not finished.
        device: where they compute.
        say: is told a line before each measure.

    Raises:
        ResultError: the file, or its parts, are of other settings, or another process computes it.
    """
    finished = result.finished()
    if finished is not None:
        return finished
    with result.begun():
        parts: dict[str, dict[str, Any]] = {}
        for name, task in tasks().items():
            part = result.part(name)
            if part is None:
                say(f"{result.path.stem}: {name}")
                part = carried_out(task, device)
                result.keep(name, part)
            parts[name] = part
        return result.finish(
            {
                **about,
                "settings": result.settings,
                "provenance": _provenances(parts),
                "seconds": {name: part["seconds"] for name, part in parts.items()},
                "measures": {name: part["result"] for name, part in parts.items()},
            }
        )


def carried_out(task: Callable[[], Any], device: torch.device) -> dict[str, Any]:
    """A measure's result, seconds and provenance; where numbers are not finite, why it failed."""
    begin = time.perf_counter()
    try:
        with whole_float32():
            outcome = task()
        json_text({"result": outcome})
    except (ValueError, FloatingPointError) as error:
        outcome = {FAILED: str(error)}
    return {"result": outcome, "seconds": round(time.perf_counter() - begin, 3), "provenance": provenance(device)}


def _provenances(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Versions, commit and device, with the measures that were taken so: one entry, but for a file that was resumed."""
    entries: list[dict[str, Any]] = []
    for name, part in parts.items():
        same = [entry for entry in entries if {k: v for k, v in entry.items() if k != "measures"} == part["provenance"]]
        if same:
            same[0]["measures"].append(name)
        else:
            entries.append({**part["provenance"], "measures": [name]})
    return entries
