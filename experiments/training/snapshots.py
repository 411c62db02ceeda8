"""Snapshots of the power-function EMAs over a whole run, from which an EMA of another length is reconstructed.

    reconstruct(load_snapshots("runs/..."), PowerEMA.of_width(0.07))

They are evenly spaced and SNAPSHOTS of them an EMA: with widths .05 and .1 the reconstruction's relative error
(`flatness.training.weight_averaging.fit`) is then at most 4 per cent for widths from .03 to .2, 12 at .02 and 8 at .25,
at the end of training; snapshots at geometric steps do worse at every width but the longest, and much worse half way
through.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.tensor_files import read_tensors, write_tensors
from findings.checksums import DamagedError, check_tensors
from flatness.training.weight_averaging import Snapshot

FOLDER = "snapshots"
SNAPSHOTS = 16


def snapshot_steps(steps: int) -> frozenset[int]:
    """After how many steps made snapshots are taken, in a run of that many."""
    return frozenset(round(steps * (i + 1) / SNAPSHOTS) for i in range(SNAPSHOTS)) - {0}


def write_snapshots(out: Path, snapshots: Sequence[Snapshot]) -> None:
    """Write each into a file of its own, whole or not at all.

    Raises:
        OSError: the disk is full, or else.
    """
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    for snapshot in snapshots:
        name = f"gamma-{snapshot['gamma']:.6g}-step-{snapshot['steps']:08d}.safetensors"
        metadata = {"gamma": repr(snapshot["gamma"]), "steps": str(snapshot["steps"])}
        write_tensors(out / FOLDER / name, snapshot["weights"], metadata)


def load_snapshots(out: Path | str) -> list[Snapshot]:
    """All snapshots in a run's folder, for `flatness.training.weight_averaging.reconstruct`; by exponent, then by step.

    Raises:
        ValueError: there are none, or one is damaged.
    """
    found: list[Snapshot] = []
    for path in snapshot_files(Path(out)):
        weights, _ = read_tensors(path)
        gamma, steps = snapshot_place(path)
        found.append({"gamma": gamma, "steps": steps, "weights": weights})
    if not found:
        raise ValueError(f"{Path(out) / FOLDER} holds no snapshots; allowed: the folder of a run that has made some")
    return sorted(found, key=lambda snapshot: (snapshot["gamma"], snapshot["steps"]))


def snapshot_files(out: Path) -> list[Path]:
    """The files of a run's snapshots."""
    return sorted((out / FOLDER).glob("gamma-*.safetensors"))


def snapshot_place(path: Path) -> tuple[float, int]:
    """A snapshot's exponent, and how many steps had been made; the file is held against its checksum.

    Raises:
        DamagedError: it is damaged; only the run itself can make it again.
    """
    metadata = check_tensors(path)
    try:
        return float(metadata["gamma"]), int(metadata["steps"])
    except (KeyError, ValueError) as error:
        raise DamagedError(f"{path} is no snapshot: its header says {metadata}") from error
