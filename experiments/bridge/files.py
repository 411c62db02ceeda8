"""What the bridge reads: rows, their files of the first stage, snapshots, and the paper's printed numbers."""

from __future__ import annotations

from typing import Any

from experiments.bridge.rows import Entry, Rows
from experiments.configuration import Configuration
from experiments.measures.layer_rows import LAYERS, Plan
from experiments.measures.snapshot_rows import SNAPSHOTS
from findings.checksums import ResultError
from findings.documents import read_document, refuse_other
from findings.names import AVERAGES, Average, RowName

SHARED = ("options", "noise", "device")
"""Settings that all files of the first stage have to share."""


def row_documents(plan: Plan) -> dict[tuple[str, Average], dict[str, Any]]:
    """The rows' documents by run and average, each held against the plan.

    Raises:
        ResultError: rows are missing, cannot be read, or are of another plan.
    """
    found: dict[tuple[str, Average], dict[str, Any]] = {}
    missing = []
    for run, configuration in plan.runs.items():
        for average in AVERAGES:
            path = plan.folder / "rows" / f"{run}-{average}.json"
            if path.exists():
                document = read_document(path)
                try:  # of an older version, perhaps
                    there = Configuration.from_dict(document["settings"]["configuration"])
                except (KeyError, TypeError, AttributeError, ValueError) as error:
                    raise ResultError(f"{path} names no configuration that can be read: {error!r}") from error
                refuse_other(path, {"configuration": there.to_dict()}, {"configuration": configuration.to_dict()})
                found[run, average] = document
            elif average != "swa" or configuration.swa_models:
                missing.append(path.name)
    if missing:
        raise ResultError(
            f"{plan.folder / 'rows'} lacks {', '.join(missing)}; give the same `reproduce` again, or only "
            "--stage measure"
        )
    return found


def read(plan: Plan) -> tuple[Rows, dict[str, dict[str, Any]]]:
    """All rows with their files of the first stage, and the runs' snapshots.

    Raises:
        ResultError: a file is missing, cannot be read, or is of other settings than the others.
    """
    radii = {c.sam.rho for c in plan.runs.values() if c.perturbs_weights}
    entries: list[Entry] = []
    settings: dict[str, Any] = {}
    for (run, average), document in row_documents(plan).items():
        layers = _first_stage(plan, f"{run}-{average}", settings)
        wanted = {"checkpoint": document["settings"]["checkpoint"]}
        there = {"checkpoint": layers["settings"].get("checkpoint")}
        refuse_other(plan.folder / LAYERS / f"{run}-{average}.json", there, wanted)
        configuration = plan.runs[run]
        rho = configuration.sam.rho if configuration.perturbs_weights else 0.0
        label = str(RowName(configuration.method, average, rho if rho and len(radii) > 1 else None))
        entries.append(Entry(run, average, configuration.method, rho, configuration.seed, label, document, layers))
    names = {run: f"{run}-{SNAPSHOTS}" for run in plan.runs}
    kept = {run: name for run, name in names.items() if (plan.folder / LAYERS / f"{name}.json").exists()}
    return Rows(entries), {run: _first_stage(plan, name, settings) for run, name in kept.items()}


def _first_stage(plan: Plan, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """A file of the first stage; its settings are held against those of the first one read, which are noted.

    Raises:
        ResultError: it is missing, cannot be read, or is of other settings.
    """
    path = plan.folder / LAYERS / f"{name}.json"
    if not path.exists():
        raise ResultError(f"{path} is missing; allowed: a folder that --stage measure is done with")
    found = read_document(path)
    kept = {key: found["settings"].get(key) for key in SHARED}
    settings.update({} if settings else kept)
    refuse_other(path, kept, settings)
    return found
