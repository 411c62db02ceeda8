"""Checkpoints on the disk: a folder each, written whole or not at all, verified when read.

    out/checkpoints/step-00012345/
        weights.safetensors, shadow-<name>.safetensors    of the network and of its averages
        optimizer.safetensors, timesteps.safetensors      moments by parameter; losses that timesteps are drawn by
        configuration.json, state.json                    the run's identity; step, seed, versions, commit, device, data
        manifest.json                                     size and SHA-256 of each of the others

A checkpoint is written into a temporary folder beside, synchronised to the disk, and renamed; then all but the newest
and the one before are removed. Points that a run is to be measured at stand in out/points/ in the same form, with
weights, EMA and SWA alone, and stay. Snapshots of the power-function EMAs, from which an EMA of another length is
reconstructed, stand in out/snapshots/, a file each (`load_snapshots`). A killed write leaves a folder whose name begins
with a dot, removed at the next start.

While training goes on files are written aside, by one thread in order (`Writer`), whose errors are raised where
training can stop.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from experiments.configuration import Configuration
from experiments.tensor_files import read_tensors, safetensors_chunks, write_tensors
from experiments.training.distributed import side_stream
from findings.checksums import DamagedError, ResultError, check_tensors, parse_object, read_json, with_checksum
from findings.files import (
    BESIDE,
    Written,
    check_regular,
    hash_file,
    json_bytes,
    plain_name,
    sync_folder,
    write_file,
)
from findings.names import AVERAGES
from flatness import arguments
from flatness.training.weight_averaging import Snapshot

FORMAT = 1
KEPT = 2
FOLDER = "checkpoints"
SNAPSHOT_FOLDER = "snapshots"
SNAPSHOTS = 16
"""Of each power-function EMA, evenly spaced over the run: with widths .05 and .1 the relative error of an EMA that is
reconstructed from them (`flatness.training.weight_averaging.fit`) is then at most 4 per cent for widths from .03 to .2,
12 at .02 and 8 at .25, at the end of training. Geometric steps do worse at every width but the longest, and much worse
half way through."""
POINTS = "points"
MEASURED = AVERAGES
"""The weights and averages that a point holds, of those that the run has by then."""
MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
ASIDE = "corrupt-"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read or resumed."""


@dataclass(frozen=True)
class Contents:
    """What is in a checkpoint.

    Attributes:
        step: how many have been made.
        tensors: by file name, then by name.
        documents: by file name, in JSON's types.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    documents: Mapping[str, Any]


def shadow_file(name: str) -> str:
    """The file of an average."""
    return f"shadow-{name}.safetensors"


def checkpoint_folder(out: Path, step: int) -> Path:
    """Where the checkpoint after that many steps stands."""
    return out / FOLDER / f"step-{step:08d}"


def point_folder(out: Path, step: int) -> Path:
    """Where the weights after that many steps were put aside for measuring."""
    return out / POINTS / f"step-{step:08d}"


def step_of(folder: Path) -> int:
    """After how many steps the checkpoint was taken."""
    return int(folder.name.removeprefix("step-"))


def checkpoints(out: Path) -> list[Path]:
    """The run's checkpoints, newest first, whole or not."""
    paths = [path for path in (out / FOLDER).glob("step-*") if path.is_dir() and path.name[5:].isdigit()]
    return sorted(paths, key=step_of, reverse=True)


def write_checkpoint(out: Path, contents: Contents) -> Path:
    """Write a checkpoint and remove those that are no longer kept.

    Raises:
        OSError: the disk is full, or else; what was there before is intact.
        FloatingPointError: a weight is not finite; nothing is written.
    """
    final = checkpoint_folder(out, contents.step)
    _write_folder(final, contents)
    for old in checkpoints(out)[KEPT:]:
        _remove(old)
    return final


def write_point(out: Path, contents: Contents) -> Path:
    """Write the weights, EMA and SWA of a checkpoint's contents, in a checkpoint's form, to stay for measuring.

    Raises:
        OSError, FloatingPointError: as `write_checkpoint`.
    """
    files = {WEIGHTS, *(shadow_file(name) for name in MEASURED)}
    tensors = {name: of for name, of in contents.tensors.items() if name in files}
    final = point_folder(out, contents.step)
    _write_folder(final, Contents(contents.step, tensors, contents.documents))
    return final


def _write_folder(final: Path, contents: Contents) -> None:
    beside = final.with_name(f"{BESIDE}{final.name}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        written = dict(_write_files(beside, contents))
        write_file(beside / MANIFEST, [json_bytes(with_checksum({"format": FORMAT, "files": _plain(written)}))])
        sync_folder(beside)
        if final.exists():
            _remove(final)
        beside.rename(final)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_folder(final.parent)


def _write_files(folder: Path, contents: Contents) -> Iterator[tuple[str, Written]]:
    for name, document in contents.documents.items():
        yield name, write_file(folder / name, [json_bytes(document)])
    for name, tensors in contents.tensors.items():
        yield name, write_file(folder / name, safetensors_chunks(tensors, finite=name == WEIGHTS))


def _plain(written: Mapping[str, Written]) -> dict[str, dict[str, Any]]:
    return {name: of._asdict() for name, of in written.items()}


def _remove(folder: Path) -> None:
    """Renamed first, so that a kill half way through leaves no folder that looks like a checkpoint."""
    away = folder.with_name(f".removing-{folder.name}")
    shutil.rmtree(away, ignore_errors=True)
    folder.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def remove_leftovers(out: Path) -> None:
    """Remove what killed writes left; only while no other process writes there."""
    for path in (*(out / FOLDER).glob(".*"), *(out / POINTS).glob(".*")):
        shutil.rmtree(path, ignore_errors=True)
    for path in out.rglob(f"{BESIDE}*"):
        if path.is_file():
            path.unlink()


def verify(folder: Path, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Compare a checkpoint's files, or some of them, with its manifest; returns its state.json.

    Raises:
        CheckpointError: it is of another format, or a file is missing, short, or not what was written.
    """
    try:
        manifest = read_json(folder / MANIFEST)
        if manifest["format"] != FORMAT:
            raise CheckpointError(f"{folder} has the format {manifest['format']!r}; allowed: {FORMAT}")
        files = {plain_name(name): Written(of["size"], of["sha256"]) for name, of in manifest["files"].items()}
        for name in files if names is None else names:
            if name not in files:
                raise CheckpointError(f"{folder} has no {name}")
            check_regular(folder / name)
            size = (folder / name).stat().st_size
            if size != files[name].size:
                raise CheckpointError(f"{folder / name} has {size} bytes; {files[name].size} were written")
            if hash_file(folder / name) != files[name]:
                raise CheckpointError(f"{folder / name} has not the contents that were written")
        return parse_object((folder / "state.json").read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder} is not a whole checkpoint: {error!r}") from error


def newest_good(out: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint that is whole, None where there is none at all; and the newer ones, which are broken.

    Warns of each of these.

    Raises:
        CheckpointError: there are checkpoints, but none is whole.
    """
    broken: dict[Path, str] = {}
    for path in checkpoints(out):
        try:
            verify(path)
        except CheckpointError as error:
            broken[path] = str(error)
            continue
        for message in broken.values():
            warnings.warn(f"{message}; {path.name} is used instead", stacklevel=2)
        return path, list(broken)
    if broken:
        listed = "\n".join(broken.values())
        raise CheckpointError(f"no checkpoint in {out} is whole; nothing was changed:\n{listed}")
    return None, []


def whole_checkpoint(path: Path) -> Path:
    """A run's newest whole checkpoint, or the one whose folder is given.

    Raises:
        CheckpointError: there is none.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path} is no folder; allowed: a run's, or a checkpoint's")
    newest = path if (path / MANIFEST).exists() else newest_good(path)[0]
    if newest is None:
        raise CheckpointError(f"{path} holds no checkpoint, and is none")
    return newest


def set_aside(folders: Iterable[Path]) -> None:
    """Rename broken checkpoints, so that they no longer count among the run's, nor stand in a later one's place."""
    for folder in folders:
        away = folder.with_name(ASIDE + folder.name)
        shutil.rmtree(away, ignore_errors=True)
        folder.rename(away)


def read_configuration(folder: Path) -> Configuration:
    """A checkpoint's or a run's configuration.

    Raises:
        CheckpointError: there is none that can be read.
    """
    path = folder / "configuration.json"
    try:
        return Configuration.from_dict(read_json(path))
    except ResultError as error:
        raise CheckpointError(str(error)) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} holds no configuration that can be read: {error}") from error


def load_run(path: Path | str, shadow: str | None = None) -> tuple[Configuration, dict[str, Tensor], int]:
    """The weights of a run, for evaluation.

    Args:
        path: a run's folder, whose newest whole checkpoint is taken, or a checkpoint's.
        shadow: None or "raw" for the weights themselves; the name of an average ("ema", "swa", "power-0.05").

    Returns:
        The configuration; the state_dict, float32, on the CPU; how many steps had been made.

    Raises:
        CheckpointError: there is no whole checkpoint.
        ValueError: the checkpoint has no such average; an SWA that has not begun is not there yet.
    """
    folder = whole_checkpoint(Path(path))
    names = {"raw": WEIGHTS} | {p.name[7:-12]: p.name for p in sorted(folder.glob(shadow_file("*")))}
    file = names[arguments.choice("shadow", "raw" if shadow is None else shadow, names)]
    state = verify(folder, (file, "configuration.json", "state.json"))
    return read_configuration(folder), load_file(folder / file), int(state["step"])


def snapshot_steps(steps: int) -> frozenset[int]:
    """After how many steps made snapshots are taken, in a run of that many."""
    return frozenset(round(steps * (i + 1) / SNAPSHOTS) for i in range(SNAPSHOTS)) - {0}


def write_snapshots(out: Path, snapshots: Sequence[Snapshot]) -> None:
    """Write each into a file of its own, whole or not at all.

    Raises:
        OSError: the disk is full, or else.
    """
    (out / SNAPSHOT_FOLDER).mkdir(parents=True, exist_ok=True)
    for snapshot in snapshots:
        name = f"gamma-{snapshot['gamma']:.6g}-step-{snapshot['steps']:08d}.safetensors"
        metadata = {"gamma": repr(snapshot["gamma"]), "steps": str(snapshot["steps"])}
        write_tensors(out / SNAPSHOT_FOLDER / name, snapshot["weights"], metadata)


def load_snapshots(out: Path | str) -> list[Snapshot]:
    """All snapshots in a run's folder, for `flatness.training.weight_averaging.reconstruct`; by exponent, then by step.

    Raises:
        ValueError: there are none, or one is damaged.
    """
    snapshots: list[Snapshot] = []
    for path in snapshot_files(Path(out)):
        weights, _ = read_tensors(path)
        gamma, steps = snapshot_place(path)
        snapshots.append({"gamma": gamma, "steps": steps, "weights": weights})
    if not snapshots:
        folder = Path(out) / SNAPSHOT_FOLDER
        raise ValueError(f"{folder} holds no snapshots; allowed: the folder of a run that has made some")
    return sorted(snapshots, key=lambda snapshot: (snapshot["gamma"], snapshot["steps"]))


def snapshot_files(out: Path) -> list[Path]:
    """The files of a run's snapshots."""
    return sorted((out / SNAPSHOT_FOLDER).glob("gamma-*.safetensors"))


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


class Writer:
    """Writes checkpoints and snapshots of one run; one at a time, so at most one copy is held.

    Args:
        out: the run's folder.
        last: the last whole checkpoint, named in errors.
        device: where contents may be.

    Attributes:
        last: the newest checkpoint that is on the disk.
    """

    def __init__(self, out: Path, last: Path | None, device: torch.device) -> None:
        """Start no thread yet."""
        self.out, self.last, self.device = out, last, device
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoints")
        self._pending: Future[None] | None = None
        self._step = 0

    @property
    def failed(self) -> bool:
        """Whether a write has ended in an error that was not raised yet; does not wait."""
        pending = self._pending
        return pending is not None and pending.done() and pending.exception() is not None

    def write(
        self,
        step: int,
        snapshots: Sequence[Snapshot],
        contents: Contents | None,
        point: Contents | None = None,
    ) -> None:
        """Write aside the snapshots, the point to be measured, then the checkpoint of a step; first waits.

        Contents on a device are complete: whoever copied them has waited for the device.

        Raises:
            CheckpointError: the write before failed.
        """
        self.wait()
        self._pending = self._pool.submit(self._write, snapshots, contents, point)
        self._step = step

    def wait(self) -> None:
        """Wait until everything is on the disk.

        Raises:
            CheckpointError: a write failed: the disk is full, a weight is not finite, or else. The checkpoints that
                were there before are intact; the last is named.
        """
        pending, self._pending = self._pending, None
        error = None if pending is None else pending.exception()
        if error is not None:
            message = f"what was to be saved at step {self._step} could not be written: {error}; {self.last_good()}"
            raise CheckpointError(message) from error

    def last_good(self) -> str:
        """The last whole checkpoint, in words."""
        return f"the last good checkpoint is {self.last}" if self.last else "there is no checkpoint yet"

    def close(self) -> None:
        """Let the write that is under way end, and start no other."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _write(self, snapshots: Sequence[Snapshot], contents: Contents | None, point: Contents | None) -> None:
        # First, so that a run that continues from the checkpoint has them
        write_snapshots(self.out, snapshots)
        if point is not None:
            with side_stream(self.device):
                write_point(self.out, point)
        if contents is not None:
            with side_stream(self.device):
                self.last = write_checkpoint(self.out, contents)
