"""A folder of samples: made in shards, continued where it was left, by one process or several.

    settings.json                              what was asked for, of which weights: written first, never changed
    shards/samples-00000-00511.safetensors     images 0 to 511, uint8 (n, H, W, C); and a .json: how it was made
    samples.npz                                all of them as arr_0, uint8 (N, H, W, C), as ADM's evaluator reads them
    grid.png                                   the first 64
    samples.json                               settings, provenance, seconds, hash of samples.npz: written last

Every file is written whole or not at all. Shards, samples.npz and grid.png are functions of the settings, the batch
size and the device, byte for byte on a CPU with the same number of threads; the times are in the JSON files alone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from experiments.data import to_float
from experiments.tensor_files import read_tensors, write_tensors
from experiments.training.validation import grid
from findings.checksums import DamagedError, ResultError, read_json, with_checksum
from findings.documents import differences
from findings.files import hash_file, json_bytes, remove_leftovers, whole_file, write_whole

FORMAT = 1
SETTINGS, RESULT, MERGED, GRID, SHARDS = "settings.json", "samples.json", "samples.npz", "grid.png", "shards"
COLUMNS = 8
"""Of the grid, which is at most as high."""


class Shard(NamedTuple):
    """Images first to last, both included."""

    first: int
    last: int

    @property
    def name(self) -> str:
        """Of its file, without suffix."""
        return f"samples-{self.first:05d}-{self.last:05d}"

    @property
    def images(self) -> range:
        """The images' numbers."""
        return range(self.first, self.last + 1)


class SampleFolder:
    """A folder for samples of the given settings.

    Args:
        out: the folder; made if missing, when `claim` is called.
        identity: `Source.identity`.
        shape: (H, W, C) of an image.

    Raises:
        ValueError: the folder has samples of other settings or of another version, or holds something else; nothing is
            changed.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
        """Compare with what is there; write nothing."""
        self.out, self.shape = out, shape
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        canonical = json.dumps(self.identity, sort_keys=True).encode()
        self._digest = hashlib.sha256(canonical).hexdigest()
        total, size = self.identity["images"], self.identity["shard_size"]
        self.shards = [Shard(first, min(first + size, total) - 1) for first in range(0, total, size)]
        self._check()

    def claim(self) -> None:
        """Make the folder and write the settings, unless they are there.

        Raises:
            ValueError: another process wrote other settings meanwhile.
            OSError: the folder cannot be made or written to.
        """
        (self.out / SHARDS).mkdir(parents=True, exist_ok=True)
        _write_first(self.out / SETTINGS, json_bytes(with_checksum(self.identity)))
        self._check()

    def _check(self) -> None:
        path = self.out / SETTINGS
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"out is {self.out}, which is a file; allowed: a folder, which need not exist")
        if not path.exists():
            # Folder and temporary file of a process that is claiming it now are no one else's
            others = [entry.name for entry in _listed(self.out) if entry.name != SHARDS and entry.name[0] != "."]
            if others or _listed(self.out / SHARDS):
                raise ValueError(
                    f"out is {self.out}, which holds {', '.join(sorted(others)[:3]) or SHARDS} but no {SETTINGS}; "
                    "allowed: an empty folder, or one of these samples"
                )
            return
        try:
            stored = read_json(path)
        except ResultError as error:
            raise ValueError(f"{path} holds nothing that can be read ({error}); allowed: {FORMAT}") from error
        if stored.get("format") != FORMAT:
            other = f"the format {stored.get('format')!r}"
            raise ValueError(f"{path} holds {other}; allowed: {FORMAT}. Nothing was changed")
        lines = differences(stored, self.identity)
        if lines:
            listed = "\n".join(["field: there, asked for now", *lines])
            raise ValueError(f"{self.out} holds samples of other settings; take another folder.\n{listed}")

    def missing(self, part: int = 0, parts: int = 1) -> list[Shard]:
        """The shards still to be made, of every `parts`-th from number `part`; warns of files that are damaged.

        Raises:
            ValueError: a shard is of other settings.
        """
        return [shard for shard in self.shards[part::parts] if not self._has(shard)]

    def _has(self, shard: Shard) -> bool:
        path = self.out / SHARDS / f"{shard.name}.safetensors"
        if not path.exists() or _read_whole(path.with_suffix(".json")) is None:
            return False
        try:
            digest, images = self._contents(shard)
        except DamagedError as error:
            warnings.warn(f"{path} is damaged and made anew: {error}", stacklevel=3)
            return False
        if digest != self._digest or not self._fits(images, shard):
            raise ValueError(f"{path} is of other settings than {SETTINGS} says; take another folder")
        return True

    def write(self, shard: Shard, pixels: UInt8[Tensor, "n C H W"], made: Mapping[str, Any]) -> None:
        """Write a shard, and how it was made; the shard counts once both are there.

        Raises:
            OSError: the disk is full, or else.
        """
        path = self.out / SHARDS / f"{shard.name}.safetensors"
        write_whole(path.with_suffix(".json"), json_bytes(with_checksum(made)))
        write_tensors(path, {"images": pixels.permute(0, 2, 3, 1)}, {"settings": self._digest})

    def read(self, shard: Shard) -> UInt8[Tensor, "n H W C"]:
        """A shard's images.

        Raises:
            DamagedError: the file is not what was written.
        """
        _, images = self._contents(shard)
        if not self._fits(images, shard):
            raise DamagedError(f"shard {shard.name} of {self.out} holds no images of the settings' shape")
        return images

    def _contents(self, shard: Shard) -> tuple[str | None, Tensor]:
        """The settings that a shard says it is of, and its images.

        Raises:
            DamagedError: the file is not what was written.
        """
        path = self.out / SHARDS / f"{shard.name}.safetensors"
        tensors, metadata = read_tensors(path)
        if "images" not in tensors:
            raise DamagedError(f"{path} holds no images")
        return metadata.get("settings"), tensors["images"]

    def _fits(self, images: Tensor, shard: Shard) -> bool:
        return images.dtype == torch.uint8 and images.shape == (len(shard.images), *self.shape)

    def result(self) -> dict[str, Any] | None:
        """samples.json where all is finished and samples.npz is what was written; otherwise None."""
        document = _read_whole(self.out / RESULT)
        merged = self.out / MERGED
        if document is None or not merged.is_file() or not (self.out / GRID).is_file():
            return None
        whole = document.get("settings") == self.identity and document.get("sha256") == hash_file(merged).sha256
        return document if whole else None

    def finish(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Put the shards together: samples.npz, grid.png and last samples.json, which is returned.

        Raises:
            OSError: the disk is full, or else.
        """
        for folder in (self.out, self.out / SHARDS):
            remove_leftovers(folder)
        for torn in self.out.glob(f".{SETTINGS}.*.first"):
            torn.unlink(missing_ok=True)
        self._merge(self.out / MERGED)
        self._draw(self.out / GRID)
        made = [_read_whole(self.out / SHARDS / f"{shard.name}.json") or {} for shard in self.shards]
        seconds = sum(entry.get("seconds", 0.0) for entry in made)
        total = self.identity["images"]
        circumstances = [{k: v for k, v in entry.items() if k != "seconds"} for entry in made]
        result = {
            "settings": self.identity,
            "images": total,
            "shape": [total, *self.shape],
            "sha256": hash_file(self.out / MERGED).sha256,
            "device_seconds": seconds,
            "images_per_second_and_device": total / seconds if seconds else None,
            "made_with": [entry for i, entry in enumerate(circumstances) if entry not in circumstances[:i]],
            "provenance": dict(provenance),
        }
        write_whole(self.out / RESULT, json_bytes(with_checksum(result)))
        return result

    def _merge(self, path: Path) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.identity["images"], *self.shape)}
        # The entry's date is zipfile's constant, so equal samples are equal files
        entry = zipfile.ZipInfo("arr_0.npy")
        with (
            whole_file(path) as stream,
            zipfile.ZipFile(stream, "w") as archive,
            archive.open(entry, "w", force_zip64=True) as array,
        ):
            np.lib.format.write_array_header_1_0(array, header)
            for shard in self.shards:
                array.write(self.read(shard).numpy().tobytes())

    def _draw(self, path: Path) -> None:
        count = min(self.identity["images"], COLUMNS**2)
        first = torch.cat([self.read(shard) for shard in self.shards if shard.first < count])[:count]
        stream = io.BytesIO()
        grid(to_float(first.permute(0, 3, 1, 2)), min(COLUMNS, count)).save(stream, format="PNG")
        write_whole(path, stream.getvalue())


def _write_first(path: Path, content: bytes) -> None:
    """Write the file whole, unless there is one: of processes that begin together one writes it."""
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.first")
    write_whole(temporary, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        write_whole(path, content)
    finally:
        temporary.unlink(missing_ok=True)


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _read_whole(path: Path) -> dict[str, Any] | None:
    """A document; None where it is not there, or is damaged, of which there is a warning."""
    if not path.exists():
        return None
    try:
        return read_json(path)
    except ResultError:
        warnings.warn(f"{path} is damaged and made anew", stacklevel=3)
        return None
