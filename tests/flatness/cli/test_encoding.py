"""What a pipeline's own parts encode: shown, gone on with where it stopped, and let go before anything is measured."""

from __future__ import annotations

import json
import weakref
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flatness.cli import encoding, runner
from flatness.cli.command import run
from flatness.optional_imports import imported_diffusers
from tests.flatness.cli.tiny_pipelines import SIZE, autoencoder, built, clip, clip_tokenizer, conditioned_unet
from tests.flatness.measures_common import LiveBytes

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers and transformers
IMAGES = 9
FAST = ["--images", str(IMAGES), "--draws", "2", "--scales", "filter", "--curve-rms", "--bits", "8", "--steps",
        "--no-readout", "--device", "cpu"]  # fmt: skip


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    pytest.importorskip("transformers")
    installed = imported_diffusers()
    return installed if installed is not None else pytest.skip("diffusers is not installed")


@pytest.fixture(scope="module")
def folder(diffusers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text-to-image pipeline."""
    return built("stable_diffusion", diffusers, tmp_path_factory.mktemp("encoding") / "pipeline")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each with a caption of its own."""
    place = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for n in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (2 * SIZE, 2 * SIZE, 3), dtype=np.uint8)).save(place / f"{n}.png")
        (place / f"{n}.txt").write_text(f"a red cat {'abcdefghi'[n]}")
    return place


def numbers(out: Path) -> Any:
    """What was measured."""
    return next(iter(json.loads((out / "measure.json").read_text())["sources"].values()))["numbers"]


def test_encoders_are_let_go_before_anything_is_measured(
    folder: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def noted(function: Any) -> Any:
        def load(*arguments: Any) -> Any:
            part = function(*arguments)
            parts.append(weakref.ref(part))
            return part

        return load

    def measured(*arguments: Any) -> Any:
        alive.append(sum(part() is not None for part in parts))
        return take(*arguments)

    take = runner.measured
    monkeypatch.setattr(encoding, "diffusers_part", noted(encoding.diffusers_part))
    monkeypatch.setattr(encoding, "_text_part", noted(encoding._text_part))
    monkeypatch.setattr(runner, "measured", measured)
    assert run(["measure", str(folder), "--data", str(images), *FAST]) == 0
    assert len(parts) == 3  # text encoder, tokenizer, autoencoder
    assert alive == [0]


def test_a_command_holds_the_networks_weights_twice_at_most(
    diffusers: ModuleType, images: Path, tmp_path: Path
) -> None:
    """The network and the copy that weights are put back from: the largest of its encoders' is a sixth of it."""
    torch.manual_seed(0)
    network = conditioned_unet(diffusers, 8, block_out_channels=(32, 64))
    scheduler = diffusers.DDIMScheduler()
    tokenizer = clip_tokenizer(tmp_path / "own")
    diffusers.StableDiffusionPipeline(
        autoencoder(diffusers), clip(), tokenizer, network, scheduler, None, None, requires_safety_checker=False
    ).save_pretrained(tmp_path / "p")
    weights = 4 * sum(p.numel() for p in network.parameters())
    with LiveBytes() as live:
        assert run(["measure", str(tmp_path / "p"), "--data", str(images), *FAST, "--batch-size", "1"]) == 0
    assert 2 * weights <= live.most <= 2.3 * weights  # a few tensors and one image's activations beside them


def test_encoding_goes_on_where_it_stopped_and_is_shown(
    folder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["measure", str(folder), "--data", str(images), *FAST, "--out"]
    assert run([*line, str(tmp_path / "whole")]) == 0
    assert f"pipeline: encoding images and captions (0/{IMAGES} passes)" in capsys.readouterr().err
    encode, embed = encoding._posterior, encoding.Encoder._text_pipeline
    sizes: list[int] = []
    pipelines: list[int] = []

    def interrupted(model: Any, x: Any, generators: Any) -> Any:
        if sizes:
            raise KeyboardInterrupt
        return counted(model, x, generators)

    def counted(model: Any, x: Any, generators: Any) -> Any:
        sizes.append(len(x))
        return encode(model, x, generators)

    def made(*arguments: Any) -> Any:
        pipelines.append(1)
        return embed(*arguments)

    monkeypatch.setattr(encoding, "_posterior", interrupted)
    monkeypatch.setattr(encoding.Encoder, "_text_pipeline", made)
    assert run([*line, str(tmp_path / "parts")]) == 130
    assert "error: interrupted" in capsys.readouterr().err
    assert (sizes, pipelines) == ([encoding.CHUNK], [1])
    sizes.clear()
    monkeypatch.setattr(encoding, "_posterior", counted)
    assert run([*line, str(tmp_path / "parts")]) == 0
    assert sum(sizes) == IMAGES - encoding.CHUNK
    assert pipelines == [1]  # captions were done
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    for file in (tmp_path / "parts" / "encoded").iterdir():  # damaged ones are made anew
        file.write_bytes(file.read_bytes()[:-5])
    sizes.clear()
    assert run([*line, str(tmp_path / "parts")]) == 0
    assert sum(sizes) == IMAGES
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
