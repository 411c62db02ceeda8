"""The one runner of measures: carried out one by one, resumed where they were stopped, each with its provenance.

Rows (`evaluate`), the bridge's layers and snapshots (`layer_rows`) and points of a run (`points`) are measured by it.
`flatness measure` is not: what is installed alone may import nothing of ours, its measures take minutes and keep every
sample's loss in memory for paired differences, and a network that a user brings fails in more ways than numbers do.

A measure whose numbers are not finite has failed, and says why; that keeps no other from being taken. The result file
(`findings.documents.ResultFile`) holds the parts until all are there, and then the document:

    what is said at its head, settings, and by measure: measures, seconds
    provenance    versions, commit and device, with the measures that were taken so: one entry, but for what was resumed
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch

from experiments.provenance import provenance
from findings.documents import FAILED, ResultFile, json_text
from flatness.passes import whole_float32


class Progress(NamedTuple):
    """How far a file has come.

    Attributes:
        row: what it is of.
        measure: the one that begins now; "" when all are done.
        done, total: measures.
        share: of all passes, those that are done.
    """

    row: str
    measure: str
    done: int
    total: int
    share: float


class Task(NamedTuple):
    """One measure.

    Attributes:
        run: computes it; the result is in JSON's types.
        passes: of one image through the network, or any other cost.
    """

    run: Callable[[], Any]
    passes: int = 1


@dataclass(frozen=True)
class Work:
    """What is carried out for a file.

    Attributes:
        tasks: by name, in the order in which they are carried out.
        resumed: to which a task adds what an earlier process has done of it, each with its seconds and provenance.
    """

    tasks: Mapping[str, Task]
    resumed: list[dict[str, Any]] = field(default_factory=list)


def measured(
    result: ResultFile,
    row: str,
    about: Mapping[str, Any],
    work: Callable[[], Work],
    device: torch.device | str,
    watch: Callable[[Progress], None] = lambda progress: None,
) -> dict[str, Any]:
    """The file's document, from its parts, those of an earlier process included; a file that is there is read.

    Args:
        result: the file and its partial results.
        row: what the file is of, for progress.
        about: what stands at the document's head.
        work: gives the measures; asked where the file is not finished.
        device: where they compute.
        watch: called before each measure and at the end.

    Raises:
        ResultError: the file, or its parts, are of other settings, or another process computes it.
    """
    finished = result.finished()
    if finished is not None:
        count = len(finished["measures"])
        watch(Progress(row, "", count, count, 1.0))
        return finished
    with result.begun():
        todo = work()
        parts: dict[str, dict[str, Any]] = {}
        for name, task in todo.tasks.items():
            part = result.part(name)
            if part is None:
                watch(_progress(row, name, parts, todo.tasks))
                part = _carried_out(task, todo.resumed, device)
                result.keep(name, part)
            parts[name] = part
        watch(_progress(row, "", parts, todo.tasks))
        return result.finish(
            {
                **about,
                "settings": result.settings,
                "provenance": _provenances(parts),
                "seconds": {name: part["seconds"] for name, part in parts.items()},
                "measures": {name: part["result"] for name, part in parts.items()},
            }
        )


def _progress(row: str, measure: str, parts: Mapping[str, Any], tasks: Mapping[str, Task]) -> Progress:
    done = sum(task.passes for name, task in tasks.items() if name in parts)
    return Progress(row, measure, len(parts), len(tasks), done / max(sum(task.passes for task in tasks.values()), 1))


def _carried_out(task: Task, resumed: list[dict[str, Any]], device: torch.device | str) -> dict[str, Any]:
    """A measure's result, seconds and provenances; where numbers are not finite, why it failed."""
    begin = time.perf_counter()
    resumed.clear()
    try:
        with whole_float32():
            outcome = task.run()
        json_text({"result": outcome})
    except (ValueError, FloatingPointError) as error:
        outcome = {FAILED: str(error)}
    seconds = time.perf_counter() - begin + sum(part["seconds"] for part in resumed)
    sources: list[dict[str, Any]] = []
    for source in (*(part["provenance"] for part in resumed), provenance(device)):
        if source not in sources:
            sources.append(source)
    return {"result": outcome, "seconds": round(seconds, 3), "provenance": sources}


def _provenances(parts: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Versions, commit and device, with the measures that were taken so."""
    entries: list[dict[str, Any]] = []
    for name, part in parts.items():
        stored = part["provenance"]
        for source in stored if isinstance(stored, list) else [stored]:  # one alone, as parts once held it
            same = [entry for entry in entries if {k: v for k, v in entry.items() if k != "measures"} == source]
            if same:
                same[0]["measures"].append(name)
            else:
                entries.append({**source, "measures": [name]})
    return entries
