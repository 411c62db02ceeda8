"""A diffusers UNet2DModel on Fashion-MNIST, late SAM, an EMA: python -m examples.diffusers_fashion_mnist --out FOLDER.

Reads train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz from --data. Trains without SAM and with it, in the last
fifth of the steps alone, and measures both, and their EMAs, on test images. Both EMAs are saved by save_pretrained, and
beside them some test images: DDPMPipeline.from_pretrained("FOLDER/sam") reads one, `flatness compare FOLDER/plain
FOLDER/sam --data FOLDER/test-images.npy` measures both.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from torch import Tensor, nn

from examples.fashion_mnist import DEBIAN, Batch, drawn, losses, read_images, report
from flatness import EMA, SAM, Late, Shadows
from flatness.measuring.low_pass_filter import LowPassFilter

LATE = 0.8
SAVED_IMAGES = 1000


def network(width: int) -> UNet2DModel:
    """A small U-Net with attention at 7 x 7; width is a multiple of 8."""
    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(width, 2 * width, 2 * width),
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )


def train(
    unet: nn.Module, scheduler: DDPMScheduler, images: Tensor, steps: int, size: int, rho: float, seed: int = 0
) -> Shadows:
    """Steps of which the last fifth perturbs; the average of the weights along them."""
    sam = SAM(torch.optim.AdamW(unet.parameters(), lr=5e-4), rho=rho, schedule=Late.after_share(LATE, steps))
    shadows = Shadows(unet, {"ema": EMA(0.98)})
    generator, device = torch.Generator().manual_seed(seed), next(unet.parameters()).device

    def closure(batch: Batch) -> Tensor:
        sam.zero_grad()
        loss = losses(unet, batch).mean()
        loss.backward()
        return loss

    for step in range(steps):
        sam.step(partial(closure, drawn(images, scheduler, size, generator, device)))
        shadows.update(step)
    return shadows


def main(argv: Sequence[str] | None = None) -> dict[str, LowPassFilter]:
    """Train and measure without SAM and with it, and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEBIAN, help="folder of the two files (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the pipelines")
    parser.add_argument("--rho", type=float, default=0.1, help="SAM's radius (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=400, help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="images a step sees (default: %(default)s)")
    parser.add_argument("--width", type=int, default=16, help="of the network, a multiple of 8 (default: %(default)s)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(argv)
    if options.out.exists():
        raise ValueError(f"--out is {options.out}, which is there already; allowed: a new folder")
    images, held_out = (read_images(options.data, part) for part in ("train", "t10k"))

    unfinished = options.out.with_name(options.out.name + ".unfinished")
    scheduler, rises = DDPMScheduler(num_train_timesteps=1000), {}
    for name, rho in (("plain", 0.0), ("SAM", options.rho)):
        print(f"{name}: {options.steps} steps of {options.batch} images, rho {rho:g} in the last fifth of them")
        torch.manual_seed(0)
        unet = network(options.width).to(options.device)
        shadows = train(unet, scheduler, images, options.steps, options.batch, rho)
        rises[name] = report(name, unet, held_out, scheduler)
        rises[f"{name} EMA"] = report(f"{name} EMA", shadows["ema"], held_out, scheduler)
        shadows.copy_to("ema", unet)
        DDPMPipeline(unet, scheduler).save_pretrained(unfinished / name.lower())
    pixels = (127.5 * (held_out[:SAVED_IMAGES] + 1)).round().to(torch.uint8)
    np.save(unfinished / "test-images.npy", pixels.numpy())
    unfinished.rename(options.out)  # there whole or not at all
    print(f"the EMAs are in {options.out / 'plain'} and {options.out / 'sam'}")
    return rises


if __name__ == "__main__":
    main()
