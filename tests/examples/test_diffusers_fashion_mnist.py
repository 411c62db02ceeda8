"""Late SAM on a diffusers network against SAM by hand, the data it reads, and the pipeline it saves."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.examples.by_hand import check_sam, trained
from tests.examples.imports import example

module = example("diffusers_fashion_mnist", needs="diffusers")
fashion_mnist = example("fashion_mnist", needs="diffusers")
STEPS, SIZE, RHO, SEED = 6, 3, 0.1, 4


def pixels(number: int = 24) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, 28, 28), dtype=np.uint8)


def write(path: Path, images: np.ndarray, magic: int = 0x803) -> None:
    path.write_bytes(gzip.compress(struct.pack(">4I", magic, *images.shape) + images.tobytes()))


def folder_of(path: Path) -> Path:
    for part in ("train", "t10k"):
        write(path / f"{part}-images-idx3-ubyte.gz", pixels())
    return path


def network() -> nn.Module:
    torch.manual_seed(0)
    made: nn.Module = module.network(8).double()
    return made


def scheduler() -> Any:
    return module.DDPMScheduler(num_train_timesteps=1000)


def images() -> Tensor:
    return torch.from_numpy(pixels()[:, None].copy()).double() / 127.5 - 1


def data() -> list[Any]:
    generator, noising = torch.Generator().manual_seed(SEED), scheduler()
    return [fashion_mnist.drawn(images(), noising, SIZE, generator) for _ in range(STEPS)]


def mean_loss(unet: nn.Module, batch: Any) -> Tensor:
    loss: Tensor = fashion_mnist.losses(unet, batch).mean()
    return loss


def reference(rho: float) -> list[Tensor]:
    unet = network()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=5e-4)
    late = round(0.8 * STEPS)
    assert 0 < late < STEPS
    return trained(unet, optimizer, mean_loss, data(), rho, perturbs=lambda step: step >= late)


def test_steps_are_late_sam() -> None:
    unet, before = network(), network()
    shadows = module.train(unet, scheduler(), images(), STEPS, SIZE, RHO, SEED)
    check_sam(unet, reference, RHO)
    assert shadows.next_step == STEPS
    with torch.no_grad():
        after, start = (sum(float(mean_loss(model, batch)) for batch in data()) for model in (unet, before))
    assert after < start


def test_the_forward_process_is_the_schedulers() -> None:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise: x_0 found again is one of the images."""
    noising = scheduler()
    x_t, t, noise = fashion_mnist.drawn(images(), noising, 5, torch.Generator().manual_seed(0))
    alpha_bar = noising.alphas_cumprod[t].double()[:, None, None, None]
    x_0 = (x_t - (1 - alpha_bar).sqrt() * noise) / alpha_bar.sqrt()
    # alphas_cumprod is float32, and x_0 at late times what is left of a difference over .006
    for image in x_0:
        assert min(float((image - known).abs().max()) for known in images()) < 1e-4


def test_files_are_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "train-images-idx3-ubyte.gz"
    write(path, pixels())
    read = fashion_mnist.read_images(tmp_path, "train")
    torch.testing.assert_close(read.double(), images(), rtol=0, atol=1e-6)
    for wrong, magic in ((pixels()[:, :27], 0x803), (pixels(), 0x801), (pixels(0), 0x803)):
        write(path, wrong, magic)
        with pytest.raises(ValueError, match=r"allowed: magic number 0x803, images of 28 x 28"):
            fashion_mnist.read_images(tmp_path, "train")
    path.write_bytes(gzip.compress(b"too short"))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz has"):
        fashion_mnist.read_images(tmp_path, "train")
    with pytest.raises(FileNotFoundError, match="t10k-images"):
        fashion_mnist.read_images(tmp_path, "t10k")


def test_the_pipelines_it_saves_are_the_emas_that_were_measured(tmp_path: Path) -> None:
    out = tmp_path / "pipelines"
    options = ["--data", str(folder_of(tmp_path)), "--out", str(out), "--device", "cpu"]
    options += ["--steps", "5", "--batch", "4", "--width", "8"]
    rises = module.main(options)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["pipelines"]
    assert sorted(path.name for path in out.iterdir()) == ["plain", "sam", "test-images.npy"]
    assert (np.load(out / "test-images.npy") == pixels()[:, None]).all()
    held_out = fashion_mnist.read_images(tmp_path, "t10k")
    for name in ("plain", "SAM"):
        pipeline = module.DDPMPipeline.from_pretrained(out / name.lower())
        again = fashion_mnist.report("again", pipeline.unet, held_out, pipeline.scheduler)
        assert again.loss.value == pytest.approx(rises[f"{name} EMA"].loss.value, rel=1e-6)
        assert again.loss.value != pytest.approx(rises[name].loss.value, rel=1e-4)
    assert rises["SAM EMA"].loss.value != pytest.approx(rises["plain EMA"].loss.value, rel=1e-6)
    with pytest.raises(ValueError, match=r"--out is .*; allowed: a new folder"):
        module.main(options)
