"""`python -m experiments sample`: its options, several processes, a kill, and what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from experiments.__main__ import main
from experiments.commands import sample
from tests.experiments.sampling.sampled_runs import contents, timeless, trained

TIMEOUT = 120


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of twelve steps."""
    return trained(tmp_path_factory.mktemp("run"))


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


def words(run: Path, out: Path, *more: str, images: int = 20) -> list[str]:
    """A command line with small numbers."""
    usual = f"--images {images} --steps 6 --shard-size 4 --batch-size 4 --device cpu".split()
    return ["sample", str(run), "--out", str(out), *usual, *more]


def test_it_samples_then_says_that_it_is_done(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    of_weights = ["--average", "swa", "--bits", "4", "--granularity", "channel"]
    options = [*of_weights, "--sampler", "ddim", "--eta", "0.5", "--seed", "3", "--no-clip"]
    assert main(words(run, out, *options)) == 0
    printed = capsys.readouterr().err
    assert "fashion-mnist adm after step 12, swa, 4 bits: 20 images, ddim, 6 steps, seed 3, on cpu" in printed
    assert "samples.npz, grid.png and samples.json of 20 images" in printed
    settings = json.loads((out / "settings.json").read_bytes())
    expected: dict[str, Any] = {
        "average": "swa", "sampler": "ddim", "eta": 0.5, "bits": 4, "granularity": "channel", "scheme": "symmetric",
        "seed": 3, "clip": False, "images": 20, "steps": 6, "shard_size": 4, "precision": "float32",
    }  # fmt: skip
    assert {name: settings[name] for name in expected} == expected
    before = contents(out)
    assert main(words(run, out, *options)) == 0
    assert "is finished: all 20 images are there, and none was made" in capsys.readouterr().err
    assert contents(out) == before


def test_other_options_in_the_same_folder_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(run, tmp_path / "out")) == 0
    before = contents(tmp_path / "out")
    capsys.readouterr()
    assert main(words(run, tmp_path / "out", "--bits", "8")) == 1
    assert "field: there, asked for now\nbits: 32, 8" in capsys.readouterr().err
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--bits", "24"], "bits is 24; allowed: 32, or a whole number from 2 to 16"),
        (["--eta", "0.5"], "eta is 0.5; allowed with --sampler ddim"),
        (["--sampler", "euler"], "invalid choice: 'euler'"),
        (["--images", "0"], "images is 0"),
        (["--batch-size", "0"], "batch_size is 0"),
        (["--shard", "2/2"], "shard is '2/2'; allowed: K/N"),
        (["--shard", "1"], "shard is '1'; allowed: K/N"),
    ],
)
def test_options_that_are_not_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words(tmp_path, tmp_path / "out", *given))
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(tmp_path / "nowhere", tmp_path / "out")) == 1
    assert (
        capsys.readouterr().err == f"error: {tmp_path / 'nowhere'} is no folder; allowed: a run's, or a checkpoint's\n"
    )
    assert not (tmp_path / "out").exists()


def test_shards_and_torchruns_ranks_share_the_work(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(run, tmp_path / "whole")) == 0
    assert main(words(run, tmp_path / "parts", "--shard", "1/2")) == 0
    assert "this process's 8 images are there; 12 of other processes are missing" in capsys.readouterr().err
    assert main(words(run, tmp_path / "parts", "--shard", "0/2")) == 0
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "whole")
    for rank in (2, 0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        assert main(words(run, tmp_path / "ranks")) == 0
    assert timeless(tmp_path / "ranks") == timeless(tmp_path / "whole")
    monkeypatch.setenv("RANK", "0")  # the others leave the first one time to say what is wrong
    with pytest.raises(SystemExit):
        main(words(run, tmp_path / "ranks", "--shard", "0/2"))
    assert "allowed: none where torchrun has started 3 processes" in capsys.readouterr().err


def test_killed_it_goes_on_to_the_same_files(run: Path, tmp_path: Path) -> None:
    """With SIGKILL, once a shard is there and long before the last."""
    out, images = tmp_path / "killed", 240
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "experiments", *words(run, out, images=images)]
    root = Path(sample.__file__).parents[2]
    process = subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not list(out.glob("shards/*.safetensors")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert 0 < len(list(out.glob("shards/*.safetensors"))) < 60
    assert not (out / "samples.json").exists()
    assert main(words(run, out, images=images)) == 0
    assert main(words(run, tmp_path / "whole", images=images)) == 0
    assert timeless(out) == timeless(tmp_path / "whole")
