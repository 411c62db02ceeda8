"""A folder of samples: files that are whole, continued after an interruption to the same bytes."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.sampling import run as sampling_run
from experiments.sampling.chains import Samples, generate, to_uint8
from experiments.sampling.run import Source, load_source
from findings.checksums import read_json
from findings.files import BESIDE
from tests.experiments.sampling.sampled_runs import SETTINGS, SHARDS, contents, made, read, timeless, trained


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


def test_the_folder_holds_what_generate_gives(run: Path, whole: Path) -> None:
    source = load_source(run, "ema")
    expected = []
    for shard in (range(8), range(8, 16), range(16, 22)):
        batches = generate(source.network(SETTINGS), source.configuration.process, shard, steps=4, batch_size=5)
        expected += [to_uint8(batch.images).permute(0, 2, 3, 1) for batch in batches]
    images = read(whole)
    assert images.dtype == np.uint8
    assert images.shape == (22, 4, 4, 1)
    assert np.array_equal(images, torch.cat(expected).numpy())
    assert len(np.unique(images)) > 50, "the images are all but blank"
    assert sorted(contents(whole)) == sorted(
        ["settings.json", "samples.json", "samples.npz", "grid.png"]
        + [f"shards/{name}.{suffix}" for name in SHARDS for suffix in ("json", "safetensors")]
    )


def test_the_npz_is_what_numpy_writes(whole: Path, tmp_path: Path) -> None:
    """So that whatever reads numpy's archives as a stream, as the public evaluator does, reads ours."""
    np.savez(tmp_path / "numpy.npz", read(whole))
    with zipfile.ZipFile(whole / "samples.npz") as ours, zipfile.ZipFile(tmp_path / "numpy.npz") as theirs:
        assert ours.namelist() == theirs.namelist() == ["arr_0.npy"]
        assert ours.read("arr_0.npy") == theirs.read("arr_0.npy")
        with ours.open("arr_0.npy") as stream:
            assert np.lib.format.read_magic(stream) == (1, 0)


def test_the_grid_shows_the_first_images_row_by_row(whole: Path) -> None:
    sheet = np.asarray(Image.open(io.BytesIO((whole / "grid.png").read_bytes())))
    images = read(whole)[..., 0]
    assert sheet.shape == (3 * 4 + 2 * 2, 8 * 4 + 7 * 2)
    assert np.array_equal(sheet[:4, :4], images[0])
    assert np.array_equal(sheet[12:, 30:34], images[21])


def test_the_result_says_what_it_was_made_from(run: Path, whole: Path) -> None:
    document = json.loads((whole / "samples.json").read_bytes())
    settings = read_json(whole / "settings.json")
    assert document["settings"] == settings
    assert (settings["steps"], settings["sampler"], settings["bits"], settings["average"]) == (4, "ddpm", 32, "ema")
    assert settings["run"]["step"] == 12
    assert settings["run"]["configuration"] == read_json(run / "configuration.json")
    assert document["shape"] == [22, 4, 4, 1]
    assert document["provenance"]["versions"]["torch"] == torch.__version__
    assert [(entry["batch_size"], entry["device"][:3]) for entry in document["made_with"]] == [(5, "cpu")]
    times = [json.loads((whole / f"shards/{name}.json").read_bytes())["seconds"] for name in SHARDS]
    assert document["device_seconds"] == pytest.approx(sum(times))
    assert document["images_per_second_and_device"] == pytest.approx(22 / sum(times))


@pytest.mark.parametrize("images_before", [0, 5, 10, 16])
def test_an_interrupted_call_goes_on_to_the_same_files(
    run: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images_before: int
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> Iterator[Samples]:
        for batch in generate(*arguments, **options):
            if int(batch.indices[0]) >= images_before:
                raise KeyboardInterrupt
            yield batch

    out = tmp_path / "samples"
    with monkeypatch.context() as patch:
        patch.setattr(sampling_run, "generate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made(out, run)
    assert not (out / "samples.npz").exists()
    outcome = made(out, run)
    assert outcome.there == {0: 0, 5: 0, 10: 8, 16: 16}[images_before]
    assert outcome.made == 22 - outcome.there
    assert timeless(out) == timeless(whole)


def test_a_write_that_fails_leaves_no_file_and_can_be_made_good(
    run: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file in turn: the disk is full when it is to take its place."""
    out, replace = tmp_path / "samples", os.replace
    for name in ("settings.json", "samples-00008-00015.safetensors", "samples.npz", "grid.png", "samples.json"):

        def full(source: Path, target: Path, name: str = name) -> None:
            if name in Path(target).name:
                raise OSError(28, "No space left on device")
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(OSError, match="No space left"):
                made(out, run)
        assert not [path for path in contents(out) if name in path]
    made(out, run)
    assert timeless(out) == timeless(whole)


def test_processes_that_share_the_work_give_the_same_files(run: Path, whole: Path, tmp_path: Path) -> None:
    outcomes = [made(tmp_path / "out", run, part=part, parts=2) for part in (1, 0)]
    assert [(outcome.made, outcome.missing) for outcome in outcomes] == [(8, 14), (14, 0)]
    assert outcomes[0].result is None
    assert outcomes[1].result is not None
    assert timeless(tmp_path / "out") == timeless(whole)


def test_another_batch_size_may_finish_and_is_recorded(run: Path, whole: Path, tmp_path: Path) -> None:
    made(tmp_path / "out", run, part=0, parts=2)
    outcome = made(tmp_path / "out", run, batch_size=3)
    assert outcome.result is not None
    assert [entry["batch_size"] for entry in outcome.result["made_with"]] == [5, 3]
    # Rounding moves some pixels to the next level
    assert np.abs(read(tmp_path / "out").astype(int) - read(whole).astype(int)).max() <= 1


def test_what_is_finished_is_left_alone(run: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Source, "network")
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    outcome = made(whole, run)
    assert (outcome.made, outcome.there, outcome.missing) == (0, 22, 0)
    assert outcome.result is not None
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_what_was_lost_or_damaged_is_made_again(run: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples"
    for lost in ("samples.npz", "grid.png", "samples.json", "shards"):
        shutil.copytree(whole, out)
        shutil.rmtree(out / lost) if lost == "shards" else (out / lost).unlink()
        # Without its shards a finished folder is finished
        assert made(out, run).made == 0
        assert lost == "shards" or timeless(out) == timeless(whole)
        shutil.rmtree(out)
    shutil.copytree(whole, out)
    (out / "samples.npz").write_bytes(b"not what was written")
    cut, flipped = (out / f"shards/{name}.safetensors" for name in SHARDS[1:])
    cut.write_bytes(cut.read_bytes()[:-1])
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    leftovers = [out / f"{BESIDE}samples.npz.1-a", out / f"shards/{BESIDE}{SHARDS[0]}.safetensors.1-a"]
    for path in leftovers:
        path.write_bytes(b"half")
    with pytest.warns(UserWarning, match="is damaged and made anew") as warned:
        assert made(out, run).made == 14
    for path in (cut, flipped):
        assert any(f"{path.name} is damaged and made anew" in str(one.message) for one in warned)
    assert timeless(out) == timeless(whole)
    assert not any(path.exists() for path in leftovers)
