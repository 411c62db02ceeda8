"""Networks, configurations and images that the sections make themselves: small ones that need no data."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from experiments.adm.options import ADMOptions
from experiments.configuration import AverageOptions, Configuration, SAMOptions
from experiments.data import Images
from experiments.diffusion import ProcessOptions

FINGERPRINT = "sha256:" + "0" * 64
NETWORK = ADMOptions(
    image_size=16,
    channels=1,
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_resolutions=(8,),
    dropout=0.0,
)
"""One of every kind of layer."""
TINY = dataclasses.replace(NETWORK, image_size=4, channel_mult=(1,), attention_resolutions=())


def configured(tiny: bool, **changes: Any) -> Configuration:
    """A short run of the small network, without dropout, whose numbers devices draw differently."""
    base = Configuration(
        dataset="fashion-mnist",
        steps=12,
        global_batch=8 if tiny else 64,
        learning_rate=1e-3,
        timestep_weights="uniform",
        network=TINY if tiny else NETWORK,
        process=ProcessOptions(steps=20),
        sam=SAMOptions(rho=0.05),
        averages=AverageOptions(ema_decay=0.9, swa_start=0.5, swa_cycle=2),
    )
    return dataclasses.replace(base, **changes)


def made_images(configuration: Configuration, count: int, split: str = "train") -> Images:
    """Random pixels of the configuration's size, other ones for each split."""
    network = configuration.network
    generator = torch.Generator().manual_seed(len(split))
    shape = (count, network.channels, network.image_size, network.image_size)
    pixels = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    return Images(pixels, configuration.dataset, split, FINGERPRINT)
