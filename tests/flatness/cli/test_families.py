"""Each family is measured from its pipeline's folder, twice to the same bits, its loss held against diffusers' parts.

The other side of the comparison is a pipeline that diffusers itself loads: its autoencoder, encode_prompt, scheduler
and network, put together here as its training scripts do.
"""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from flatness.cli import encoding
from flatness.cli.command import run
from flatness.diffusion.losses import Batch, fixed_batches
from flatness.optional_imports import imported_diffusers
from flatness.weights import derived_seed
from tests.flatness.cli.tiny_pipelines import CAPTIONED, LATENTS, PIXELS, SIZE, built

pytestmark = pytest.mark.filterwarnings("ignore")  # of diffusers and transformers, on this side of the comparison
SHORT = ["--images", "4", "--draws", "2", "--scales", "absolute", "--curve-rms", "--device", "cpu"]
FAST = [*SHORT, "--bits", "8", "--steps", "3", "--exposure-images", "2"]
ALL = {**PIXELS, **LATENTS, **CAPTIONED}
Folders = dict[str, Path]


@pytest.fixture(scope="module")
def diffusers() -> ModuleType:
    installed = imported_diffusers()
    return installed if installed is not None else pytest.skip("diffusers is not installed")


@pytest.fixture(scope="module")
def folders(diffusers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Built when they are asked for."""
    return _Built(diffusers, tmp_path_factory.mktemp("families"))


class _Built(dict[str, Path]):
    def __init__(self, diffusers: ModuleType, root: Path) -> None:
        super().__init__()
        self.diffusers, self.root = diffusers, root

    def __missing__(self, name: str) -> Path:
        if name in CAPTIONED:
            pytest.importorskip("transformers")
        self[name] = built(name, self.diffusers, self.root / name)
        return self[name]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour images in folders of their classes, with captions beside them, of which two are alike."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for n, caption in enumerate(["a red cat", "a blue dog", "a red cat", "a dog", "a cat"]):
        place = folder / str(n % 3)
        place.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (2 * SIZE, 2 * SIZE, 3), dtype=np.uint8)).save(place / f"{n}.png")
        (place / f"{n}.txt").write_text(caption)
    return folder


def words(name: str, folder: Path, images: Path, out: Path, what: list[str] = FAST) -> list[str]:
    """The command line."""
    size = ["--resize", str(2 * SIZE)] if name == "flux" else []
    return ["measure", str(folder), "--data", str(images), *what, *size, "--out", str(out)]


def result(out: Path) -> Any:
    """What was written, without durations."""
    written = json.loads((out / "measure.json").read_text())
    for source in written["sources"].values():
        del source["seconds"]
    return written


@pytest.mark.parametrize("name", ALL)
def test_a_folder_is_measured_twice_to_the_same_bits_and_encoded_once(
    name: str, folders: Folders, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    folder = folders[name]
    assert run(words(name, folder, images, tmp_path / "a")) == 0, capsys.readouterr().err
    first = result(tmp_path / "a")
    assert run(words(name, folder, images, tmp_path / "b")) == 0
    assert result(tmp_path / "b") == first
    ((_, source),) = first["sources"].items()
    assert source["numbers"]["lpf-absolute.rise"]["value"] != 0
    left_out = {key for key, value in source["measures"].items() if "left out" in value}
    assert ("exposure-3" in left_out) == (name in ("consistency", "latent_consistency"))
    assert "failed" not in json.dumps(source["measures"])
    if name in PIXELS:
        assert not (tmp_path / "a" / "encoded").exists()
        return

    def again(*arguments: object) -> None:
        raise AssertionError("something was encoded once more")

    monkeypatch.setattr(encoding, "diffusers_part", again)
    monkeypatch.setattr(encoding, "_text_part", again)
    assert run(words(name, folder, images, tmp_path / "a")) == 0
    assert result(tmp_path / "a") == first


def latents_of(pipeline: Any, x: Tensor) -> Tensor:
    """As training scripts make them, with the draws that are documented."""
    if hasattr(pipeline, "vqvae"):
        return pipeline.vqvae.encode(x).latents * pipeline.vqvae.config.scaling_factor
    vae = pipeline.vae
    if type(vae).__name__ == "AutoencoderDC":
        return vae.encode(x).latent * vae.config.scaling_factor
    posterior = vae.encode(x).latent_dist
    seeds = [derived_seed("autoencoder", 0, n) for n in range(len(x))]
    shape = posterior.mean.shape[1:]
    noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    z = posterior.mean + posterior.std * noise
    if vae.config.latents_mean is not None:
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
        return (z - mean) * vae.config.scaling_factor / std
    return (z - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def predicted(name: str, pipeline: Any, x_t: Tensor, t: Tensor, captions: list[str], labels: Tensor) -> Tensor:
    """The network's output, called as its pipeline calls it."""
    if name == "ldm":
        return pipeline.unet(x_t, t).sample
    if name == "dit":
        return pipeline.transformer(x_t, timestep=t, class_labels=labels).sample.chunk(2, 1)[0]
    if name == "pixart":
        embeds, mask, *_ = pipeline.encode_prompt(captions, do_classifier_free_guidance=False)
        size = torch.tensor([[2.0 * SIZE, 2.0 * SIZE]]).repeat(len(x_t), 1)
        added = {"resolution": size, "aspect_ratio": torch.ones(len(x_t), 1)}
        output = pipeline.transformer(
            x_t, encoder_hidden_states=embeds, encoder_attention_mask=mask, timestep=t, added_cond_kwargs=added
        ).sample
        return output.chunk(2, 1)[0]
    if name == "stable_diffusion":
        embeds, _ = pipeline.encode_prompt(captions, "cpu", 1, False)
        return pipeline.unet(x_t, t, encoder_hidden_states=embeds).sample
    if name == "latent_consistency":
        embeds, _ = pipeline.encode_prompt(captions, "cpu", 1, False)
        strength = pipeline.get_guidance_scale_embedding(torch.ones(len(x_t)) - 1, 6)
        return pipeline.unet(x_t, t, encoder_hidden_states=embeds, timestep_cond=strength).sample
    if name == "stable_diffusion_xl":
        embeds, _, pooled, _ = pipeline.encode_prompt(captions, do_classifier_free_guidance=False)
        side = float(2 * SIZE)
        added = {"text_embeds": pooled, "time_ids": torch.tensor([[side, side, 0, 0, side, side]]).repeat(len(x_t), 1)}
        return pipeline.unet(x_t, t, encoder_hidden_states=embeds, added_cond_kwargs=added).sample
    if name == "stable_diffusion_3":
        embeds, _, pooled, _ = pipeline.encode_prompt(captions, None, None, do_classifier_free_guidance=False)
        return pipeline.transformer(x_t, encoder_hidden_states=embeds, pooled_projections=pooled, timestep=t).sample
    if name == "sana":
        instruction = inspect.signature(pipeline.__call__).parameters["complex_human_instruction"].default
        assert len(instruction) > 5
        embeds, mask, *_ = pipeline.encode_prompt(captions, False, complex_human_instruction=instruction)
        return pipeline.transformer(
            x_t, encoder_hidden_states=embeds, encoder_attention_mask=mask, timestep=0.5 * t
        ).sample  # fmt: skip
    embeds, pooled, text_ids = pipeline.encode_prompt(captions, None)
    tokens = pipeline._pack_latents(x_t, len(x_t), 4, SIZE, SIZE)
    ids = pipeline._prepare_latent_image_ids(1, SIZE // 2, SIZE // 2, "cpu", x_t.dtype)
    output = pipeline.transformer(
        tokens, encoder_hidden_states=embeds, pooled_projections=pooled, timestep=t / 1000, img_ids=ids,
        txt_ids=text_ids, guidance=torch.ones(len(x_t)),
    ).sample  # fmt: skip
    return pipeline._unpack_latents(output, 2 * SIZE, 2 * SIZE, 2)


@pytest.mark.parametrize("name", [*LATENTS, *CAPTIONED])
@torch.no_grad()
def test_the_loss_is_that_of_diffusers_parts_and_scheduler(
    name: str, folders: Folders, images: Path, diffusers: ModuleType, tmp_path: Path
) -> None:
    alone = [*SHORT, "--steps", "--bits", "--no-readout"]
    assert run(words(name, folders[name], images, tmp_path, alone)) == 0
    measured = next(iter(result(tmp_path)["sources"].values()))["numbers"]["loss"]["parts"][0]["by_sample"]
    paths = sorted(images.rglob("*.png"))
    chosen = torch.randperm(5, generator=torch.Generator().manual_seed(derived_seed("samples", 0)))[:4].tolist()
    pixels = np.stack([np.asarray(Image.open(paths[n])) for n in chosen])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    captions = [paths[n].with_suffix(".txt").read_text() for n in chosen]
    labels = torch.tensor([int(paths[n].parent.name) for n in chosen])
    loader = getattr(diffusers, json.loads((folders[name] / "model_index.json").read_text())["_class_name"])
    pipeline = loader.from_pretrained(folders[name])
    latents = latents_of(pipeline, x)
    batch: Batch = fixed_batches(latents, batch_size=4, seed=0)[0]
    assert batch.noise is not None
    assert batch.u is not None
    noise, scheduler = batch.noise, pipeline.scheduler
    if name in ("stable_diffusion_3", "flux", "sana"):
        s = 3.0
        if name == "flux":  # exp of the line through (256, 0.5) and (4096, 1.15), at four tokens
            s = float(np.exp(0.5 + 0.65 * (4 - 256) / 3840))
        sigma = s * batch.u / (1 + (s - 1) * batch.u)
        t = (1000 * sigma).float()
        wide = sigma.float().view(-1, 1, 1, 1)
        noised, target = (1 - wide) * latents + wide * noise, noise - latents
    else:
        t = (batch.u * scheduler.config.num_train_timesteps).long()
        plain = diffusers.DDPMScheduler.from_config(scheduler.config)
        noised = plain.add_noise(latents, noise, t)
        target = plain.get_velocity(latents, noise, t) if name == "stable_diffusion" else noise
    output = predicted(name, pipeline, noised, t, captions, labels)
    expected = (output - target).square().flatten(1).mean(1)
    # float32 through encoders and network, in batches of other sizes
    assert torch.allclose(torch.tensor(measured), expected, rtol=2e-4), (measured, expected.tolist())


def test_latents_and_embeddings_made_before_are_taken_as_such(
    folders: Folders, images: Path, diffusers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline = diffusers.DiTPipeline.from_pretrained(folders["dit"])
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(5, 4, SIZE, SIZE)).astype(np.float32)
    losses = {}
    for kind, values in {"raw": raw, "scaled": raw * pipeline.vae.config.scaling_factor}.items():
        np.savez(tmp_path / f"{kind}.npz", latents=values, labels=np.arange(5))
        line = ["measure", str(folders["dit"]), "--data", str(tmp_path / f"{kind}.npz"), *FAST]
        assert run(line) == 2
        assert "say --latents scaled" in capsys.readouterr().err
        assert run([*line, "--latents", kind, "--out", str(tmp_path / kind)]) == 0
        losses[kind] = result(tmp_path / kind)["sources"]["dit"]["numbers"]["loss"]["value"]
    assert losses["raw"] == pytest.approx(losses["scaled"], rel=1e-6)
    folder = folders["stable_diffusion"]
    embeds = rng.normal(size=(5, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "e.npz", latents=raw, prompt_embeds=embeds)
    line = ["measure", str(folder), "--data", str(tmp_path / "e.npz"), *FAST, "--latents", "scaled"]
    assert run([*line, "--out", str(tmp_path / "e")]) == 0
    assert run([*line, "--caption", "a cat"]) == 2
    assert "--caption is for data without embeddings" in capsys.readouterr().err
    np.savez(tmp_path / "e.npz", latents=raw)
    assert run(line) == 2
    assert "takes captions, and the data have none" in capsys.readouterr().err


def test_what_is_wrong_with_a_pipeline_is_told_in_a_line(
    folders: Folders, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(name: str, file: str, **changes: Any) -> Path:
        to = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(folders[name], to)
        (to / file).write_text(json.dumps(json.loads((to / file).read_text()) | changes))
        return to

    missing = broken("stable_diffusion", "model_index.json")
    shutil.rmtree(missing / "vae")
    pickled = broken("dit", "model_index.json")
    weights = pickled / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    lacking = broken("stable_diffusion", "model_index.json")
    text = lacking / "text_encoder" / "model.safetensors"
    import safetensors.torch

    state = safetensors.torch.load_file(text)
    dropped = next(name for name in state if "fc1.weight" in name)
    safetensors.torch.save_file({k: v for k, v in state.items() if k != dropped}, text, {"format": "pt"})
    cases = {
        missing: "holds no vae/config.json",
        pickled: "is pickled",
        lacking: "1 missing",
        broken("stable_diffusion", "unet/config.json", in_channels=9): "a mask and a masked image (inpainting)",
        broken("dit", "vae/config.json", latent_channels=8): "takes 4 channels, its autoencoder makes 8",
        broken("flux", "model_index.json", text_encoder=["os", "system"]): "has the part text_encoder ['os', 'system']",
        broken("stable_diffusion", "model_index.json", unet=["mine", "Net"]): "has the network ['mine', 'Net']",
        broken("dit", "scheduler/scheduler_config.json", _class_name="ScoreSdeVeScheduler"): "has a ScoreSdeVe",
    }
    for folder, message in cases.items():
        assert run(["measure", str(folder), "--data", str(images), *FAST]) == 2, folder
        error = capsys.readouterr().err
        assert message in error.splitlines()[-1], error
        assert "Traceback" not in error
    assert run(["measure", str(folders["stable_diffusion"]), "--data", str(images), *FAST, "--resize", "5"]) == 2
    assert "multiples of" in capsys.readouterr().err
    assert run(["measure", str(folders["dit"]), "--data", str(images), *FAST, "--caption", "x"]) == 2
    assert "--caption is for networks that take captions" in capsys.readouterr().err


def test_pipelines_are_compared_on_the_same_data(folders: Folders, images: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    shutil.copytree(folders["stable_diffusion"], twin)
    line = ["compare", str(folders["stable_diffusion"]), str(twin), "--data", str(images), *FAST]
    assert run([*line, "--out", str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert all(one["value"] == 0 for one in written["differences"])
    shas = {source["about"]["encoded"]["sha256"] for source in written["sources"].values()}
    assert len(shas) == 1
