"""Damage in place: what reads checkpoints, snapshots and plans refuses a damaged file in a line that names it.

Documents and tensors by themselves: tests/findings/test_checksums.py, tests/experiments/test_tensor_files.py.
"""

import json
import random
from pathlib import Path

import pytest
import torch

from experiments.measures.layer_rows import Plan
from experiments.training.checkpoints import (
    CheckpointError,
    Contents,
    load_snapshots,
    newest_good,
    snapshot_place,
    verify,
    write_checkpoint,
    write_snapshots,
)
from findings.checksums import ResultError, with_checksum
from findings.documents import VERSION
from tests.hardening.torture import DAMAGES

CHANCE = random.Random(0)
WEIGHTS = {"w": torch.arange(8.0)}


def written(out: Path, step: int) -> Path:
    """A checkpoint."""
    return write_checkpoint(out, Contents(step, {"weights.safetensors": WEIGHTS}, {"state.json": {"step": step}}))


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["manifest.json", "state.json", "weights.safetensors"])
def test_whatever_is_damaged_of_a_checkpoint_the_one_before_is_used(tmp_path: Path, name: str, how: str) -> None:
    """Deeply nested JSON too, which Python's reader answers with an error of its own kind."""
    if how == "key renamed" and not name.endswith(".json"):
        return
    older, newer = written(tmp_path, 3), written(tmp_path, 7)
    assert newest_good(tmp_path) == (newer, [])
    DAMAGES[how](newer / name, CHANCE)
    with pytest.raises(CheckpointError, match="step-00000007") as error:
        verify(newer)
    assert "\n" not in str(error.value)
    with pytest.warns(UserWarning, match="step-00000003 is used instead"):
        assert newest_good(tmp_path) == (older, [newer])


@pytest.mark.parametrize("name", ["../../evil", "../../dev/zero", "/dev/zero", "..", "a/b", ""])
def test_a_manifest_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path, 3)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = {"size": 1, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(with_checksum(manifest)))
    with pytest.raises(CheckpointError, match="allowed: a plain file name"):
        verify(folder)


def test_what_a_manifest_names_is_a_regular_file(tmp_path: Path) -> None:
    folder = written(tmp_path, 3)
    (folder / "weights.safetensors").unlink()
    (folder / "weights.safetensors").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="no regular file"):
        verify(folder)


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", ".."])
def test_a_plan_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    document = {"version": VERSION, "settings": {"runs": {name: {}}, "options": {}, "images": {}}}
    (tmp_path / "plan.json").write_text(json.dumps(with_checksum(document)))
    with pytest.raises(ResultError, match="allowed: a plain file name"):
        Plan.of(tmp_path)


@pytest.mark.parametrize("how", [how for how in DAMAGES if how != "key renamed"])
def test_a_damaged_snapshot_is_named(tmp_path: Path, how: str) -> None:
    write_snapshots(tmp_path, [{"gamma": 6.94, "steps": n, "weights": WEIGHTS} for n in (2, 4)])
    assert len(load_snapshots(tmp_path)) == 2
    path = sorted((tmp_path / "snapshots").iterdir())[1]
    DAMAGES[how](path, CHANCE)
    for reads in (lambda: load_snapshots(tmp_path), lambda: snapshot_place(path)):
        with pytest.raises(ValueError, match=path.name) as error:
            reads()
        assert "\n" not in str(error.value)
