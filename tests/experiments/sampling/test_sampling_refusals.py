"""What is not sampled, or not into that folder: an error says why, and nothing is written or changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.sampling import run as sampling_run
from experiments.sampling.chains import Samples, generate
from experiments.sampling.run import load_source
from experiments.training.checkpoints import CheckpointError
from findings.checksums import with_checksum
from flatness import quantize_weights
from tests.experiments.sampling.sampled_runs import SETTINGS, SHARDS, changed, contents, made, trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps."""
    return trained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its samples, made in one go."""
    out = tmp_path_factory.mktemp("samples") / "whole"
    made(out, run)
    return out


@pytest.mark.parametrize(
    "change",
    [{"images": 23}, {"average": "raw"}, {"bits": 8}, {"steps": 5}, {"sampler": "ddim"}, {"seed": 1}, {"clip": False},
     {"shard_size": 9}, {"precision": "bfloat16"}],
)  # fmt: skip
def test_other_settings_are_refused_and_nothing_is_changed(run: Path, whole: Path, change: dict[str, Any]) -> None:
    before = contents(whole)
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=rf"other settings; take another folder\.\n.*\n{name}: .*, {value!r}$"):
        made(whole, run, changed(**change))
    assert contents(whole) == before


def test_a_run_that_went_on_is_another_one(run: Path, whole: Path) -> None:
    older = run / "checkpoints/step-00000008"
    with pytest.raises(ValueError, match=r"run\.step: 12, 8\nrun\.manifest_sha256: "):
        made(whole, older)


def test_a_folder_that_holds_something_else_is_refused(run: Path, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"holds thesis\.tex but no settings\.json"):
        made(tmp_path, run)
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}
    with pytest.raises(ValueError, match="which is a file"):
        made(tmp_path / "thesis.tex", run)
    before = contents(run)
    with pytest.raises(ValueError, match=r"but no settings\.json"):
        made(run, run)
    assert contents(run) == before
    shutil.copytree(whole, tmp_path / "newer")
    stored = json.loads((tmp_path / "newer/settings.json").read_bytes())
    (tmp_path / "newer/settings.json").write_text(json.dumps(with_checksum({**stored, "format": 2})))
    with pytest.raises(ValueError, match="holds the format 2; allowed: 1"):
        made(tmp_path / "newer", run)
    (tmp_path / "newer/settings.json").write_text("{")
    with pytest.raises(ValueError, match="holds nothing that can be read"):
        made(tmp_path / "newer", run)


def test_a_shard_from_elsewhere_is_refused(run: Path, whole: Path, tmp_path: Path) -> None:
    made(tmp_path / "other", run, changed(seed=1))
    shutil.copytree(whole, tmp_path / "mixed")
    (tmp_path / "mixed/samples.json").unlink()
    name = f"shards/{SHARDS[1]}.safetensors"
    shutil.copy(tmp_path / "other" / name, tmp_path / "mixed" / name)
    with pytest.raises(ValueError, match=r"is of other settings than settings\.json says"):
        made(tmp_path / "mixed", run)


def test_runs_that_cannot_be_read_are_named_and_no_folder_is_made(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CheckpointError, match="is no folder"):
        made(out, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        made(out, tmp_path / "empty")
    with pytest.raises(ValueError, match="average is 'sma'; allowed: one of 'raw', 'ema'"):
        made(out, run, changed(average="sma"))
    with pytest.raises(ValueError, match="steps is 13; allowed: at most the 12 steps"):
        made(out, run, changed(steps=13))
    with pytest.raises(ValueError, match="batch_size is 0"):
        made(out, run, batch_size=0)
    with pytest.raises(ValueError, match="part is 2; allowed: a whole number below parts, 2"):
        made(out, run, part=2, parts=2)
    for name, file, data, message in (
        ("torn", "shadow-ema.safetensors", b"half", "bytes; .* were written"),
        ("newer", "manifest.json", b'{"format": 99, "files": {}}', "format 99"),
        ("older", "configuration.json", b'{"version": 0}', "configuration.json has"),
    ):
        checkpoint = tmp_path / name
        shutil.copytree(run / "checkpoints/step-00000012", checkpoint)
        (checkpoint / file).write_bytes(data)
        with pytest.raises(CheckpointError, match=message):
            made(out, checkpoint)
    assert not out.exists()


def test_images_that_are_not_finite_are_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> Iterator[Samples]:
        for batch in generate(*arguments, **options):
            batch.images[batch.indices == 9] = float("nan")
            yield batch

    monkeypatch.setattr(sampling_run, "generate", broken)
    with pytest.raises(FloatingPointError, match="the first of them number 9"):
        made(tmp_path / "out", run)
    assert [path.name for path in (tmp_path / "out/shards").glob("*.safetensors")] == [f"{SHARDS[0]}.safetensors"]


def test_averages_and_bits_are_those_asked_for(run: Path) -> None:
    source = load_source(run, "swa")
    assert not torch.equal(source.weights["out.2.weight"], load_source(run, "raw").weights["out.2.weight"])
    usual = source.network(SETTINGS)
    assert not usual.training
    assert torch.equal(usual.state_dict()["out.2.weight"], source.weights["out.2.weight"])
    for settings in (changed(bits=4), changed(bits=8, granularity="channel", scheme="minmax")):
        weights = source.network(settings).state_dict()
        expected = quantize_weights(
            usual, settings.bits, granularity=settings.granularity, scheme=settings.scheme
        ).state_dict()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        assert not torch.equal(weights["out.2.weight"], source.weights["out.2.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "images is 0"),
        ({"bits": 1}, "bits is 1; allowed: 32, or a whole number from 2 to 16"),
        ({"bits": 24}, "bits is 24"),
        ({"granularity": "row"}, "granularity is 'row'"),
        ({"scheme": "minmax"}, "scheme is 'minmax'; allowed: 'symmetric' with 32 bits"),
        ({"shard_size": 0}, "shard_size is 0"),
        ({"average": None}, "average is None"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(**change)
