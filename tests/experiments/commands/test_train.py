"""`train` as a person runs it: on small images, to its end, stopped and resumed, and what its folder then holds."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import data
from experiments.__main__ import main
from experiments.data import Images
from tests.experiments.training.small_runs import stored

WORDS = [
    "train",
    "--config",
    "fashion-mnist-tiny",
    "--method",
    "sam",
    "--rho",
    "0.05",
    "--steps",
    "6",
    "--global-batch",
    "8",
    "--image-size",
    "4",
    "--channel-mult",
    "1",
    "--attention-resolutions",
    "--process.steps",
    "20",
    "--log-every",
    "2",
    "--sample-every",
    "4",
    "--checkpoint-every",
    "3",
    "--swa-cycle",
    "1",
    "--device",
    "cpu",
]


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the data set's, of the size that the network asks for."""

    def load(name: str, split: str, image_size: int, root: Any) -> Images:
        generator = torch.Generator().manual_seed(data.SPLITS.index(split))
        pixels = torch.randint(256, (24, 1, image_size, image_size), generator=generator, dtype=torch.uint8)
        return Images(pixels, name, split, "sha256:" + "0" * 64)

    monkeypatch.setattr(data, "load", load)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main([*WORDS, "--out", str(out)]) == 0
    assert [(line["kind"], line["step"]) for line in lines(out)] == [
        ("held_out", 0), ("train", 2), ("train", 4), ("held_out", 4), ("train", 6), ("held_out", 6),
    ]  # fmt: skip
    assert sorted(path.name for path in (out / "samples").iterdir()) == ["step-00000004.png", "step-00000006.png"]
    assert list((out / "tensorboard").iterdir())
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"fashion-mnist sam: from the start, to step 6, in {out}" in shown.err
    assert "step 4/6  loss " in shown.err
    assert "step 6: checkpoint" in shown.err


def test_stopped_and_resumed_it_is_the_same_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*WORDS, "--out", str(whole)]) == 0
    assert main([*WORDS, "--out", str(parts), "--until", "4"]) == 0
    assert "stopped after step 4 of 6" in capsys.readouterr().err
    assert main([*WORDS, "--out", str(parts)]) == 0
    assert "resumed after step 4, to step 6" in capsys.readouterr().err
    assert stored(parts, 6) == stored(whole, 6)
    assert (parts / "samples/step-00000006.png").read_bytes() == (whole / "samples/step-00000006.png").read_bytes()
    timing = ("images_per_second", "share_waiting_for_data", "checksum")  # which is of the timing too
    ours, theirs = (
        [{k: v for k, v in line.items() if k not in timing} for line in lines(out)] for out in (parts, whole)
    )
    assert ours == theirs
    # Once more, at its end or with a step that is past: nothing to do, nothing changed
    before = lines(parts)
    assert main([*WORDS, "--out", str(parts)]) == 0
    assert main([*WORDS, "--out", str(parts), "--until", "2"]) == 0
    assert "resumed after step 6, which is beyond --until 2: nothing is done" in " ".join(
        capsys.readouterr().err.split()
    )
    assert lines(parts) == before


def test_a_run_without_swa_weights_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*WORDS, "--out", str(tmp_path / "run"), "--until", "1"]) == 0
    assert "no SWA weights" not in capsys.readouterr().err
    assert main([*WORDS, "--swa-cycle", "7", "--out", str(tmp_path / "other"), "--until", "1"]) == 0
    assert capsys.readouterr().err.startswith("note: no multiple of --swa-cycle")


def test_another_configuration_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main([*WORDS, "--out", str(out), "--until", "2"]) == 0
    before = lines(out)
    capsys.readouterr()
    assert main([*WORDS, "--out", str(out), "--rho", "0.5"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "sam.rho: 0.05, 0.5" in error
    assert lines(out) == before


def test_a_dry_run_says_it_all_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    assert main([*WORDS, "--dry-run", "--sam-schedule", "every-k", "--every", "3"]) == 0
    assert not list(tmp_path.iterdir())
    shown = capsys.readouterr().out
    for text in (
        "Configuration: fashion-mnist-tiny", "0.05  (not the preset)", "1.333 passes each", "33% of the steps perturb",
        "1, each with 8 images a step in micro-batches of 8", "SAM's copy of the weights", "multiply-add = 2",
        "counted, not measured", "float32: forward and backward of 8 images in", "for 6 steps",
        "of it is the initial weights after 6 steps of decay 0.995; the run is too short for it",
    ):  # fmt: skip
        assert text in shown
    assert main([*WORDS, "--dry-run", "--ema-start", "0.5", "--ema-warmup", "0.75"]) == 0
    assert "0.00% of it is the weights of step 3 after 6 steps of decay 0.995, rising by" in capsys.readouterr().out
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*WORDS, "--dry-run"]) == 0
    assert "2, each with 4 images a step in micro-batches of 4" in capsys.readouterr().out
    monkeypatch.setenv("RANK", "1")
    assert main([*WORDS, "--dry-run"]) == 0
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main([*WORDS, "--dry-run"]) == 1
    assert capsys.readouterr().err == "error: global_batch is 8; allowed: a multiple of the number of ranks, 3\n"
